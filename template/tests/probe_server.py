"""The real command line, with tools that the tests call: whatever is in `tools/`, these are there."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from pkg import app, cli, client


@app.mcp.tool()
async def probe_fetch(path: str) -> Any:
    """GET a path of the API."""
    return await client.api.get_json(path)


@app.mcp.tool()
async def probe_typed(path: str) -> dict[str, Any]:
    """GET a path of the API, as structured content."""
    return {"value": await client.api.get_json(path)}


arrived: list[str] = []


@app.mcp.tool()
async def probe_hold(path: str) -> int:
    """Hold what a path of the API answers until ten calls hold theirs."""
    held = await client.api.get_json(path)
    arrived.append(path)
    for _ in range(600):
        if len(arrived) >= 10:
            break
        await asyncio.sleep(0.05)
    return len(held)


@app.mcp.tool()
def probe_noise() -> str:
    """Write to stdout in the two ways a library might."""
    print("noise from print")
    os.write(1, b"noise from a descriptor\n")
    return "quiet"


@app.mcp.tool()
def probe_crash() -> str:
    """Fail without a plan."""
    raise RuntimeError("unexpected")


if __name__ == "__main__":
    sys.exit(cli.main())
