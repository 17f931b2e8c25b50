"""Strict reading of what providers send: token responses, errors, and the redirect back to us."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from ..logs import hide
from .errors import AuthError, ConfigError, LoginRequired, ProtocolError, TransientAuthError
from .transport import Reply

_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")  # visible ASCII: anything else could inject a header
_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_UNKNOWN = "unknown_error"
_TEN_YEARS = 10 * 365 * 24 * 3600

_SIGN_IN_AGAIN = (
    frozenset(  # the grant or the sign-in is gone (GitHub: bad_*; Google: invalid_grant; Entra: *_required)
        {"invalid_grant", "bad_refresh_token", "bad_verification_code", "interaction_required", "consent_required"}
        | {"login_required", "invalid_rapt", "access_denied", "authorization_declined", "expired_token"}
    )
)
_SETTINGS = frozenset(
    {"invalid_client", "unauthorized_client", "incorrect_client_credentials", "redirect_uri_mismatch"}
    | {"invalid_scope", "invalid_target", "invalid_request", "unsupported_grant_type", "device_flow_disabled"}
)


@dataclass(frozen=True)
class OAuth2Token:
    """A token response (RFC 6749 section 5.1). `repr` shows no token, and logs hide both from now on.

    `expires_in` is in seconds, `expires_at` in seconds since the epoch; both None when the provider did not say: then
    the token is good until the API answers 401.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_in: int | None = None
    expires_at: float | None = None
    scopes: tuple[str, ...] = ()
    token_type: str = "Bearer"  # noqa: S105 - a kind of token, none itself

    def __post_init__(self) -> None:
        hide(self.access_token)
        hide(self.refresh_token or "")


def parse_object(reply: Reply, provider: str) -> dict[str, Any]:
    """Return the body of a success as a dict; raise for every other status, and for a body that is not one."""
    raise_for_status(reply, provider)
    data = _body(reply)
    if data is None:
        raise ProtocolError(f"{provider} answered with something that is not JSON.", code="bad_body")
    return data


def parse_success(reply: Reply, provider: str, what: str) -> dict[str, Any]:
    """Return the body of a success, or raise the error it is. `what` names the thing sent, "the refresh token"."""
    raise_for_error(reply, provider, what)
    return parse_object(reply, provider)


def raise_for_error(reply: Reply, provider: str, what: str) -> None:
    """Raise the error that an answer to `what` is, by its body where it has one that says, else by its status.

    A redirect's or a failing server's body is not believed. A wrong address says so by its status, whatever the body
    makes of it: `{"error": "not_found"}`.
    """
    if reply.status in (408, 429) or not (200 <= reply.status < 300 or 400 <= reply.status < 500):
        raise_for_status(reply, provider)
    error = error_in(_body(reply) or {}, provider, what)
    elsewhere = isinstance(error, ProtocolError) and reply.status in (404, 405, 410)
    if error is None or error.code == _UNKNOWN or elsewhere:
        raise_for_status(reply, provider)
    if error:
        raise error


def _body(reply: Reply) -> dict[str, Any] | None:
    """Return the body as a dict, from JSON whatever its label, or from a form that is labelled as one; else None.

    Bytes that cannot be decoded are replaced, and numbers are floats: a Latin-1 name or an integer of 5,000 digits
    beside a token is no reason to lose it. Neither can get into a token, which is visible ASCII.
    """
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    text = reply.body.decode(json.detect_encoding(reply.body), "replace").lstrip(" \t\r\n")
    with suppress(ValueError, RecursionError):
        if text.startswith("{"):
            data: dict[str, Any] = json.loads(text, parse_int=float)
            return data
        if kind == "application/x-www-form-urlencoded":
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=100))
    return None


def raise_for_status(reply: Reply, provider: str) -> None:
    """Raise TransientAuthError for 408, 429 and 5xx, ProtocolError for redirects and other failures."""
    status = reply.status
    if status in (408, 429) or status >= 500:
        message = f"{provider} is unavailable at the moment (HTTP {status}). Try again later."
        wait = seconds(reply.headers.get("retry-after"))  # a date means: unknown
        raise TransientAuthError(message, code=f"http_{status}", retry_after=wait, ambiguous=status >= 500)
    if not 200 <= status < 300:
        raise ProtocolError(f"{provider} answered with HTTP {status}.", code=f"http_{status}")


def error_in(data: Mapping[str, Any], provider: str, what: str) -> AuthError | None:
    """Return the error that an answer to `what` reports, None if it reports none. The HTTP status does not matter.

    GitHub and Slack report failures with status 200; Slack says `ok: false`. Keycloak says `error: null` in a success.
    """
    code = data.get("error")
    if not code and data.get("ok") is not False:
        return None
    code = code if isinstance(code, str) and _CODE.fullmatch(code) else _UNKNOWN
    if code in ("temporarily_unavailable", "server_error"):
        return TransientAuthError(f"{provider} is busy ({code}). Try again later.", code=code)
    if code in _SETTINGS:
        message = f"{provider} refused this application's settings ({code}). Check OAUTH_CLIENT_ID, "
        return ConfigError(message + "OAUTH_CLIENT_SECRET, the scopes and the registered redirect URI.", code=code)
    kind = LoginRequired if code in _SIGN_IN_AGAIN else ProtocolError
    return kind(f"{provider} refused {what} ({code}).", code=code)


def parse_token(
    reply: Reply, provider: str, *, what: str, requested: Sequence[str], sent_at: float, kept: str | None = None
) -> OAuth2Token:
    """Return the token in a reply, or raise the error it is.

    `sent_at` is when the request started (epoch seconds): the lifetime counts from there, so a slow answer never makes
    a token look younger. `kept` is the refresh token that was sent, which stays if no other comes (section 6).
    """
    data = parse_success(reply, provider, what)
    kind = data.get("token_type") or "bearer"
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise ProtocolError(f"{provider} issued a token that is not a bearer token.", code="bad_token_type")
    if not isinstance(access := data.get("access_token"), str) or not _TOKEN.fullmatch(access):
        raise ProtocolError(f"{provider} sent no usable access token.", code="bad_access_token")
    renewed = data.get("refresh_token") or kept
    if renewed is not None and (not isinstance(renewed, str) or not _TOKEN.fullmatch(renewed)):
        raise ProtocolError(f"{provider} sent an unusable refresh token.", code="bad_refresh_token_value")
    lasts, scopes = seconds(data.get("expires_in")), data.get("scope")
    # Scopes are split by blanks or commas (GitHub, Slack); none named means as requested.
    granted = re.split(r"[ ,]+", scopes) if isinstance(scopes, str) else requested
    clean = tuple(filter(None, map(printable, granted)))
    return OAuth2Token(access, renewed, lasts, None if lasts is None else sent_at + lasts, clean)


def parse_redirect(query: str) -> dict[str, str]:
    """Return the parameters of the redirect back to us; ProtocolError if one of them comes twice."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        raise ProtocolError("The redirect cannot be read.", code="bad_redirect") from None
    if len(params := dict(pairs)) != len(pairs):  # a second `code` or `state` is an injection (RFC 6749 3.1)
        raise ProtocolError("The redirect repeats a parameter.", code="bad_redirect")
    return params


def printable(value: object, limit: int = 100) -> str:
    """Return text that cannot move a terminal's cursor: printable characters only, at most `limit`."""
    return "".join(c for c in value if c.isprintable())[:limit] if isinstance(value, str) else ""


def seconds(value: object) -> int | None:
    """Return seconds from an int, a float or a numeric string; None (unknown) for missing, zero or nonsense."""
    try:
        number = 0.0 if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return min(int(number), _TEN_YEARS) if 1 <= number < float("inf") else None
