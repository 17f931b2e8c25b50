"""How a client proves who it is: its secret in the body of a request, or in a header (RFC 6749 section 2.3.1)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .errors import ConfigError

POST = "client_secret_post"
BASIC = "client_secret_basic"
METHODS = (POST, BASIC)  # the first that a provider lists is used


def published_method(metadata: Mapping[str, Any], endpoint: str) -> str:
    """Return the method that an issuer's metadata asks for at `endpoint`, "token" or "revocation".

    None listed means Basic (RFC 8414 section 2). Never found out by trying: a code can be used once. Raises ConfigError
    with what is listed where that is nothing a client with a secret can do here.
    """
    listed = metadata.get(f"{endpoint}_endpoint_auth_methods_supported")
    if not isinstance(listed, list) or not listed:
        return BASIC
    for method in METHODS:
        if method in listed:
            return method
    if listed == ["none"]:
        message = "The provider takes no client secret (it wants none): unset OAUTH_CLIENT_SECRET."
        raise ConfigError(message, code="client_auth")
    names = [it for it in listed[:9] if isinstance(it, str) and re.fullmatch(r"[A-Za-z0-9_.\-]{1,64}", it)]
    message = (
        f"The provider wants clients to prove themselves by {' or '.join(names) or 'something unnamed'}, which this "
        f"server cannot: only {' or '.join(METHODS)}."
    )
    raise ConfigError(message, code="client_auth")


def authenticate(method: str, client_id: str, secret: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers and the fields of a form that say who the client is. Without a secret: its id in the body."""
    if not secret:
        return {}, {"client_id": client_id}
    if method == BASIC:
        return {"Authorization": basic(client_id, secret)}, {}
    return {}, {"client_id": client_id, "client_secret": secret}


def basic(client_id: str, secret: str) -> str:
    """Percent-encode both, then Base64 (section 2.3.1, which most libraries forget)."""
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")
