"""A client and its provider, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .client_auth import METHODS
from .errors import ConfigError
from .urls import check_url


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
    token_endpoint_auth_method: str = ""  # as in RFC 7591: client_secret_post or _basic; "": the metadata's, else _post
    revocation_endpoint_auth_method: str = ""  # "": as at the token endpoint
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
        for method in filter(None, (self.token_endpoint_auth_method, self.revocation_endpoint_auth_method)):
            if method not in METHODS:
                raise ConfigError(f"A client secret travels as one of {' or '.join(METHODS)}.", code="client_auth")
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
