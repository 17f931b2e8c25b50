"""The HTTP server's sockets, and their bounds: how long requests may take to arrive, and answers to be read.

uvicorn bounds how long a connection lies idle between two requests, not how long half a request may last.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .answers import COMMAND
from .errors import ServerError

HEAD_SECONDS = 10.0
BODY_SECONDS = 60.0  # a body has 4 MiB at most, and honest clients may have slow lines
UNREAD_SECONDS = 60.0


class BoundedProtocol(H11Protocol):
    """uvicorn's parser in pure Python, which closes the connections of clients that are too slow.

    The faster httptools leaves blanks behind header values, and the SDK compares `Mcp-Name` to the letter.
    """

    _awaited: Any = None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        """Begin to count where another part of a request is awaited than before. A byte now and then wins no time."""
        awaited = self.conn.their_state
        if awaited is self._awaited:
            return
        self._awaited = awaited
        self._stop()
        if awaited is h11.IDLE:
            self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        elif awaited is h11.SEND_BODY:
            self._timer = self.loop.call_later(BODY_SECONDS, self.transport.abort)

    def _stop(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, bound here so that a port that is taken is one clear line.

    Raises:
        ServerError: the address cannot be bound.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, ValueError):  # a ValueError quotes the name
        raise ServerError("MCP_HOST, or --host, is no address of this machine. Write 127.0.0.1 or 0.0.0.0.") from None
    try:
        # asyncio sets TCP_NODELAY only where the protocol number is given; without it calls take 40 ms longer.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":  # elsewhere, whoever does not read an answer holds a socket
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_SECONDS * 1000))
        listener.bind(address)
    except OSError as error:
        raise ServerError(
            f"Cannot listen on {address[0]} port {port} ({error.strerror}). Try another: {COMMAND} serve --http --port 0"
        ) from None
    listener.listen(2048)
    return listener


def raise_descriptor_limit() -> None:
    """Have as many sockets as the system lets this process have; shells and services hand out 1,024 or fewer."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, 10_240):  # the second for macOS, which calls the limit infinite and takes no such number
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return
