"""Every tool says what it may do. This folder is yours, like `tools/` itself."""

from __future__ import annotations

import pytest
from mcp import Client
from pkg import app, server

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_every_tool_says_what_it_may_do(mode: str) -> None:
    server.load_tools()
    async with Client(app.mcp, mode=mode) as client:
        listed = (await client.list_tools()).tools
    assert "health_check" in [tool.name for tool in listed]
    for tool in listed:
        how = (
            f'{tool.name}: write @mcp.tool(title="…", annotations=ToolAnnotations(read_only_hint=True)), or False '
            "if it changes something; a client takes a tool that does not say for one that may destroy"
        )
        assert tool.title, how
        assert tool.annotations is not None, how
        assert tool.annotations.read_only_hint is not None, how
