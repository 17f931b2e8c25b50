"""The endpoints of a provider from what its issuer publishes (RFC 8414, and OpenID Connect Discovery 1.0)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from .client_auth import published_method
from .config import OAuth2Config
from .errors import AuthError, ConfigError, TransientAuthError
from .responses import parse_object, printable
from .transport import Send
from .urls import check_url, is_loopback

PLACE_DEADLINE = 10.0  # seconds for each of the three places
_BY_URLS = "leave oauth_issuer empty and give the two URLs"
_DEMANDS = {
    "require_pushed_authorization_requests": "pushed authorization requests (PAR, RFC 9126)",
    "require_signed_request_object": "signed request objects (JAR, RFC 9101)",
}


async def discover(config: OAuth2Config, send: Send) -> OAuth2Config:
    """Return `config` with the endpoints and the client authentication that its issuer publishes.

    Each place is tried until a document passes every check: no answer of one of them ends the search. Raises
    TransientAuthError where one could not be read for now, else ConfigError that says what is wrong with the best one:
    it names another issuer (string equality, RFC 8414 section 3.3), lacks PKCE with S256, has an endpoint that is not
    https, or demands what is not done here.
    """
    problems: list[AuthError] = []
    for url in _places(config.issuer):
        try:
            async with asyncio.timeout(PLACE_DEADLINE):
                reply = await send("GET", url, {"Accept": "application/json"})
            return _checked(parse_object(reply, config.name), config)
        except TimeoutError:
            message = f"{config.name} did not answer in time. Try again later."
            problems.append(TransientAuthError(message, code="no_answer"))
        except AuthError as error:
            problems.append(error)
    raise _most_telling(problems)


def _places(issuer: str) -> list[str]:
    parts = urlsplit(issuer)
    origin = f"{parts.scheme}://{parts.netloc}"
    path = parts.path.rstrip("/")
    places = (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )
    return list(dict.fromkeys(places))


def _checked(data: dict[str, Any], config: OAuth2Config) -> OAuth2Config:
    if data.get("issuer") != config.issuer:  # stops one issuer speaking for another
        raise _another_issuer(data.get("issuer"), config.issuer)
    methods = data.get("code_challenge_methods_supported")
    if not isinstance(methods, list) or "S256" not in methods:  # stops a downgrade to `plain` or to no PKCE
        message = (
            f"The metadata of {config.name} does not offer PKCE with S256, without which it is not safe to use. "
            f"If its documentation promises S256, {_BY_URLS}."
        )
        raise ConfigError(message, code="no_s256")
    for name, what in _DEMANDS.items():
        if data.get(name) is True:
            message = f"{config.name} takes only {what}, which this server cannot send: ask it for a client without."
            raise ConfigError(message, code="demand")
    loopback = is_loopback(urlsplit(config.issuer).hostname or "")  # development: everything on this machine

    def endpoint(name: str, required: bool = False) -> str:
        value = str(data.get(name) or "")
        if value or required:
            check_url(value, name, loopback=loopback)
        return value

    advertised = data.get("authorization_response_iss_parameter_supported") is True
    found = replace(
        config,
        authorization_url=endpoint("authorization_endpoint", required=True),
        token_url=endpoint("token_endpoint", required=True),
        device_url=endpoint("device_authorization_endpoint"),
        revocation_url=endpoint("revocation_endpoint"),
        userinfo_url=endpoint("userinfo_endpoint"),
        iss="required" if advertised and config.iss == "if_present" else config.iss,
    )
    return _with_client_auth(found, data) if config.client_secret else found


def _with_client_auth(config: OAuth2Config, data: dict[str, Any]) -> OAuth2Config:
    """Return `config` with how the secret travels, where it does not say so itself."""
    token = config.token_endpoint_auth_method or published_method(data, "token")
    revocation = config.revocation_endpoint_auth_method
    if not revocation and "revocation_endpoint_auth_methods_supported" in data:
        try:
            revocation = published_method(data, "revocation")
        except ConfigError:  # signing in works without
            config = replace(config, revocation_url="")
    return replace(config, token_endpoint_auth_method=token, revocation_endpoint_auth_method=revocation)


def _another_issuer(found: object, wanted: str) -> ConfigError:
    named = ascii(printable(found, 200)) if found else "none"
    message = f"The metadata names another issuer than the configured one: {named}, not {wanted!r}."
    if isinstance(found, str) and found.rstrip("/") == wanted.rstrip("/"):
        message += " They differ by a slash at the end: set oauth_issuer to the first."
    return ConfigError(message, code="issuer_mismatch")


def _most_telling(problems: Sequence[AuthError]) -> AuthError:
    """Return what to say of places none of which had a good document."""
    refused = [error for error in problems if isinstance(error, ConfigError)]
    refused.sort(key=lambda error: error.code == "issuer_mismatch")  # a document of the right issuer tells more
    for down in problems:
        if isinstance(down, TransientAuthError):
            more = f" A document elsewhere is of no use: {refused[0]}" if refused else ""
            return TransientAuthError(f"{down}{more}", code=down.code, retry_after=down.retry_after)
    if refused:
        return refused[0]
    odd = min(problems, key=lambda error: error.code == "http_404")
    message = f"The issuer publishes no metadata: {odd} Check oauth_issuer, or {_BY_URLS}."
    return ConfigError(message, code="no_metadata")
