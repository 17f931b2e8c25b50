"""One bounded HTTP exchange with a provider: where secrets travel, nothing is automatic.

No redirect is followed (a redirected POST would hand the secret to another host), no body is decompressed, no
connection is kept, and the whole exchange has one deadline: a timeout for each read alone lets a server that sends a
byte every few seconds hold the caller for ever.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import UsageError
from ..http_environment import check_http_environment
from .errors import ConfigError, ProtocolError, TransientAuthError
from .urls import is_loopback, is_public_address

if TYPE_CHECKING:
    import ssl

    import httpx

MAX_BODY = 1024 * 1024  # bytes
DEADLINE = 20.0  # seconds for a whole exchange; how long a renewal may take follows from it


@dataclass(frozen=True)
class Reply:
    """What came back. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


Send = Callable[..., Awaitable[Reply]]  # as `send`


async def send(
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes = b"",
    public_only: bool = False,
    deadline: float = DEADLINE,
) -> Reply:
    """Send one request and return what came back within `deadline` seconds and MAX_BODY bytes.

    `public_only` refuses to connect to an address that is not public. Raises TransientAuthError when nothing usable
    came in time, ProtocolError when what came is out of bounds, ConfigError for an environment that cannot work.
    """
    import httpx

    host = urlsplit(url).hostname or ""
    proxies = not public_only and not is_loopback(host)  # one resolves names itself, stepping around the check
    all_headers = {"Accept-Encoding": "identity", "Connection": "close", **headers}
    client = httpx.AsyncClient(verify=_tls(), trust_env=proxies, timeout=httpx.Timeout(None, connect=5.0))
    try:
        async with asyncio.timeout(deadline), client:
            extensions = {}
            if public_only:
                all_headers["Host"], extensions["sni_hostname"] = urlsplit(url).netloc, host
                url = await _pinned(url)
            request = client.stream(method, url, headers=all_headers, content=body, extensions=extensions)
            async with request as response:
                return await _read(response)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError):
        raise TransientAuthError(f"Cannot connect to {host}. Try again later.", code="unreachable") from None
    except (TimeoutError, httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError):
        message = f"{host} did not give a complete answer in time. Try again later."
        raise TransientAuthError(message, code="no_answer", ambiguous=True) from None
    except (httpx.TransportError, httpx.InvalidURL, UnicodeError):  # the last: a host name that cannot be one
        raise ProtocolError(f"The request to {host} could not be sent.", code="bad_request") from None


async def _read(response: httpx.Response) -> Reply:
    if response.headers.get("content-encoding", "identity").lower() != "identity":  # stops decompression bombs
        raise ProtocolError("The provider sent a compressed body nobody asked for.", code="bad_encoding")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_BODY:
            raise ProtocolError(f"The provider sent more than {MAX_BODY} bytes.", code="too_large")
    return Reply(response.status_code, dict(response.headers), bytes(body))


@cache
def _tls() -> ssl.SSLContext:
    """Return the certificates that are trusted. What the environment says of HTTP is checked first, once a process."""
    import httpx

    try:
        check_http_environment()
    except UsageError as error:
        raise ConfigError(str(error), code="bad_environment") from None
    return httpx.create_ssl_context()


async def _pinned(url: str) -> str:
    """Return `url` with the address in place of the name: a second look-up could differ (DNS rebinding).

    The certificate is still checked against the name, which travels as Host and SNI.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    try:
        look_up: Any = asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found = [str(info[4][0]) for info in await look_up]
    except OSError:
        raise TransientAuthError(f"Cannot resolve {host}. Try again later.", code="unreachable") from None
    if not found or not all(map(is_public_address, found)):
        message = f"The host {host} is not public. If it is yours, configure its URLs instead of the issuer."
        raise ConfigError(message, code="not_public")
    address = f"[{found[0]}]" if ":" in found[0] else found[0]
    return parts._replace(netloc=f"{address}:{port}").geturl()
