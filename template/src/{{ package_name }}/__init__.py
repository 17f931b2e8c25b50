"""An MCP server. Start reading in `cli.py`; the server itself is put together in `server.py`."""

from __future__ import annotations

from functools import cache

from .answers import COMMAND


@cache
def version() -> str:
    """This project's version, from `pyproject.toml`; "0.0.0" where it runs from a source tree that is not installed."""
    from importlib import metadata

    try:
        return metadata.version(COMMAND)
    except metadata.PackageNotFoundError:
        return "0.0.0"
