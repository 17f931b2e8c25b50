"""The baselines of figures.py: a server with one tool, whose answer is as long as that of `health_check`.

It is the SDK's, or fastmcp's with the argument `--fastmcp`.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

mcp: Any
if "--fastmcp" in sys.argv:
    from fastmcp import FastMCP  # type: ignore[import-not-found] # only in a virtual environment of its own

    mcp = FastMCP("bare")
    web_app, options = mcp.http_app, {"show_banner": False}
else:
    from mcp.server import MCPServer

    mcp = MCPServer("bare")
    web_app, options = mcp.streamable_http_app, {}


@mcp.tool()  # type: ignore[untyped-decorator]
def health_check() -> dict[str, Any]:
    """Check server health and authentication status."""
    return {
        "status": "healthy",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "ready": True,
        "problems": [],
        "auth_config": {"WEATHER_API_KEY": "configured"},
        "server": "Weather Api",
        "version": "0.0.0",
    }


if "serve" in sys.argv:
    import uvicorn

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    print(f"Serving http://127.0.0.1:{listener.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
    log = "--no-access-log" not in sys.argv
    config = uvicorn.Config(web_app(), access_log=log, server_header=False, ws="none")
    uvicorn.Server(config).run(sockets=[listener])
else:
    mcp.run("stdio", **options)
