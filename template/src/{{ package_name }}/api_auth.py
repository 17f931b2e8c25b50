"""How the API's credential travels, as an `httpx.Auth`.

A class each; `api_auth()` picks the one that was answered. They look the credential up for each request, in a thread,
since a file or a keyring may have to be read.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator

import httpx

from .answers import API_AUTH, API_AUTH_NAME, AUTH_KEYS
from .credentials import require_auth
from .errors import CredentialError


class CredentialAuth(httpx.Auth):
    """Base of the schemes: looks up `keys`, then lets the scheme put them into the request.

    Raises:
        CredentialError: one is missing, or cannot be sent as it is.
    """

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        self.apply(request, *[await asyncio.to_thread(require_auth, key) for key in self._keys])
        yield request

    def apply(self, request: httpx.Request, *values: str) -> None:
        """Put the credential into the request."""
        raise NotImplementedError

    def header_value(self, value: str) -> str:
        # httpx would refuse it too, with a message that quotes it.
        if not value.isascii():
            raise CredentialError(f"{self._keys[0]} contains a character that cannot be in a header. Set it again.")
        return value


class HeaderAuth(CredentialAuth):
    """The key in a header of its own, such as X-API-Key."""

    def __init__(self, header: str, key: str) -> None:
        super().__init__(key)
        self._header = header

    def apply(self, request: httpx.Request, *values: str) -> None:
        request.headers[self._header] = self.header_value(values[0])


class BearerAuth(CredentialAuth):
    """`Authorization: Bearer` (RFC 6750, section 2.1)."""

    def apply(self, request: httpx.Request, *values: str) -> None:
        request.headers["Authorization"] = f"Bearer {self.header_value(values[0])}"


class BasicAuth(CredentialAuth):
    """`Authorization: Basic` with user and password in UTF-8 (RFC 7617)."""

    def apply(self, request: httpx.Request, *values: str) -> None:
        user, password = values
        if ":" in user:
            raise CredentialError(
                f"{self._keys[0]} contains a colon, which a user name may not (RFC 7617). Set it again."
            )
        request.headers["Authorization"] = "Basic " + b64encode(f"{user}:{password}".encode()).decode()


class QueryAuth(CredentialAuth):
    """The key as a query parameter. Errors and logs show no URL for that reason."""

    def __init__(self, parameter: str, key: str) -> None:
        super().__init__(key)
        self._parameter = parameter

    def apply(self, request: httpx.Request, *values: str) -> None:
        request.url = request.url.copy_set_param(self._parameter, values[0])


def api_auth() -> httpx.Auth | None:
    """The scheme that was answered, with the first of `AUTH_KEYS` (for basic, the first two)."""
    match API_AUTH:
        case "header":
            return HeaderAuth(API_AUTH_NAME, AUTH_KEYS[0])
        case "bearer":
            return BearerAuth(AUTH_KEYS[0])
        case "basic":
            return BasicAuth(*AUTH_KEYS[:2])
        case "query":
            return QueryAuth(API_AUTH_NAME, AUTH_KEYS[0])
    return None
