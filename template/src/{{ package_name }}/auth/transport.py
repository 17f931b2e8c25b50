"""One bounded HTTP exchange with a provider: where secrets travel, nothing is automatic.

No redirect is followed (a redirected POST would hand the secret to another host), no body is
decompressed, nothing is kept open, and the whole exchange has one deadline: a per-read timeout alone lets
a server that sends a byte every few seconds hold the caller for ever.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from .errors import ConfigError, ProtocolError, TransientAuthError
from .urls import is_loopback, is_public_address

if TYPE_CHECKING:
    import ssl

    import httpcore

MAX_BODY = 1024 * 1024  # bytes


@dataclass(frozen=True)
class Reply:
    """What came back. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Send(Protocol):
    """How requests leave. `public_only` refuses to connect to any address that is not public."""

    def __call__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        public_only: bool = False,
    ) -> Reply: ...


class Transport:
    """The default `Send`: each exchange ends within `deadline` seconds, each body within MAX_BODY bytes.

    The limit does not cover the operating system's own name look-up. Raises TransientAuthError when
    nothing usable came in time, ProtocolError when what came is out of bounds.
    """

    def __init__(self, deadline: float = 20.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._deadline = deadline
        self._monotonic = monotonic

    def __call__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        public_only: bool = False,
    ) -> Reply:
        import httpcore

        host = urlsplit(url).hostname or ""
        end = self._monotonic() + self._deadline
        backend = _backend(lambda: end - self._monotonic(), public_only)
        # A proxy resolves names itself, so it would step around the address check.
        proxy = None if public_only or is_loopback(host) else _proxy_for(url, host)
        all_headers = {
            "Accept-Encoding": "identity",
            "Connection": "close",
            **headers,
        }
        try:
            with (
                httpcore.ConnectionPool(_tls(), proxy=proxy, network_backend=backend) as pool,
                pool.stream(method, url, headers=list(all_headers.items()), content=body) as response,
            ):
                return _read(response, lambda: end - self._monotonic())
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.ProxyError):
            raise TransientAuthError(f"Cannot connect to {host}. Try again later.", code="unreachable") from None
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.RemoteProtocolError):
            message = f"{host} did not give a complete answer in time. Try again later."
            raise TransientAuthError(message, code="no_answer", ambiguous=True) from None
        except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol):
            raise ProtocolError(f"The request to {host} could not be sent.", code="bad_request") from None


def _read(response: httpcore.Response, left: Callable[[], float]) -> Reply:
    headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in response.headers}
    if headers.get("content-encoding", "identity").lower() != "identity":  # stops decompression bombs
        raise ProtocolError("The provider sent a compressed body nobody asked for.", code="bad_encoding")
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise ProtocolError(f"The provider sent more than {MAX_BODY} bytes.", code="too_large")
        if left() <= 0:
            raise TransientAuthError("The provider's answer took too long.", code="no_answer", ambiguous=True)
    return Reply(response.status, headers, bytes(body))


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    import httpx

    return httpx.create_ssl_context()


def _proxy_for(url: str, host: str) -> Any:
    import httpcore

    address = getproxies().get(urlsplit(url).scheme)
    return httpcore.Proxy(address) if address and not proxy_bypass(host) else None


def _backend(left: Callable[[], float], public_only: bool) -> httpcore.NetworkBackend:
    """Return a network backend that gives every socket operation only the seconds that are left."""
    import httpcore

    inner = httpcore.SyncBackend()

    def remaining() -> float:
        if (seconds := left()) <= 0:
            raise httpcore.ReadTimeout("deadline")
        return seconds

    class Stream(httpcore.NetworkStream):
        def __init__(self, stream: httpcore.NetworkStream) -> None:
            self._stream = stream

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            return self._stream.read(max_bytes, remaining())

        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            self._stream.write(buffer, remaining())

        def start_tls(
            self,
            ssl_context: ssl.SSLContext,
            server_hostname: str | None = None,
            timeout: float | None = None,
        ) -> httpcore.NetworkStream:
            return Stream(self._stream.start_tls(ssl_context, server_hostname, remaining()))

        def close(self) -> None:
            self._stream.close()

        def get_extra_info(self, info: str) -> Any:
            return self._stream.get_extra_info(info)

    class Backend(httpcore.NetworkBackend):
        def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: str | None = None,
            socket_options: Any = None,
        ) -> httpcore.NetworkStream:
            target = _public_address(host, port) if public_only else host
            return Stream(inner.connect_tcp(target, port, min(5.0, remaining()), local_address, socket_options))

    return Backend()


def _public_address(host: str, port: int) -> str:
    """Resolve once and return the address to connect to: a second look-up could differ (DNS rebinding)."""
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError:
        raise TransientAuthError(f"Cannot resolve {host}. Try again later.", code="unreachable") from None
    if not found or not all(map(is_public_address, found)):
        message = (
            f"The discovered host {host} is not public; it was not contacted. If it is yours, "
            "configure the authorization and token URLs instead of the issuer."
        )
        raise ConfigError(message, code="not_public")
    return found[0]
