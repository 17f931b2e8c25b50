"""Requests to the upstream API: `from ..client import api`.

    forecast = await api.get_json("/forecast", params={"city": city})

The credential is added on the way (see `api_auth.py`). What goes wrong is raised as an `UpstreamError`, which the model
reads: a status and what to do, never a URL or a header; of a body, a short quotation at most (see `api_answers.py`).
"""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

from . import version
from .answers import COMMAND
from .api_paths import leads_away
from .credentials import SOURCES
from .errors import UpstreamError
from .http_environment import check_http_environment, proxy_for
from .logs import quiet_http
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
        """GET `path` and return the decoded JSON, None for an answer without a body. `options` as for `request`.

        Raises:
            UpstreamError: as for `request`, or the body is not JSON, or cannot be passed on.
            CredentialError: as for `request`.
        """
        response = await self.request("GET", path, **options)

        from .api_answers import decoded_json

        return decoded_json(response)

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to `path` below the base URL and return the response, read, whose status is below 300.

        Args:
            options: `params`, `json`, `data`, `headers`, … as for `httpx.AsyncClient.request`.

        Raises:
            UpstreamError: the path leads away from the base URL; the API refused, failed, could not be reached in time
                (`API_TIMEOUT` seconds from sending to the last byte), or answered more than `API_MAX_BYTES`.
            CredentialError: the credential is missing.
            UsageError: a setting, or what the environment says about proxies and certificates, cannot work.
        """
        import httpx

        self._client = client = self._client or self._open()
        try:
            request = client.build_request(method, path, **options)
        except (httpx.InvalidURL, UnicodeError):
            raise UpstreamError("That path is not a valid address. Check the arguments.") from None
        if leads_away(path) or not _is_below(request.url, client.base_url):
            raise UpstreamError("That path leads away from the API's base URL. Give a path below it, such as /items/1.")
        try:
            response = await client.send(request)
        except httpx.HTTPError as error:
            # By name only: messages of this family may quote what was sent.
            raise UpstreamError(
                f"The API at {client.base_url.host} could not be reached ({type(error).__name__}). Try again later."
            ) from None
        if not response.is_success:
            from .api_answers import what_to_do

            raise UpstreamError(what_to_do(response))
        return response

    async def aclose(self) -> None:
        """Close the connections. The next request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _open(self) -> httpx.AsyncClient:
        import httpx

        from .api_answers import BoundedTransport
        from .api_auth import api_auth

        quiet_http()
        check_http_environment()
        settings = self._settings or Settings.load(SOURCES)
        network = self._transport or httpx.AsyncHTTPTransport(proxy=proxy_for(settings.api_base_url))
        return httpx.AsyncClient(
            base_url=settings.api_base_url,
            auth=api_auth(settings.api_base_url),
            # One would outlive a change of the credential, and an API may set any number of them.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            timeout=settings.api_timeout,
            headers={
                "User-Agent": f"{COMMAND}/{version()}",
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
            },
            transport=BoundedTransport(network, settings.api_timeout, settings.api_max_bytes),
        )


def _is_below(url: httpx.URL, base: httpx.URL) -> bool:
    same_origin = (url.scheme, url.host, url.port, url.userinfo) == (base.scheme, base.host, base.port, b"")
    return same_origin and url.raw_path.startswith(base.raw_path)


api = ApiClient()
