"""`python -m` for those who have no scripts folder on their PATH."""

from __future__ import annotations

import sys

# Without `-P`, `-m` imports from the working directory first: a stranger may have written the `mcp.py` in it.
if not sys.flags.safe_path:
    del sys.path[0]

from .cli import main

sys.exit(main())
