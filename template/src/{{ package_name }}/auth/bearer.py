"""The access token on API requests, for httpx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator

import httpx

from .token_manager import TokenManager


class BearerAuth(httpx.Auth):
    """Adds the token; after a 401 repeats the request once if there is another (RFC 6750 section 3).

    The token goes only to the origin of `base_url`: a client that is handed an absolute URL of another host would
    otherwise send it there. A 401 means not executed, so repeating is safe. It is returned as it is when the token is
    not at fault (`TokenManager.after_401` tells), the second time, and when the request body was a stream that cannot
    be sent again.
    """

    def __init__(self, manager: TokenManager, base_url: str) -> None:
        self._manager = manager
        self._origin = _origin(httpx.URL(base_url))

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Authenticate one request of an `httpx.AsyncClient`. Raises AuthError when there is no token."""
        if _origin(request.url) != self._origin:
            yield request
            return
        token = await self._manager.get_token()
        response = yield _signed(request, token)
        if self._may_repeat(request, response):
            other = await self._manager.after_401(token)
            if other != token:
                yield _signed(request, other)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """The same for an `httpx.Client`, in a thread without an event loop (tools that are plain functions)."""
        if _origin(request.url) != self._origin:
            yield request
            return
        token = asyncio.run(self._manager.get_token())
        response = yield _signed(request, token)
        if self._may_repeat(request, response):
            other = asyncio.run(self._manager.after_401(token))
            if other != token:
                yield _signed(request, other)

    def _may_repeat(self, request: httpx.Request, response: httpx.Response) -> bool:
        same = _origin(response.url) == self._origin  # a 401 of a host redirected to says nothing of this token
        return response.status_code == 401 and same and isinstance(request.stream, httpx.ByteStream)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # httpx leaves out a port that goes without saying


def _signed(request: httpx.Request, token: str) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request
