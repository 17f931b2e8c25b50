"""The tools. This folder is yours: `copier update` never touches what is in it.

Adding a file is all it takes to add tools; README.md ("Add a tool") shows how. Files whose name begins with an
underscore are not loaded by themselves: put what several tools share there.
"""

from __future__ import annotations

from ..answers import SERVER_NAME

# What clients tell the model about this server as a whole. Two sentences do: what it is for, and what to mind.
INSTRUCTIONS = (
    f"{SERVER_NAME}: its tools read from one web API, at paths below its base URL. "
    "If a tool says that a credential is missing or refused, call health_check and tell the user what it says."
)
