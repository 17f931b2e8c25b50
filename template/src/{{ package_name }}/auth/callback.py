"""The loopback listener a browser is sent back to (RFC 8252 section 7.3)."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from collections.abc import Callable
from typing import NamedTuple

from .errors import AuthError, ConfigError
from .landing import RECEIVED, REFUSED, STOPPED, TOO_LARGE, Page

MAX_HEAD = 64 * 1024  # bytes: a browser sends the cookies of every program that was ever on this host
MAX_CONNECTIONS = 32
DEADLINE = 5.0  # seconds for a whole request
PATH = "/callback"

_PLACE = re.compile(r"http://(localhost|127\.0\.0\.1|\[::1\]):([1-9][0-9]{0,4})((?:/(?![./])[A-Za-z0-9._~-]*)+)")


class Redirect(NamedTuple):
    """Where the provider sends the browser: this machine. Port 0 stands for any free one."""

    host: str
    port: int = 0
    path: str = PATH

    @classmethod
    def parse(cls, uri: str) -> Redirect:
        """Take a redirect URI apart that is given whole, for providers that compare every character.

        Raises ConfigError, which does not repeat it, for one that could not arrive here or not as it was sent: another
        scheme, host or user; no port or path; a query or fragment; a path that browsers rewrite.
        """
        found = _PLACE.fullmatch(uri)
        if not found or int(found[2]) > 65535:
            message = (
                "OAUTH_REDIRECT_URI is not usable: write http, this machine, a port and a path, and nothing else, "
                "such as http://localhost:8085/callback."
            )
            raise ConfigError(message, code="bad_redirect_uri")
        return cls(found[1], int(found[2]), found[3])

    @property
    def uri(self) -> str:
        """As it is sent to the provider."""
        return f"http://{self.host}:{self.port}{self.path}"


class CallbackServer:
    """Waits on loopback for one redirect. Use it as an async context manager.

    `accept(query)` validates a redirect: it returns a code, or raises AuthError. One whose `state` is wrong is answered
    with 400 and the wait goes on: a page in the same browser must not be able to end the sign-in (CVE-2026-42073). The
    pages are constant: nothing received is ever shown (no XSS).

    Any program here may connect: each connection has `deadline` seconds and MAX_HEAD bytes, and of more than
    MAX_CONNECTIONS the oldest goes, so that silent ones do not lock the browser out.
    """

    def __init__(
        self,
        accept: Callable[[str], str],
        *,
        host: str,
        port: int = 0,
        path: str = PATH,
        listen: str | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self.port = port
        self._accept = accept
        self._host = host
        self._path = path
        self._listen = [listen] if listen else ["127.0.0.1", "::1"] if host == "localhost" else [host.strip("[]")]
        self._deadline = deadline
        self._servers: list[asyncio.Server] = []
        self._open: dict[asyncio.StreamWriter, None] = {}  # the oldest first

    async def __aenter__(self) -> CallbackServer:
        """Listen. ConfigError when a fixed port is busy: another program must not get the code."""
        self._code: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        for index, address in enumerate(self._listen):
            try:
                sock = _bind(address, self.port)
            except OSError as error:
                if index and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue  # no IPv6 here, so no browser can try it either
                await self.__aexit__()
                raise _cannot_listen(address, self.port, error) from None
            self.port = sock.getsockname()[1]
            self._servers.append(await asyncio.start_server(self._serve, sock=sock, limit=MAX_HEAD))
        self.redirect_uri = Redirect(self._host, self.port, self._path).uri
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()

    async def wait(self, seconds: float) -> str:
        """Return the code, raise what `accept` raised, or TimeoutError."""
        return await asyncio.wait_for(self._code, seconds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = None
        if len(self._open) > MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        try:
            async with asyncio.timeout(self._deadline):
                writer.write((await self._answer(reader)).response())
                await writer.drain()
                await _read_to_the_end(reader, writer)
        except (OSError, EOFError):
            pass  # whoever it was did not speak HTTP, hung up, or took too long
        except asyncio.CancelledError:
            pass  # the program ends; Python 3.11 would print a traceback of a connection that is still open
        finally:
            self._open.pop(writer, None)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> Page:
        """Read the head of a request, and return the page for it. What was waited for ends the wait."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return TOO_LARGE
        query = self._query(head.decode("latin-1"))
        if query is None or self._code.done():
            return REFUSED
        try:
            code = self._accept(query)
        except AuthError as error:
            if error.code in ("state_mismatch", "bad_redirect"):
                return REFUSED
            self._code.set_exception(error)
            return STOPPED
        self._code.set_result(code)
        return RECEIVED

    def _query(self, head: str) -> str | None:
        """Return the query of a request for our path; None for every other request."""
        lines = head.split("\r\n")
        method, _, rest = lines[0].partition(" ")
        path, _, query = rest.partition(" ")[0].partition("?")
        hosts = [line[5:].strip() for line in lines[1:] if line.lower().startswith("host:")]
        # The Host check stops DNS rebinding: a page of evil.example that resolves to this machine.
        if method != "GET" or path != self._path or len(hosts) != 1 or hosts[0] not in self._names():
            return None
        return query

    def _names(self) -> set[str]:
        names = {"127.0.0.1", "localhost", "[::1]"}
        with_port = {f"{name}:{self.port}" for name in names}
        return names | with_port if self.port == 80 else with_port  # browsers leave out http's own port


def _bind(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Windows has the first, and there the second would let another program take the port over.
        option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
        if ":" in address:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(16)
    except OSError:
        sock.close()
        raise
    return sock


def _cannot_listen(address: str, port: int, error: OSError) -> ConfigError:
    mend = "Leave --listen away, or give it an address of this machine."
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        mend = "Choose another --port, or end the program that has this one."
    return ConfigError(f"Cannot listen on {address} port {port} ({error.strerror}). {mend}", code="port_busy")


async def _read_to_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait for the other side to hang up. To close on bytes unread is a reset, which takes the page away again."""
    writer.write_eof()
    left = 1024 * 1024
    while left > 0 and (read := await reader.read(MAX_HEAD)):
        left -= len(read)
