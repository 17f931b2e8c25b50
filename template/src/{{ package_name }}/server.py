"""Puts the server together, tools, health and transport, and runs it.

The way of a request: cli.py → run_stdio or run_http → the SDK → a function in tools/ → client.py → the API.
"""

from __future__ import annotations

import atexit
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

from . import health, inbound, tools
from .answers import COMMAND
from .app import mcp
from .client import api
from .credentials import bearer_tokens
from .errors import CredentialError, ServerError
from .settings import Settings, is_loopback
from .sources import Sources

logger = logging.getLogger(__name__)

# At shutdown, calls that are under way get this many seconds to finish.
GRACE_SECONDS = 10

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
    """Serve the client on stdin and stdout until it closes them, or until SIGINT or SIGTERM."""
    load_tools()
    anyio.run(_serve_stdio)


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
        UsageError: the address may not be bound without authentication, or a token is unusable.
        ServerError: the address cannot be bound, or a tool cannot be loaded.
    """
    import uvicorn

    try:
        tokens = bearer_tokens(sources)
    except CredentialError:
        closed = True  # to everybody until they can be read; the log says why, and so does a container's health
    else:
        inbound.check_bind(settings.host, tokens)
        closed = bool(tokens)
    load_tools()
    app = mcp.streamable_http_app(host=settings.host, transport_security=inbound.transport_security(settings))
    app.router.routes.extend(health.ROUTES)
    if closed:
        inbound.protect(app, inbound.BearerTokenVerifier(lambda: bearer_tokens(sources)))
    listener = _listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    logger.info("Serving http://%s:%d/mcp", f"[{host}]" if ":" in host else host, port)
    if not is_loopback(settings.host) and not settings.allowed_hosts:
        logger.warning("MCP_ALLOWED_HOSTS is not set: only requests to localhost are answered, others get 421.")
    health.log_problems()
    config = uvicorn.Config(
        app,
        log_config=None,  # ours, so that all of it goes to stderr in one format
        access_log=settings.log_level == "DEBUG",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    # uvicorn hands the signal on when it is done; a shutdown that was asked for is a success.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    for number in _HANGUP:
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGTERM))
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, bound here so that a port that is taken is one clear line."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio sets TCP_NODELAY only where the protocol number is given; without it calls take 40 ms longer.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ServerError(
            f"Cannot listen on {host} port {port} ({error.strerror}). Try another: {COMMAND} serve --http --port 0"
        ) from None
    listener.listen(2048)
    return listener
