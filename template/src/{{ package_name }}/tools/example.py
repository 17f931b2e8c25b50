"""An example: a tool that reads from the API. Make it yours, or delete it."""

from __future__ import annotations

from typing import Any

from mcp_types import ToolAnnotations

from ..app import mcp
from ..client import api


# Read-only as far as the API's GETs change nothing. Unannotated, a tool counts as one that may destroy.
@mcp.tool(title="Fetch a resource", annotations=ToolAnnotations(read_only_hint=True, open_world_hint=True))
async def fetch(path: str) -> Any:
    """Fetch one resource of the API.

    Args:
        path: Path below the API's base URL, such as /items/1.
    """
    return await api.get_json(path)
