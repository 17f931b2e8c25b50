"""Requests to the upstream API: `from ..client import api`.

    forecast = await api.get_json("/forecast", params={"city": city})

The credential is added on the way (see `api_auth.py`). What goes wrong is raised as an `UpstreamError`, which the model
reads: a status and what to do, never a URL, a header or a body.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from . import version
from .answers import COMMAND, MEND_COMMAND
from .credentials import SOURCES
from .errors import UpstreamError
from .settings import Settings

if TYPE_CHECKING:
    import httpx


class ApiClient:
    """One connection pool for the API, opened at the first request.

    Args:
        settings: for the base URL and the timeout; looked up at the first request if not given.
        transport: in place of the network, for tests.
    """

    def __init__(self, settings: Settings | None = None, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def get_json(self, path: str, **options: Any) -> Any:
        """GET `path` and return the decoded JSON. `options` as for `request`.

        Raises:
            UpstreamError: as for `request`, or the body is not JSON.
            CredentialError: as for `request`.
        """
        response = await self.request("GET", path, **options)
        try:
            return response.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            kind = response.headers.get("content-type", "no content type").partition(";")[0][:40]
            raise UpstreamError(f"The API answered with something that is not JSON ({kind}).") from None

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to `path` below the base URL and return the response, whose status is below 300.

        Args:
            options: `params`, `json`, `data`, `headers`, … as for `httpx.AsyncClient.request`.

        Raises:
            UpstreamError: the path leads away from the base URL; the API refused, failed, or could not be reached in
                time (`API_TIMEOUT` seconds for the whole request).
            CredentialError: the credential is missing.
        """
        import httpx

        self._client = client = self._client or self._open()
        try:
            request = client.build_request(method, path, **options)
        except httpx.InvalidURL:
            raise UpstreamError("That path is not a valid address. Check the arguments.") from None
        _check_below(request.url, client.base_url)
        try:
            async with asyncio.timeout(client.timeout.read):
                response = await client.send(request)
        except (TimeoutError, httpx.TimeoutException):
            raise UpstreamError(
                f"The API did not answer within {client.timeout.read:g} s. Try again later, or raise API_TIMEOUT."
            ) from None
        except httpx.HTTPError as error:
            # By name only: messages of this family may quote what was sent.
            raise UpstreamError(
                f"The API at {client.base_url.host} could not be reached ({type(error).__name__}). Try again later."
            ) from None
        if not response.is_success:
            raise UpstreamError(_what_to_do(response))
        return response

    async def aclose(self) -> None:
        """Close the connections. The next request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _open(self) -> httpx.AsyncClient:
        import httpx

        from .api_auth import api_auth

        settings = self._settings or Settings.load(SOURCES)
        return httpx.AsyncClient(
            base_url=settings.api_base_url,
            auth=api_auth(settings.api_base_url),
            timeout=settings.api_timeout,
            headers={"User-Agent": f"{COMMAND}/{version()}", "Accept": "application/json"},
            transport=self._transport,
        )


def _check_below(url: httpx.URL, base: httpx.URL) -> None:
    """Stop a path that a model made up from carrying the credential elsewhere: `https://evil/`, `../admin`."""
    same_origin = (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)
    path = url.raw_path.partition(b"?")[0]
    decoded = path.lower().replace(b"%2e", b".").replace(b"%2f", b"/").replace(b"%5c", b"/").replace(b"\\", b"/")
    if not same_origin or not path.startswith(base.raw_path) or b".." in decoded.split(b"/"):
        raise UpstreamError("That path leads away from the API's base URL. Give a path below it, such as /items/1.")


def _what_to_do(response: httpx.Response) -> str:
    status = response.status_code
    answered = f"The API answered {status}"
    if response.is_redirect:
        return f"{answered}, a redirect, which is not followed with a credential. Correct the path, or API_BASE_URL."
    if status == 401:
        return f"{answered}: it refuses this path, or does not accept the credential. In that case: {COMMAND} {MEND_COMMAND}"
    if status == 403:
        return f"{answered}: the credential may not do this."
    if status == 404:
        return f"{answered}: there is nothing at that path. Check the arguments."
    if status == 429:
        after = response.headers.get("retry-after", "")
        return f"{answered}: too many requests. Try again {f'in {after} s' if after.isdecimal() else 'later'}."
    if status >= 500:
        return f"{answered}: it failed. Try again later."
    return f"{answered}: it does not accept this request. Check the arguments."


api = ApiClient()
