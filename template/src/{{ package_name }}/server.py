"""Puts the server together, tools, health and transport, and runs it.

The way of a request: cli.py → run_stdio or run_http → the SDK → a function in tools/ → client.py → the API.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import pkgutil
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path

import anyio
from starlette.applications import Starlette

from . import health, inbound, tools
from .app import mcp
from .client import api
from .credentials import bearer_tokens
from .errors import CredentialError, ServerError
from .settings import Settings, is_loopback
from .sources import Sources

logger = logging.getLogger(__name__)

# At shutdown, calls that are under way get this many seconds to finish.
GRACE_SECONDS = 10
# Of clients that speak 2025-11-25; whoever would open one more gets 503. One that is idle ends after half an hour.
MAX_SESSIONS = 1_000

# A terminal that closes ends the server as SIGTERM does, unless `nohup` says otherwise.
_HANGUP = [it for it in signal.Signals if it.name == "SIGHUP" and signal.getsignal(it) == signal.SIG_DFL]


def load_tools() -> None:
    """Import every module in `tools/`, in alphabetical order; names that begin with an underscore are helpers.

    Raises:
        ServerError: one of them cannot be imported; names the file and line.
    """
    for module in pkgutil.iter_modules(tools.__path__):
        if module.name.startswith("_"):
            continue
        try:
            import_module(f"{tools.__name__}.{module.name}")
        except Exception as error:
            logger.debug("A tool cannot be loaded", exc_info=True)
            raise ServerError(f"{_place(error)}: {type(error).__name__}: {error}") from None


def _place(error: Exception) -> str:
    """File and line in `tools/` where an import failed."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    folder = str(Path(tools.__path__[0]))
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if frame.filename.startswith(folder)] or frames
    return f"{mine[-1].filename}:{mine[-1].lineno}"


def run_stdio() -> None:
    """Serve the client on stdin and stdout until it closes them, or until SIGINT or SIGTERM.

    Raises:
        ServerError: a tool cannot be loaded, or the client is gone while it is answered.
    """
    load_tools()
    gc.freeze()  # as in run_http, but without a collection, which would be 8 % of the start
    try:
        anyio.run(_serve_stdio)
    except ExceptionGroup as group:
        if group.split(BrokenPipeError)[1]:
            raise
        raise ServerError("The client closed its end before it had every answer.") from None


async def _serve_stdio() -> None:
    async with anyio.create_task_group() as group:
        if sys.platform != "win32":  # there, asyncio has no signal receiver and clients end the process outright
            group.start_soon(_exit_on_signal)
        await mcp.run_stdio_async()
        _finish()
        group.cancel_scope.cancel()


async def _exit_on_signal() -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, *_HANGUP) as signals:
        async for _ in signals:
            await api.aclose()
            _finish()
            # A thread is blocked in a read of stdin, and nothing but the client can end that.
            os._exit(0)


def _finish() -> None:
    """Do what Python leaves for its end, such as closing the log, while signals cannot end it any more.

    Clients send SIGTERM soon after they close stdin, and again when they lose patience.
    """
    atexit._run_exitfuncs()


def run_http(settings: Settings, sources: Sources) -> None:
    """Serve streamable HTTP at `/mcp`, with `/health` and `/ready` beside it, until SIGINT or SIGTERM.

    Raises:
        UsageError: others could reach it without authentication, or a token is unusable.
        ServerError: the address cannot be bound, or a tool cannot be loaded.
    """
    import uvicorn

    from . import connections

    app = http_app(settings, sources)
    connections.raise_descriptor_limit()
    listener = connections.listen(settings.host, settings.port)
    _log_start(settings, listener)
    config = uvicorn.Config(
        app,
        http=connections.BoundedProtocol,
        log_config=None,  # ours, so that all of it goes to stderr in one format
        access_log=settings.log_level == "DEBUG",
        proxy_headers=False,  # nothing is built from them
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    # One may come before uvicorn listens to them. It hands it on when it is done: a shutdown asked for is a success.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    for number in _HANGUP:
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGTERM))
    # What is loaded by now stays. A collection that walks it all takes 60 ms, every few hundred calls.
    gc.collect()
    gc.freeze()
    server.run(sockets=[listener])


def http_app(settings: Settings, sources: Sources) -> Starlette:
    """The application behind HTTP, with all that guards it.

    Raises:
        UsageError: others could reach it without authentication, or a token is unusable.
        ServerError: a tool cannot be loaded.
    """
    try:
        tokens = bearer_tokens(sources)
    except CredentialError:
        closed = True  # to everybody until they can be read; the log says why, and so does a container's health
    else:
        inbound.check_bind(settings, tokens)
        closed = bool(tokens)
    load_tools()
    app = mcp.streamable_http_app(
        host=settings.host,
        transport_security=inbound.transport_security(settings),
        max_sessions=MAX_SESSIONS,
    )
    app.router.routes.extend(health.ROUTES)
    # Of /mcp/ it would lead to the scheme and Host that it saw: behind a proxy with TLS, to http.
    app.router.redirect_slashes = False
    verifier = inbound.BearerTokenVerifier(lambda: bearer_tokens(sources), closed=closed)
    inbound.protect(app, verifier, verifier.asks)
    if settings.allowed_origins:
        inbound.allow_pages(app, settings.allowed_origins, anyio.run(mcp.list_tools))
    return app


def _log_start(settings: Settings, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    logger.info("Serving http://%s:%d/mcp", f"[{host}]" if ":" in host else host, port)
    if not is_loopback(settings.host) and not settings.allowed_hosts:
        logger.warning("MCP_ALLOWED_HOSTS is not set: only requests to localhost are answered, others get 421.")
    health.log_problems()
