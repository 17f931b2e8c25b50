"""Strict reading of what providers send: token responses, errors, and the redirect back to us."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from .errors import AuthError, ConfigError, LoginRequired, ProtocolError, TransientAuthError
from .transport import Reply

_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")  # visible ASCII: anything else could inject a header
_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_TEN_YEARS = 10 * 365 * 24 * 3600

# The grant or the sign-in is gone (GitHub: bad_*; Google: invalid_grant; Entra: *_required).
_SIGN_IN_AGAIN = frozenset(
    {"invalid_grant", "bad_refresh_token", "bad_verification_code", "interaction_required", "consent_required"}
    | {"login_required", "invalid_rapt", "access_denied", "authorization_declined", "expired_token"}
)
_SETTINGS = frozenset(
    {"invalid_client", "unauthorized_client", "incorrect_client_credentials", "redirect_uri_mismatch"}
    | {"invalid_scope", "invalid_target", "invalid_request", "unsupported_grant_type", "device_flow_disabled"}
)
_BUSY = ("temporarily_unavailable", "server_error")


@dataclass(frozen=True)
class OAuth2Token:
    """A token response (RFC 6749 section 5.1). `repr` shows no token.

    `expires_in` is in seconds, `expires_at` in seconds since the epoch; both None when the provider did not say: then
    the token is good until the API answers 401.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_in: int | None = None
    expires_at: float | None = None
    scopes: tuple[str, ...] = ()
    token_type: str = "Bearer"  # noqa: S105


def parse_object(reply: Reply, provider: str) -> dict[str, Any]:
    """Return the body as a dict, from JSON or a form; raise for anything that is not one."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        text = reply.body.decode("utf-8")
        if kind == "application/x-www-form-urlencoded":
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=100))
        if kind == "application/json" or kind.endswith("+json"):
            data = json.loads(text)
            if isinstance(data, dict):
                return data
    except (ValueError, RecursionError):
        pass
    raise_for_status(reply, provider)
    raise ProtocolError(f"{provider} answered with something that is not JSON.", code="bad_body")


def raise_for_status(reply: Reply, provider: str) -> None:
    """Raise TransientAuthError for 408, 429 and 5xx, ProtocolError for redirects and other failures."""
    status = reply.status
    if status in (408, 429) or status >= 500:
        seconds = reply.headers.get("retry-after", "")
        retry_after = float(seconds) if re.fullmatch(r"[0-9]{1,6}", seconds) else None
        message = f"{provider} is unavailable at the moment (HTTP {status}). Try again later."
        raise TransientAuthError(message, code=f"http_{status}", retry_after=retry_after, ambiguous=status >= 500)
    if not 200 <= status < 300:
        raise ProtocolError(f"{provider} answered with HTTP {status}.", code=f"http_{status}")


def error_code(data: dict[str, Any]) -> str:
    """Return the error code of a response, "" if it is none. It counts whatever the HTTP status says.

    GitHub and Slack report failures with status 200; Slack says `ok: false`.
    """
    if "error" not in data and data.get("ok") is not False:
        return ""
    code = data.get("error")
    return code if isinstance(code, str) and _CODE.fullmatch(code) else "unknown_error"


def error_for(code: str, provider: str, what: str) -> AuthError:
    """Return the exception for an error code. `what` names the thing sent, such as "the refresh token"."""
    if code in _BUSY:
        return TransientAuthError(f"{provider} is busy ({code}). Try again later.", code=code)
    if code in _SETTINGS:
        message = f"{provider} refused this application's settings ({code}). Check OAUTH_CLIENT_ID, "
        return ConfigError(message + "OAUTH_CLIENT_SECRET, the scopes and the registered redirect URI.", code=code)
    if code in _SIGN_IN_AGAIN:
        return LoginRequired(f"{provider} refused {what} ({code}).", code=code)
    return ProtocolError(f"{provider} refused {what} ({code}).", code=code)


def parse_token(
    reply: Reply,
    provider: str,
    *,
    what: str,
    requested: Sequence[str],
    sent_at: float,
    refresh_token: str | None = None,
) -> OAuth2Token:
    """Return the token in a reply, or raise the error it is.

    `sent_at` is when the request started (epoch seconds): the lifetime counts from there, so a slow answer never makes
    a token look younger. A missing `refresh_token` keeps the one sent (section 6).
    """
    if reply.status in (408, 429) or reply.status >= 500:
        raise_for_status(reply, provider)
    data = parse_object(reply, provider)
    if code := error_code(data):
        raise error_for(code, provider, what)
    raise_for_status(reply, provider)
    kind = data.get("token_type", "bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise ProtocolError(f"{provider} issued a token that is not a bearer token.", code="bad_token_type")
    if not isinstance(access := data.get("access_token"), str) or not _TOKEN.fullmatch(access):
        raise ProtocolError(f"{provider} sent no usable access token.", code="bad_access_token")
    renewed = data.get("refresh_token") or refresh_token
    if renewed is not None and (not isinstance(renewed, str) or not _TOKEN.fullmatch(renewed)):
        raise ProtocolError(f"{provider} sent an unusable refresh token.", code="bad_refresh_token_value")
    seconds = _lifetime(data.get("expires_in"))
    expires_at = None if seconds is None else sent_at + seconds
    scopes = _scopes(data.get("scope"), requested)
    return OAuth2Token(access, renewed, seconds, expires_at, scopes)


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


def _lifetime(value: object) -> int | None:
    """Seconds from an int, a float or a numeric string; None (unknown) for missing, zero or nonsense."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return min(int(seconds), _TEN_YEARS) if math.isfinite(seconds) and seconds >= 1 else None


def _scopes(value: object, requested: Sequence[str]) -> tuple[str, ...]:
    """Split on spaces and commas (GitHub, Slack); missing means as requested (RFC 6749 section 5.1)."""
    if not isinstance(value, str):
        return tuple(requested)
    return tuple(clean for part in re.split(r"[ ,]+", value) if (clean := printable(part)))
