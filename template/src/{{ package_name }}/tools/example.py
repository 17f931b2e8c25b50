"""An example: a tool that reads from the API. Make it yours, or delete it."""

from __future__ import annotations

from typing import Any

from ..app import mcp
from ..client import api


@mcp.tool()
async def fetch(path: str) -> Any:
    """Fetch one resource of the API.

    Args:
        path: Path below the API's base URL, such as /items/1.
    """
    return await api.get_json(path)
