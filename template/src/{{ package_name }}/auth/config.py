"""A client and its provider, as data; and the endpoints from an issuer's metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from .errors import ConfigError
from .responses import parse_object
from .transport import Send
from .urls import check_url, is_loopback


@dataclass(frozen=True)
class OAuth2Config:
    """A client and its provider. The quirks are data: no code asks which provider it is talking to.

    Raises ConfigError for a missing client id, an unusable secret, or a URL that is not https.
    """

    client_id: str
    authorization_url: str = ""
    token_url: str = ""
    scopes: Sequence[str] = ()
    redirect_uri: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    name: str = "the provider"
    issuer: str = ""
    discover: bool = False  # the endpoints come from the issuer's metadata
    device_url: str = ""
    revocation_url: str = ""
    userinfo_url: str = ""
    secret_required: bool = False
    basic_auth: bool = False  # client_secret_basic instead of client_secret_post (RFC 6749 section 2.3.1)
    iss: str = "if_present"  # RFC 9207: "required", "if_present" or "ignore"
    revocation: str = "rfc7009"  # or "github"
    console: str = ""  # where a person registers a client
    redirect_host: str = "127.0.0.1"  # RFC 8252 section 7.3; Entra wants "localhost"
    authorize_params: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scopes", tuple(self.scopes))
        if not self.client_id:
            message = "Missing required auth: OAUTH_CLIENT_ID. Set OAUTH_CLIENT_ID environment variable."
            raise ConfigError(f"{message} {self.registration}", code="no_client_id")
        if not re.fullmatch(r"[\x21-\x7e]+", self.client_id + (self.client_secret or "")):
            message = "OAUTH_CLIENT_ID or OAUTH_CLIENT_SECRET holds a blank or a control character."
            raise ConfigError(message, code="bad_client")
        if self.discover:
            check_url(self.issuer, "issuer")
        else:
            check_url(self.authorization_url, "authorization URL")
            check_url(self.token_url, "token URL")
        for url in filter(None, (self.device_url, self.revocation_url, self.userinfo_url)):
            check_url(url, "endpoint URL")

    @property
    def registration(self) -> str:
        """Where a client is registered, and with which redirect: a sentence for those who have none yet."""
        where = f"at {self.console}" if self.console else f"with the provider ({self.name})"
        redirect = self.redirect_uri or f"http://{self.redirect_host}/callback"
        return f"A client is registered {where}; where a redirect is asked for, enter {redirect}."


async def discover(config: OAuth2Config, send: Send) -> OAuth2Config:
    """Return `config` with the endpoints its issuer publishes (RFC 8414, and OpenID Connect Discovery 1.0).

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
        value = str(data.get(name) or "")
        if value or required:
            check_url(value, name, loopback=loopback)
        return value

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
