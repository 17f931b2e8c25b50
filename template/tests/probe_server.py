"""The real command line, with tools that the tests call: whatever is in `tools/`, these are there."""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

from pkg import app, cli, client, connections, server
from pydantic import Field


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
def probe_wait(folder: str) -> str:
    """Hold a thread until there is a file `go` in the folder; a file of the thread's own says that it is held."""
    Path(folder, str(threading.get_ident())).touch()
    give_up = time.monotonic() + 30
    while not Path(folder, "go").exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    return "done"


@app.mcp.tool()
def probe_place(place: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Place"})]) -> str:
    """Take an argument that clients repeat in the header `Mcp-Param-Place`."""
    return place


@app.mcp.tool()
def probe_frozen() -> int:
    """How many objects a garbage collection leaves out."""
    return gc.get_freeze_count()


@app.mcp.tool()
def probe_crash() -> str:
    """Fail without a plan."""
    raise RuntimeError("unexpected")


BOUNDS = {"HEAD_SECONDS": connections, "BODY_SECONDS": connections, "GRACE_SECONDS": server, "MAX_SESSIONS": server}

if __name__ == "__main__":
    for name, module in BOUNDS.items():
        if value := os.environ.get(f"PROBE_{name}"):
            vars(module)[name] = float(value)
    if ended := os.environ.get("PROBE_ENDED"):
        atexit.register(Path(ended).touch)
    sys.exit(cli.main())
