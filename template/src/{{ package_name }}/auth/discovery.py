"""Endpoints from an issuer's metadata: RFC 8414, and OpenID Connect Discovery 1.0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from .config import OAuth2Config
from .errors import ConfigError
from .responses import parse_object
from .transport import Send
from .urls import check_url, is_loopback


async def discover(config: OAuth2Config, send: Send) -> OAuth2Config:
    """Return `config` with the endpoints its issuer publishes.

    Raises ConfigError if no document is found, it names another issuer (string equality, RFC 8414 section 3.3), it
    lacks PKCE with S256, or an endpoint is not https. Network failures are TransientAuthError.
    """
    data = await _fetch(config, send)
    if data.get("issuer") != config.issuer:  # stops one issuer speaking for another
        raise ConfigError("The metadata names another issuer than the configured one.", code="issuer_mismatch")
    methods = data.get("code_challenge_methods_supported")
    if not isinstance(methods, list) or "S256" not in methods:  # stops a downgrade to `plain` or to no PKCE
        raise ConfigError("The issuer does not offer PKCE with S256; it is not safe to use.", code="no_s256")
    loopback = is_loopback(urlsplit(config.issuer).hostname or "")  # development: everything on this machine

    def endpoint(name: str, required: bool = False) -> str:
        value = data.get(name)
        if value is None and not required:
            return ""
        check_url(value if isinstance(value, str) else "", name, loopback=loopback)
        return str(value)

    advertised = data.get("authorization_response_iss_parameter_supported") is True
    return replace(
        config,
        authorization_url=endpoint("authorization_endpoint", required=True),
        token_url=endpoint("token_endpoint", required=True),
        device_url=endpoint("device_authorization_endpoint"),
        revocation_url=endpoint("revocation_endpoint"),
        userinfo_url=endpoint("userinfo_endpoint"),
        iss="required" if advertised and config.iss == "if_present" else config.iss,
    )


async def _fetch(config: OAuth2Config, send: Send) -> dict[str, Any]:
    parts = urlsplit(config.issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    places = (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )
    for url in dict.fromkeys(places):
        reply = await send("GET", url, {"Accept": "application/json"})
        if reply.status < 400 or reply.status >= 500 or reply.status == 429:  # redirects are errors, not followed
            return parse_object(reply, config.name)
    raise ConfigError("The issuer publishes no metadata. Check its URL.", code="no_metadata")
