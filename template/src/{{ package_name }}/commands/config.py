"""`config`: what to paste into an MCP client, with absolute paths and without a secret."""

from __future__ import annotations

import json
import os
import shlex
import sys
import sysconfig
from pathlib import Path
from typing import Any

from ..answers import COMMAND

WHERE = {
    "claude-desktop": (
        "Settings > Developer > Edit Config: merge this into claude_desktop_config.json, then restart Claude Desktop."
    ),
    "claude-code": "Run this. Add --scope user to have the server in every project.",
    "cursor": "Merge this into ~/.cursor/mcp.json, or .cursor/mcp.json of one project.",
    "vscode": "Merge this into .vscode/mcp.json, or into what 'MCP: Open User Configuration' opens.",
}


def show(client: str) -> int:
    """Print the snippet for `client` on stdout, and where it belongs on stderr."""
    print(WHERE[client], file=sys.stderr)
    command = start_command()
    if client == "claude-code":
        print(f"claude mcp add {COMMAND} -- {shlex.join(command)}")
        return 0
    entry: dict[str, Any] = {"command": command[0], "args": command[1:]}
    if client == "vscode":
        print(json.dumps({"servers": {COMMAND: {"type": "stdio", **entry}}}, indent=2))
    else:
        print(json.dumps({"mcpServers": {COMMAND: entry}}, indent=2))
    return 0


def start_command() -> list[str]:
    """How a client starts this server: the command that was typed, an installed one, or this Python where there is none.

    Whole paths only: the client's working directory is another. `-P`: nothing is imported from that directory.
    """
    suffix = ".exe" if sys.platform == "win32" else ""
    folder, name = os.path.split(sys.argv[0])
    of_user = sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))  # `pip install --user`
    folders = [sysconfig.get_path("scripts"), of_user]
    if folder and name.removesuffix(suffix) == COMMAND:  # a bare name does not say where the command is
        folders.insert(0, os.path.abspath(folder))
    for folder in filter(os.path.isabs, folders):
        script = Path(folder, COMMAND + suffix)
        if script.is_file():
            return [str(script)]
    return [sys.executable, "-P", "-m", __name__.partition(".")[0]]
