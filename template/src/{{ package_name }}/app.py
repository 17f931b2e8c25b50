"""The server object that tools register with: `from ..app import mcp`."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any

from anyio.to_thread import run_sync
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp_types import CallToolResult, InputRequiredResult, TextContent

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

    def add_tool(self, fn: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Register a tool, as the SDK does; JSON that it returns is sent as one compact text.

        The SDK would send each item of a list in a block of its own, which takes 400 times the memory of a list of
        numbers, and indent the rest, which takes 100 times that of a deep one.
        """
        returns = str(getattr(fn, "__annotations__", {}).get("return")).replace("typing.", "")
        if returns in _JSON_TYPES and options.get("structured_output") is not False:
            fn = _in_one_text(fn, structured=returns != "Any")
        super().add_tool(fn, *args, **options)


# The SDK's own client ends a session of 2025-11-25 at an event of more than 1 MiB.
MAX_RESULT_BYTES = 1_000_000

# Return types that say no more than "JSON": there is nothing for the SDK to convert.
_JSON_TYPES = ("Any", "dict[str, Any]", "list[Any]", "list[dict[str, Any]]")


def _in_one_text(fn: Callable[..., Any], structured: bool) -> Callable[..., Any]:
    @wraps(fn)
    async def tool(*args: Any, **kwargs: Any) -> Any:
        if iscoroutinefunction(fn):
            result = await fn(*args, **kwargs)
        else:
            result = await run_sync(partial(fn, *args, **kwargs))
        if not isinstance(result, (dict, list)):
            return result
        try:
            text = json.dumps(result, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError):  # more than JSON, such as an image: the SDK knows what to do
            return result
        content = None
        if structured:
            content = result if isinstance(result, dict) else {"result": result}
        answer = CallToolResult(content=[TextContent(text=text)], structured_content=content)
        if len(answer.model_dump_json().encode()) > MAX_RESULT_BYTES:
            raise ServerError("The result is more than 1 MB, which clients may drop: ask for less, such as one page.")
        return answer

    return tool


@asynccontextmanager
async def _lifespan(_: MCPServer[None]) -> AsyncIterator[None]:
    """Once per process: whatever was opened for the tools is closed at shutdown."""
    try:
        yield
    finally:
        await api.aclose()
        # On stdio, what tools printed leaves here, while the SDK still leads stdout to stderr.
        sys.stdout.flush()


def _instructions() -> str | None:
    """The owner's words on this server; None where `tools/`, which no update touches, is older than the constant."""
    try:
        from .tools import INSTRUCTIONS
    except ImportError:
        return None
    return INSTRUCTIONS


mcp = Server(
    name=COMMAND,
    title=SERVER_NAME,
    description=DESCRIPTION,
    instructions=_instructions(),
    version=version(),
    lifespan=_lifespan,
)
