"""Is the server alive, and can it serve? For models the `health_check` tool, for machines `/health` and `/ready`.

All of it without inbound authentication, and none of it tells a value.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import version
from .answers import SERVER_NAME
from .app import mcp
from .credentials import AUTH_CONFIG


@mcp.tool()
def health_check() -> dict[str, Any]:
    """Check server health and authentication status.

    Says for each credential whether it is configured, and what to do about the others.
    """
    credentials = AUTH_CONFIG.status()
    problems = [f"{it.name}: {it.problem}" for it in credentials if it.problem]
    return {
        "status": "healthy",
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "auth_config": {it.name: "missing" if it.problem else "configured" for it in credentials},
        "ready": not problems,
        "problems": problems,
        "server": SERVER_NAME,
        "version": version(),
    }


async def alive(_: Request) -> Response:
    """200 as long as the process answers. Touches nothing, so that a probe cannot be the load."""
    return JSONResponse({"status": "healthy"})


async def ready(_: Request) -> Response:
    """200 when every credential is there, else 503 with the names of those that are not."""
    credentials = await run_sync(AUTH_CONFIG.status)
    if reasons := [f"{it.name}: {it.kind}" for it in credentials if it.problem]:
        return JSONResponse({"status": "not ready", "reasons": reasons}, status_code=503)
    return JSONResponse({"status": "ready"})


# Served beside /mcp, and open to whoever can reach the port.
ROUTES = (Route("/health", alive), Route("/ready", ready))
