"""The authorization code flow with PKCE (RFC 6749, 7636, 9207): requests out, checked answers in."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from .config import OAuth2Config
from .errors import ConfigError, LoginRequired, ProtocolError
from .pkce import PKCECodeVerifier
from .responses import (
    OAuth2Token,
    error_code,
    error_for,
    parse_object,
    parse_redirect,
    parse_token,
    printable,
    raise_for_status,
)
from .transport import Reply, Send, Transport

FORM = "application/x-www-form-urlencoded"
_ENTRA_ISSUER = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class AuthorizationRequest:
    """One sign-in in progress: what has to be remembered until the redirect comes back."""

    url: str = field(repr=False)
    state: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str | None


class OAuth2Flow:
    """The exchanges with one provider. The `*_blocking` methods do the work; the rest await them.

    `send`, `clock` (epoch seconds) and `random` (bytes -> URL-safe text) are replaceable.
    """

    def __init__(
        self,
        config: OAuth2Config,
        *,
        send: Send | None = None,
        clock: Callable[[], float] = time.time,
        random: Callable[[int], str] = secrets.token_urlsafe,
    ) -> None:
        self.config = config
        self.clock = clock
        self._send = send or Transport()
        self._random = random
        self._resolved: OAuth2Config | None = None if config.discover else config
        self._pending: AuthorizationRequest | None = None

    # -- authorization request and its answer

    def begin(self, redirect_uri: str | None = None) -> AuthorizationRequest:
        """Start a sign-in with a fresh `state` and PKCE verifier. Discovers the endpoints if it must."""
        pkce = PKCECodeVerifier.generate(self._random)
        state = self._random(32)
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

        Raises ConfigError for any method but S256.
        """
        if code_challenge_method != "S256":
            raise ConfigError("The PKCE method has to be S256.", code="pkce_method")
        if code_challenge is None:
            pkce = PKCECodeVerifier.generate(self._random)
            state, code_challenge = state or self._random(32), pkce.challenge
            redirect_uri = redirect_uri or self.config.redirect_uri
            self._pending = AuthorizationRequest("", state, pkce.verifier, redirect_uri)
        config = self.endpoints()
        params = {
            **config.authorize_params,
            "response_type": "code",
            "client_id": config.client_id,
            "redirect_uri": redirect_uri or config.redirect_uri or "",
            "scope": " ".join(config.scopes),
            "state": state or self._random(32),
            "code_challenge": code_challenge,
            "code_challenge_method": "S256",
        }
        base = urlsplit(config.authorization_url)
        kept = [pair for pair in parse_qsl(base.query, keep_blank_values=True) if pair[0] not in params]
        query = urlencode([*kept, *((k, v) for k, v in params.items() if v)], quote_via=quote)
        return base._replace(query=query).geturl()

    def read_redirect(self, request: AuthorizationRequest, query: str) -> str:
        """Return the code of a redirect that answers `request`.

        The order matters: `state` first (stops forged answers, login CSRF and CVE-2026-42073), then `iss`
        (stops mix-up, RFC 9207 section 2.4); only then are `error` and `code` believed. Raises ProtocolError
        with code `state_mismatch` or `iss_mismatch`, LoginRequired when the person declined.
        """
        params = parse_redirect(query)
        given, expected = params.get("state", "").encode(), request.state.encode()
        if not secrets.compare_digest(given, expected):  # on bytes: str raises for non-ASCII input
            message = "State mismatch: this redirect does not belong to this sign-in. Start the sign-in again."
            raise ProtocolError(message, code="state_mismatch")
        if not self._issuer_matches(params.get("iss")):
            message = "The redirect names another issuer than the one asked. The sign-in was stopped."
            raise ProtocolError(message, code="iss_mismatch")
        if "error" in params:
            raise error_for(error_code(dict(params)), self.config.name, "the sign-in")
        if not (code := params.get("code", "")):
            raise ProtocolError("The redirect carries no code.", code="no_code")
        return code

    def _issuer_matches(self, iss: str | None) -> bool:
        config = self.endpoints()
        if config.iss == "ignore":
            return True
        if iss is None:
            return config.iss != "required"
        if "{tenantid}" in config.issuer:  # Entra's `common` and `organizations` answer for many tenants
            before, _, after = config.issuer.partition("{tenantid}")
            middle = iss.removeprefix(before).removesuffix(after)
            return bool(_ENTRA_ISSUER.fullmatch(middle)) and iss == before + middle + after
        return not config.issuer or iss == config.issuer  # simple string comparison, no normalising

    # -- token endpoint

    async def exchange_code(
        self, code: str, code_verifier: str | None = None, redirect_uri: str | None = None
    ) -> OAuth2Token:
        """Exchange a code once (RFC 6749 section 4.1.3). Without a verifier, uses the flow's own pending one.

        Raises LoginRequired for a code that was refused, or any other AuthError. Never retried: a code is
        single-use, and a second try without PKCE would be the downgrade PKCE exists to stop.
        """
        return await asyncio.to_thread(self.exchange_code_blocking, code, code_verifier, redirect_uri)

    def exchange_code_blocking(
        self, code: str, code_verifier: str | None = None, redirect_uri: str | None = None
    ) -> OAuth2Token:
        """`exchange_code` for callers without an event loop."""
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
        try:
            return self.token_request(form, "the code")
        except LoginRequired as error:
            message = f"{error} It was used before or is too old, or PKCE verification failed."
            raise LoginRequired(message, code=error.code) from None

    async def refresh_token(self, refresh_token: str | None) -> OAuth2Token:
        """Return a new token for a refresh token (section 6). `TokenManager` also saves the result."""
        return await asyncio.to_thread(self.refresh_blocking, refresh_token or "")

    def refresh_blocking(self, refresh_token: str, token_url: str = "") -> OAuth2Token:
        """`refresh_token` for callers without an event loop.

        `token_url` is the endpoint of the sign-in: the token goes there or nowhere (stops a swapped
        metadata document from collecting secrets). Raises LoginRequired when the configuration names another.
        """
        if not refresh_token:
            raise LoginRequired("There is no refresh token.", code="no_refresh_token")
        if token_url and self._resolved and self._resolved.token_url != token_url:
            message = f"The token endpoint of {self.config.name} changed since the sign-in."
            raise LoginRequired(message, code="endpoints_changed")
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return self.token_request(form, "the refresh token", token_url, refresh_token)

    def token_request(
        self, form: dict[str, str], what: str, token_url: str = "", refresh_token: str | None = None
    ) -> OAuth2Token:
        """Post one form to the token endpoint and parse the answer."""
        sent_at = self.clock()
        reply = self.post(token_url or self.endpoints().token_url, form)
        return parse_token(
            reply,
            self.config.name,
            what=what,
            requested=self.config.scopes,
            sent_at=sent_at,
            refresh_token=refresh_token,
        )

    def post(self, url: str, form: dict[str, str]) -> Reply:
        """Post a form with client authentication: in the body, or Basic where the profile says so."""
        config, headers = self.config, {"Content-Type": FORM, "Accept": "application/json"}
        if config.basic_auth and config.client_secret:
            headers["Authorization"] = _basic(config.client_id, config.client_secret)
        else:
            form = {**form, "client_id": config.client_id}
            if config.client_secret:
                form["client_secret"] = config.client_secret
        return self._send("POST", url, headers, urlencode(form).encode(), public_only=self._guarded(url))

    # -- endpoints, revocation, account

    def endpoints(self) -> OAuth2Config:
        """Return the configuration with every endpoint filled in; the first call may discover (blocking)."""
        if self._resolved is None:
            from .discovery import discover

            self._resolved = discover(self.config, self._send)
        return self._resolved

    def forget_endpoints(self) -> None:
        """Discover again at the next need: a new sign-in may find new endpoints."""
        self._resolved = None if self.config.discover else self.config

    def _guarded(self, url: str) -> bool:
        """Whether a discovered endpoint lies on a host nobody configured: then it has to be public (SSRF)."""
        return self.config.discover and urlsplit(url).netloc != urlsplit(self.config.issuer).netloc

    async def revoke(self, token: OAuth2Token | str) -> bool:
        """End the grant at the provider; see `revoke_blocking`."""
        return await asyncio.to_thread(self.revoke_blocking, token)

    def revoke_blocking(self, token: OAuth2Token | str, revocation_url: str = "") -> bool:
        """Revoke the refresh token, or else the access token (RFC 7009); False if the provider cannot.

        GitHub has its own call: https://docs.github.com/rest/apps/oauth-applications#delete-an-app-token
        """
        config = self.config
        url = revocation_url or self.endpoints().revocation_url
        if not url:
            return False
        access = token if isinstance(token, str) else token.access_token
        if config.revocation == "github":
            if not config.client_secret:
                return False
            headers = {
                "Authorization": _basic(config.client_id, config.client_secret),
                "Accept": "application/json",
            }
            reply = self._send("DELETE", url, headers, json.dumps({"access_token": access}).encode())
        else:
            refresh = None if isinstance(token, str) else token.refresh_token
            form = {
                "token": refresh or access,
                "token_type_hint": "refresh_token" if refresh else "access_token",
            }
            reply = self.post(url, form)
        raise_for_status(reply, config.name)
        return True

    def account_blocking(self, token: OAuth2Token) -> str:
        """Return who signed in, for display, from the ID token or the provider's user endpoint."""
        url = self.endpoints().userinfo_url
        if token.account or not url:
            return token.account
        headers = {"Authorization": f"Bearer {token.access_token}", "Accept": "application/json"}
        data = parse_object(self._send("GET", url, headers, public_only=self._guarded(url)), self.config.name)
        return next(filter(None, (printable(data.get(k)) for k in ("login", "email", "name", "sub"))), "")


def _basic(client_id: str, secret: str) -> str:
    """Percent-encode both, then Base64 (RFC 6749 section 2.3.1, which most libraries forget)."""
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")
