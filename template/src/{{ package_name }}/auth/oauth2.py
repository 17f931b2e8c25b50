"""The authorization code flow with PKCE (RFC 6749, 7636, 9207): requests out, checked answers in."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from ..logs import hide
from .client_auth import POST, authenticate, basic
from .config import OAuth2Config
from .discovery import discover
from .errors import AuthError, ConfigError, LoginRequired, ProtocolError
from .pkce import PKCECodeVerifier
from .responses import OAuth2Token, error_in, parse_object, parse_redirect, parse_token, printable, raise_for_error
from .transport import DEADLINE, Reply, Send, send
from .urls import check_url

_SECRETS = ("client_secret", "code", "code_verifier", "device_code", "refresh_token", "token")  # of a form that is sent
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Parameters of ours, and those that would replace them (RFC 9101), send the answer elsewhere or put a secret into a URL.
# In lower case: some servers do not mind.
_OURS = frozenset(
    {"response_type", "response_mode", "client_id", "client_secret", "redirect_uri", "scope", "state"}
    | {"code_challenge", "code_challenge_method", "code_verifier", "request", "request_uri"}
)


@dataclass(frozen=True)
class AuthorizationRequest:
    """One sign-in in progress: what has to be remembered until the redirect comes back."""

    url: str = field(repr=False)
    state: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str | None

    def __post_init__(self) -> None:
        hide(self.state)
        hide(self.verifier)


class OAuth2Flow:
    """The exchanges with one provider. `send`, `clock` (epoch seconds) and `random` (URL-safe text) are replaceable.

    `user_agent` is what each request says it comes from; empty leaves that to the HTTP client.
    """

    user_agent = ""

    def __init__(
        self,
        config: OAuth2Config,
        *,
        send: Send = send,
        clock: Callable[[], float] = time.time,
        random: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        self.config = config
        self.clock = clock
        self._send = send
        self._random = random
        self._resolved: OAuth2Config | None = None if config.discover else config
        self._pending: AuthorizationRequest | None = None

    async def endpoints(self) -> OAuth2Config:
        """Return the configuration with every endpoint filled in; the first call discovers them where it must."""
        if self._resolved is None:
            self._resolved = await discover(self.config, self._exchange)
        return self._resolved

    # -- authorization request and its answer

    async def begin(self, redirect_uri: str | None = None) -> AuthorizationRequest:
        """Start a sign-in with a fresh `state` and PKCE verifier."""
        await self.endpoints()
        pkce, state = PKCECodeVerifier.generate(self._random), self._random(32)
        redirect_uri = redirect_uri or self.config.redirect_uri
        url = self.get_authorization_url(state, pkce.challenge, redirect_uri=redirect_uri)
        return AuthorizationRequest(url, state, pkce.verifier, redirect_uri)

    def get_authorization_url(
        self,
        state: str | None = None,
        code_challenge: str | None = None,
        code_challenge_method: str = "S256",
        redirect_uri: str | None = None,
    ) -> str:
        """Return the URL to open. Without a challenge of yours, the flow makes one and keeps its verifier.

        Raises ConfigError for any method but S256, and before `await endpoints()` where they have to be discovered.
        """
        if code_challenge_method != "S256":
            raise ConfigError("The PKCE method has to be S256.", code="pkce_method")
        if (config := self._resolved) is None:
            raise ConfigError("The endpoints are not known yet: `await flow.endpoints()` first.", code="not_discovered")
        pkce = None if code_challenge else PKCECodeVerifier.generate(self._random)
        state, redirect_uri = state or self._random(32), redirect_uri or config.redirect_uri
        ours = {
            "response_type": "code",
            "client_id": config.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(config.scopes),
            "state": state,
            "code_challenge": pkce.challenge if pkce else code_challenge,
            "code_challenge_method": "S256",
        }
        url = _with_query(config.authorization_url, config.authorize_params, ours)
        check_url(url, "authorization URL")
        if pkce:
            self._pending = AuthorizationRequest(url, state, pkce.verifier, redirect_uri)
        return url

    def read_redirect(self, request: AuthorizationRequest, query: str) -> str:
        """Return the code of a redirect that answers `request`.

        The order matters: `state` first (stops forged answers, login CSRF and CVE-2026-42073), then `iss` (stops
        mix-up, RFC 9207 section 2.4); only then are `error` and `code` believed. Raises ProtocolError with code
        `state_mismatch` or `iss_mismatch`, LoginRequired when the person declined.
        """
        params = parse_redirect(query)
        given, expected = params.get("state", "").encode(), request.state.encode()
        if not secrets.compare_digest(given, expected):  # on bytes: str raises for non-ASCII input
            message = "State mismatch: this redirect does not belong to this sign-in. Start the sign-in again."
            raise ProtocolError(message, code="state_mismatch")
        if not self._issuer_matches(params.get("iss")):
            message = "The redirect names another issuer than the one asked. The sign-in was stopped."
            raise ProtocolError(message, code="iss_mismatch")
        if error := error_in(params, self.config.name, "the sign-in"):
            raise error
        if not (code := params.get("code", "")):
            raise ProtocolError("The redirect carries no code.", code="no_code")
        return code

    def _issuer_matches(self, iss: str | None) -> bool:
        config = self._resolved or self.config
        if config.iss == "ignore" or iss is None:
            return config.iss != "required"
        if "{tenantid}" in config.issuer:  # Entra's `common` and `organizations` answer for many tenants
            before, _, after = config.issuer.partition("{tenantid}")
            middle = iss.removeprefix(before).removesuffix(after)
            return bool(_GUID.fullmatch(middle)) and iss == before + middle + after
        return not config.issuer or iss == config.issuer  # simple string comparison, no normalising

    # -- token endpoint

    async def exchange_code(
        self, code: str, code_verifier: str | None = None, redirect_uri: str | None = None
    ) -> OAuth2Token:
        """Exchange a code once (RFC 6749 section 4.1.3). Without a verifier, uses the flow's own pending one.

        Raises LoginRequired for a code that was refused, or any other AuthError. Never retried: a code is single-use,
        and a second try without PKCE would be the downgrade PKCE exists to stop.
        """
        redirect_uri = redirect_uri or self.config.redirect_uri
        if code_verifier is None:
            if self._pending is None:
                message = "PKCE verification failed: no verifier. Pass the one whose challenge was in the URL."
                raise ProtocolError(message, code="no_verifier")
            code_verifier, redirect_uri = self._pending.verifier, redirect_uri or self._pending.redirect_uri
            self._pending = None
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": code_verifier}
        if redirect_uri:
            form["redirect_uri"] = redirect_uri
        return await self.token_request(form, "the code: it was used before, is too old, or PKCE verification failed")

    async def refresh_token(self, refresh_token: str | None, token_url: str = "", auth_method: str = "") -> OAuth2Token:
        """Return a new token for a refresh token (section 6). `TokenManager` also saves the result.

        `token_url` is the endpoint of the sign-in: the token goes there or nowhere (stops a swapped metadata document
        from collecting secrets); `auth_method` is how the client proved itself there. Raises LoginRequired when the
        configuration names another endpoint.
        """
        if not refresh_token:
            raise LoginRequired("There is no refresh token.", code="no_refresh_token")
        if token_url and self._resolved and self._resolved.token_url != token_url:
            message = f"The token endpoint of {self.config.name} changed since the sign-in."
            raise LoginRequired(message, code="endpoints_changed")
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return await self.token_request(form, "the refresh token", token_url, auth_method)

    async def token_request(
        self, form: dict[str, str], what: str, token_url: str = "", auth_method: str = ""
    ) -> OAuth2Token:
        """Post a form to the token endpoint, with client authentication, and return the token in the answer."""
        sent_at, config = self.clock(), self.config
        reply = await self.post(token_url or (await self.endpoints()).token_url, form, auth_method)
        kept = form.get("refresh_token")
        return parse_token(reply, config.name, what=what, requested=config.scopes, sent_at=sent_at, kept=kept)

    async def post(self, url: str, form: dict[str, str], auth_method: str = "") -> Reply:
        """Post a form with client authentication: by `auth_method`, or as configured or discovered."""
        config = self._resolved or self.config
        method = auth_method or config.token_endpoint_auth_method or POST
        headers, fields = authenticate(method, config.client_id, config.client_secret)
        headers |= {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        hide(config.client_secret or "")
        for name in _SECRETS:
            hide(form.get(name, ""))
        return await self._exchange("POST", url, headers, urlencode(form | fields).encode())

    async def _exchange(self, method: str, url: str, headers: dict[str, str], body: bytes = b"") -> Reply:
        """Every request goes through here, so that none forgets who asks, nor whom it may not reach."""
        if self.user_agent:
            headers = {**headers, "User-Agent": self.user_agent}
        return await self._send(method, url, headers, body, public_only=self._guarded(url))

    def _guarded(self, url: str) -> bool:
        """Whether a discovered endpoint lies on a host nobody configured: then it has to be public (SSRF)."""
        return self.config.discover and urlsplit(url).netloc != urlsplit(self.config.issuer).netloc

    # -- what a token that fails may be told apart by

    async def rejects(self, token: str, userinfo_url: str = "", token_url: str = "") -> bool:
        """Whether the provider's user endpoint answers 401 to this access token.

        False for every other answer, for none within 20 seconds, and where there is no such endpoint. Both URLs are the
        sign-in's: one that is newer than the sign-in gets no token of it (stops a swapped metadata document).
        """
        try:
            async with asyncio.timeout(DEADLINE):
                if not userinfo_url and not (token_url and self.config.discover):
                    userinfo_url = (await self.endpoints()).userinfo_url
                if not userinfo_url:
                    return False
                headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
                reply = await self._exchange("GET", userinfo_url, headers)
        except (AuthError, TimeoutError):
            return False
        return reply.status == 401

    async def moved_from(self, token_url: str) -> bool:
        """Whether the issuer's metadata, looked up anew, name another token endpoint. False where nobody says."""
        if not self.config.discover:
            return False
        try:
            async with asyncio.timeout(DEADLINE):
                found = await discover(self.config, self._exchange)
        except (AuthError, TimeoutError):
            return False
        return found.token_url != token_url

    # -- revocation and account

    async def revoke(self, token: OAuth2Token | str, revocation_url: str = "", auth_method: str = "") -> bool:
        """Revoke the refresh token, or else the access token (RFC 7009); False if the provider cannot.

        `revocation_url` and `auth_method` are those of the sign-in. GitHub has its own call: https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token
        """
        config, headers = self.config, {"Accept": "application/json"}
        token = OAuth2Token(token) if isinstance(token, str) else token
        github = config.revocation == "github"
        url = revocation_url or (await self.endpoints()).revocation_url
        if not url or (github and not config.client_secret):
            return False
        if github:
            headers["Authorization"] = basic(config.client_id, config.client_secret or "")
            body = json.dumps({"access_token": token.access_token}).encode()
            reply = await self._exchange("DELETE", url, headers, body)
        else:
            hint = "refresh_token" if token.refresh_token else "access_token"
            form = {"token": token.refresh_token or token.access_token, "token_type_hint": hint}
            method = auth_method or (self._resolved or config).revocation_endpoint_auth_method
            reply = await self.post(url, form, method)
        raise_for_error(reply, config.name, "to end the sign-in")
        return True

    async def account(self, token: OAuth2Token) -> str:
        """Return who signed in, for display, from the provider's user endpoint; "" if it has none."""
        if not (url := (await self.endpoints()).userinfo_url):
            return ""
        headers = {"Authorization": f"Bearer {token.access_token}", "Accept": "application/json"}
        reply = await self._exchange("GET", url, headers)
        data = parse_object(reply, self.config.name)
        names = ("login", "email", "userPrincipalName", "name", "sub")  # GitHub, Google, Microsoft, OpenID Connect
        return next(filter(None, (printable(data.get(name)) for name in names)), "")


def _with_query(url: str, more: Mapping[str, str], ours: Mapping[str, str | None]) -> str:
    """Return `url` with parameters added. Its own query is kept, `more` replaces what is in it, and `ours` wins."""
    base = urlsplit(url)
    kept = [pair for pair in parse_qsl(base.query, keep_blank_values=True) if pair[0] not in more]
    theirs = [(name, value) for name, value in (*kept, *more.items()) if name.lower() not in _OURS]
    given = [(name, value) for name, value in ours.items() if value]
    return base._replace(query=urlencode([*theirs, *given], quote_via=quote)).geturl()
