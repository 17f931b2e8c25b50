"""Who may call this server over HTTP.

`check_bind` refuses to be open, `transport_security` says which Host and Origin are answered, `protect` asks for a
token, `allow_pages` lets web pages call. `protect` takes any `TokenVerifier` of the SDK: bearer tokens from a setting
today, an OAuth resource server's tomorrow.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from hashlib import sha256

from anyio import CapacityLimiter, Lock
from anyio.to_thread import run_sync
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.inbound import MCP_PARAM_HEADER_PREFIX, x_mcp_header_map
from mcp_types import Tool
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .answers import COMMAND
from .credentials import TOKENS_NAME
from .errors import ServerError, UsageError
from .health import ROUTES
from .settings import Settings

logger = logging.getLogger(__name__)

REREAD_SECONDS = 1.0
PUBLIC_PATHS = frozenset(route.path for route in ROUTES)

# What ngrok, cloudflared, Tailscale, VS Code's tunnels, Caddy and Traefik add begins with X-Forwarded-. Besides: RFC 7239,
# RFC 9110 section 7.6.3, and what nginx is mostly told to add.
FORWARDED = (b"forwarded", b"via", b"x-real-ip")
FORWARDED_PROBLEM = (
    "A proxy or tunnel passed this request on (Forwarded, X-Forwarded-*, Via or X-Real-IP), and no token is asked for: "
    f"others could call the tools with your credentials. Set {TOKENS_NAME}."
)

# What clients of either protocol version send and a browser sends only where it may; Content-Type is always among it.
PAGE_HEADERS = ["Authorization", "Last-Event-ID", "Mcp-Method", "Mcp-Name", "Mcp-Protocol-Version", "Mcp-Session-Id"]


def check_bind(settings: Settings, tokens: tuple[str, ...]) -> None:
    """Refuse to be open to other machines without authentication.

    Raises:
        UsageError: says what to set.
    """
    if (opened := settings.opened_by()) and not tokens:
        how, taking_back = opened
        raise UsageError(
            f"{how} would let anyone who can reach this machine call the tools with your credentials. "
            f"Set {TOKENS_NAME}, or {taking_back}."
        )


def transport_security(settings: Settings) -> TransportSecuritySettings:
    """The Hosts and Origins that are answered, on every bind: without the check, a web page whose name is made to
    resolve to this server's address could call it (DNS rebinding, CVE-2025-66416)."""
    names = ["127.0.0.1", "localhost", "[::1]"]
    hosts = [*names, *settings.allowed_hosts]
    origins = [f"http://{name}" for name in names]
    # To the SDK a name and a name with any port are two entries.
    return TransportSecuritySettings(
        allowed_hosts=[*hosts, *(f"{host}:*" for host in hosts)],
        allowed_origins=[*origins, *(f"{origin}:*" for origin in origins), *settings.allowed_origins],
    )


def protect(app: Starlette, verifier: TokenVerifier, asks: Callable[[], Awaitable[bool]]) -> None:
    """Let in, on every path but the public ones, who brings a token that `verifier` accepts, or comes straight from this
    machine while `asks` says that no token is asked for."""
    app.add_middleware(_Gate, verifier=verifier, asks=asks)


def allow_pages(app: Starlette, origins: Collection[str], tools: Sequence[Tool]) -> None:
    """Let web pages of exactly these origins call from a browser. Comes after `protect`: a browser asks first whether
    it may send a token, and a page has to be able to read a 401."""
    parameters = [name for tool in tools for name in x_mcp_header_map(tool.input_schema).values()]
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST", "DELETE", "OPTIONS"),
        allow_headers=[*PAGE_HEADERS, *(MCP_PARAM_HEADER_PREFIX + name for name in parameters)],
        expose_headers=("Mcp-Session-Id", "WWW-Authenticate"),
        allow_private_network=True,  # a page that was named may call a server on loopback
    )


class BearerTokenVerifier(TokenVerifier):
    """Accepts the tokens of a list, which is read again at most once a second.

    Args:
        read: gives the tokens that are valid now; what it raises means that none is.
        closed: whether a token is asked for from the start on.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        read: Callable[[], tuple[str, ...]],
        *,
        closed: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._closed = closed
        self._clock = clock
        self._digests: tuple[bytes, ...] = ()
        self._read_at = float("-inf")
        self._reading = Lock()
        # Its own thread: slow tools may have all those that are shared.
        self._thread = CapacityLimiter(1)

    async def asks(self) -> bool:
        """Whether callers have to bring a token: from the first that is seen, and for good, so that a list which
        vanishes or cannot be read lets nobody in."""
        await self._current()
        return self._closed

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token's identity, or None. Takes as long for a wrong token as for a right one."""
        digest = sha256(token.encode(errors="surrogateescape")).digest()
        matches = [hmac.compare_digest(digest, known) for known in await self._current()]
        if not any(matches):
            return None
        # Sessions are bound to this identity, so that one caller cannot go on with another's.
        return AccessToken(token=token, client_id=f"bearer-{digest.hex()[:12]}", scopes=[])

    async def _current(self) -> tuple[bytes, ...]:
        if self._clock() >= self._read_at + REREAD_SECONDS:
            async with self._reading:  # those who waited meanwhile find it done
                if self._clock() >= self._read_at + REREAD_SECONDS:
                    await self._read_anew()
        return self._digests

    async def _read_anew(self) -> None:
        try:
            tokens = await run_sync(self._read, limiter=self._thread)
            problem = "" if tokens else f"{TOKENS_NAME} is gone"
        except ServerError as error:
            tokens = ()
            problem = str(error)
            self._closed = True
        self._closed |= bool(tokens)
        if self._closed and problem:
            logger.error("No bearer token is accepted: %s", problem)
        self._digests = tuple(sha256(token.encode()).digest() for token in tokens)
        self._read_at = self._clock()


class _Gate:
    def __init__(self, app: ASGIApp, verifier: TokenVerifier, asks: Callable[[], Awaitable[bool]]) -> None:
        self._app = app
        self._app_for_a_caller = AuthContextMiddleware(app)
        self._backend = BearerAuthBackend(verifier)
        self._asks = asks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["path"] not in PUBLIC_PATHS:
            if not await self._asks():
                app = _forbidden if _was_forwarded(scope) else app
            elif caller := await self._backend.authenticate(HTTPConnection(scope)):
                scope["auth"], scope["user"] = caller
                app = self._app_for_a_caller
            else:
                app = _unauthorized
        await app(scope, receive, send)


def _was_forwarded(scope: Scope) -> bool:
    """Whether the request shows that a proxy or a tunnel passed it on, whatever Host it has now."""
    return any(name in FORWARDED or name.startswith(b"x-forwarded-") for name, _ in scope["headers"])


async def _forbidden(scope: Scope, receive: Receive, send: Send) -> None:
    logger.warning("%s", FORWARDED_PROBLEM)
    answer = {"error": "forbidden", "error_description": FORWARDED_PROBLEM}
    await JSONResponse(answer, status_code=403)(scope, receive, send)


async def _unauthorized(scope: Scope, receive: Receive, send: Send) -> None:
    """401 with a challenge (RFC 6750, section 3)."""
    challenge = f'Bearer realm="{COMMAND}"'
    # Section 3.1: no error code for a request that brought no token.
    if any(name == b"authorization" for name, _ in scope["headers"]):
        challenge += ', error="invalid_token", error_description="The bearer token is not valid"'
    response = JSONResponse({"error": "unauthorized"}, status_code=401, headers={"WWW-Authenticate": challenge})
    await response(scope, receive, send)
