"""Who may call this server over HTTP.

`check_bind` refuses to be open, `transport_security` says which Host and Origin are answered, `protect` asks for a token.
`protect` takes any `TokenVerifier` of the SDK: bearer tokens from a setting today, an OAuth resource server's tomorrow.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable
from hashlib import sha256

from anyio.to_thread import run_sync
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, BearerAuthBackend
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .answers import COMMAND
from .credentials import TOKENS_NAME
from .errors import ServerError, UsageError
from .health import ROUTES
from .settings import Settings, is_loopback

logger = logging.getLogger(__name__)

REREAD_SECONDS = 1.0
PUBLIC_PATHS = frozenset(route.path for route in ROUTES)


def check_bind(host: str, tokens: tuple[str, ...]) -> None:
    """Refuse to be open to other machines without authentication.

    Raises:
        UsageError: says what to set.
    """
    if not tokens and not is_loopback(host):
        raise UsageError(
            "Binding anything but loopback would let anyone who can reach this machine call the tools with your credentials. "
            f"Set {TOKENS_NAME}, or bind 127.0.0.1."
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


def protect(app: Starlette, verifier: TokenVerifier) -> None:
    """Ask for a bearer token that `verifier` accepts on every path but the public ones."""
    # Starlette runs the middleware that was added last first.
    app.add_middleware(_RequireToken)
    app.add_middleware(AuthContextMiddleware)
    app.add_middleware(AuthenticationMiddleware, backend=BearerAuthBackend(verifier))


class BearerTokenVerifier(TokenVerifier):
    """Accepts the tokens of a list, which is read again at most once a second.

    Args:
        read: gives the tokens that are valid now; what it raises means that none is.
        clock: monotonic seconds.
    """

    def __init__(self, read: Callable[[], tuple[str, ...]], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._digests: tuple[bytes, ...] = ()
        self._read_at = float("-inf")

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token's identity, or None. Takes as long for a wrong token as for a right one."""
        digest = sha256(token.encode(errors="surrogateescape")).digest()
        matches = [hmac.compare_digest(digest, known) for known in await self._current()]
        if not any(matches):
            return None
        # Sessions are bound to this identity, so that one caller cannot go on with another's.
        return AccessToken(token=token, client_id=f"bearer-{digest.hex()[:12]}", scopes=[])

    async def _current(self) -> tuple[bytes, ...]:
        if self._clock() - self._read_at >= REREAD_SECONDS:
            try:
                tokens = await run_sync(self._read)
            except ServerError as error:
                logger.error("No bearer token is accepted: %s", error)
                tokens = ()
            self._digests = tuple(sha256(token.encode()).digest() for token in tokens)
            self._read_at = self._clock()
        return self._digests


class _RequireToken:
    """Answers 401 with a challenge (RFC 6750, section 3) unless the request brought a token that was accepted."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        closed = scope["type"] == "http" and scope["path"] not in PUBLIC_PATHS
        if not closed or isinstance(scope.get("user"), AuthenticatedUser):
            await self.app(scope, receive, send)
            return
        challenge = f'Bearer realm="{COMMAND}"'
        # Section 3.1: no error code for a request that brought no token.
        if any(name == b"authorization" for name, _ in scope["headers"]):
            challenge += ', error="invalid_token", error_description="The bearer token is not valid"'
        response = JSONResponse({"error": "unauthorized"}, status_code=401, headers={"WWW-Authenticate": challenge})
        await response(scope, receive, send)
