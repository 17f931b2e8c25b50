"""The loopback listener a browser is sent back to (RFC 8252 section 7.3), and the page it lands on."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from .errors import AuthError, ConfigError

PATH = "/callback"
_STYLE = """
:root { color-scheme: light dark }
body { font: 17px/1.5 system-ui, sans-serif; margin: 18vh auto 0; max-width: 36rem; color: #1c2128; background: #fff }
main { border-left: 4px solid #1a7f37; margin: 0 1rem; padding: .2rem 1.5rem }
main.stopped { border-color: #b35900 }
h1 { font-size: 1.5rem; margin: 0 0 .5rem }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #14181d } }
"""
_RECEIVED = "received", "Sign-in received", "Go back to the terminal: it says whether it worked."
_STOPPED = "stopped", "Sign-in not completed", "Go back to the terminal: it says why, and what to do."
_REFUSED = "stopped", "Not a sign-in answer", "If you are signing in, open the address that the terminal shows."
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = f"""\
Content-Type: text/html; charset=utf-8
Content-Security-Policy: default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; \
frame-ancestors 'none'
X-Content-Type-Options: nosniff
X-Frame-Options: DENY
Referrer-Policy: no-referrer
Cache-Control: no-store
Connection: close
"""


class CallbackServer:
    """Waits on loopback for one redirect. Use it as an async context manager.

    `accept(query)` validates a redirect: it returns a code, or raises AuthError. One whose `state` is wrong is answered
    with 400 and the wait goes on: a page in the same browser must not be able to end the sign-in (CVE-2026-42073). The
    pages are constant: nothing received is ever shown (no XSS).
    """

    def __init__(self, accept: Callable[[str], str], *, host: str, port: int = 0, listen: str | None = None) -> None:
        self._accept = accept
        self._host = host
        self._listen = [listen] if listen else ["127.0.0.1", "::1"] if host == "localhost" else [host]
        self.port = port
        self._servers: list[asyncio.Server] = []

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
                message = f"Cannot listen on {address} port {self.port} ({error.strerror}). Choose another --port."
                raise ConfigError(message, code="port_busy") from None
            self.port = sock.getsockname()[1]
            self._servers.append(await asyncio.start_server(self._serve, sock=sock, limit=16 * 1024))
        self.redirect_uri = f"http://{self._host}:{self.port}{PATH}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()

    async def wait(self, seconds: float) -> str:
        """Return the code, raise what `accept` raised, or TimeoutError."""
        return await asyncio.wait_for(self._code, seconds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        outcome: tuple[str, AuthError | None] | None = None
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            outcome = self._judge(head.decode("latin-1"))
            status = "400 Bad Request" if outcome is None else "200 OK"
            page = _REFUSED if outcome is None else _STOPPED if outcome[1] else _RECEIVED
            writer.write(_response(status, *page))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # whoever it was did not speak HTTP, or hung up
        finally:
            writer.close()
            if outcome is not None and not self._code.done():
                code, error = outcome
                self._code.set_exception(error) if error else self._code.set_result(code)

    def _judge(self, head: str) -> tuple[str, AuthError | None] | None:
        """Return a code or a final error; None for anything that is not the answer waited for."""
        lines = head.split("\r\n")
        method, _, rest = lines[0].partition(" ")
        target = urlsplit(rest.partition(" ")[0])
        hosts = [line[5:].strip() for line in lines[1:] if line.lower().startswith("host:")]
        allowed = {f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        # The Host check stops DNS rebinding: a page of evil.example that resolves to this machine.
        if self._code.done() or method != "GET" or target.path != PATH or len(hosts) != 1 or hosts[0] not in allowed:
            return None
        try:
            return self._accept(target.query), None
        except AuthError as error:
            return None if error.code in ("state_mismatch", "bad_redirect") else ("", error)


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


def _response(status: str, kind: str, title: str, advice: str) -> bytes:
    page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title><meta name="viewport" content="width=device-width">
<style>{_STYLE}</style>
<main class="{kind}"><h1>{title}</h1><p>{advice}<p><small>You can close this window.</small></main></html>
"""
    head = f"HTTP/1.1 {status}\n{_HEADERS}Content-Length: {len(page)}\n\n"
    return (head.replace("\n", "\r\n") + page).encode("ascii")
