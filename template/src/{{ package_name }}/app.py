"""The server object that tools register with: `from ..app import mcp`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp_types import CallToolResult, InputRequiredResult

from . import version
from .answers import COMMAND, DESCRIPTION, SERVER_NAME
from .client import api
from .errors import ServerError


class Server(MCPServer[None]):
    """The SDK's server, whose tools may raise a `ServerError`: the model reads its message.

    Anything else that a tool raises reaches the model as "Error executing tool", and the log with its traceback.
    """

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError as error:
            if isinstance(error.__cause__, ServerError):
                raise ToolError(str(error.__cause__)) from None
            raise


@asynccontextmanager
async def _lifespan(_: MCPServer[None]) -> AsyncIterator[None]:
    """Once per process: whatever was opened for the tools is closed at shutdown."""
    try:
        yield
    finally:
        await api.aclose()
        # On stdio, what tools printed leaves here, while the SDK still leads stdout to stderr.
        sys.stdout.flush()


mcp = Server(name=COMMAND, title=SERVER_NAME, description=DESCRIPTION, version=version(), lifespan=_lifespan)
