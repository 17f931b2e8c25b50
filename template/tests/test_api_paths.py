"""Which paths a model may give: those that nobody on the way can take for a place outside the base URL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

import pytest
from conftest import VALUES
from fake_api import FakeApi
from pkg import api_paths, client, errors, settings, sources

LINES = """
..
../admin
/../admin
/a/../../admin
/a/..
/..;/admin
/a/..;x=1/admin
/;/../admin
/a;b/../admin
/..;%2fadmin
/..%3b/admin
/%2e%2e/admin
/%2E%2e%2fadmin
/.%2e/admin
/%2e%2e%3b/admin
/%252e%252e/admin
/%252e%252e%252fadmin
/%25252e%25252e/admin
/%25252525252525252e./admin
/a%2f..%2f../admin
/a%2f%2e%2e/admin
/..\\admin
/a\\..\\..\\admin
/..%5cadmin
/..%255cadmin
/..%3f/admin
/..%23/admin
/../admin?x=/items
/.%00./admin
/.%09./admin
/%0a../admin
/..%00/admin
/..%20/admin
/.%20./admin
/.%E2%80%8B./admin
/a%00b
/a%0d%0aHost:%20evil.example
/．．/admin
/%EF%BC%8E%EF%BC%8E/admin
/‥/admin
/․․/admin
/％2e％2e/admin
/a／..／admin
/..；/admin
/%c0%ae%c0%ae/admin
/%c0%2e/admin
/%e0%80%ae%e0%80%ae/admin
/%ff
/%u002e%u002e/admin
/.../admin
//evil.example/items
//user@evil.example/items
//items/1
/\\evil.example
\\\\evil.example
https://evil.example/v1/items
HTTPS://evil.example/
http:evil.example
http:/evil.example
https:///items
javascript:alert(1)
file:///etc/passwd
@evil.example
user@evil.example/items
user:pw@evil.example/items
evil.example:80/items
/items/1#/private
/items#
#
"""
AWAY = LINES.split()

BELOW: dict[str, str] = {
    "": "/v1/",
    "/": "/v1/",
    "/items/1": "/v1/items/1",
    "items/1": "/v1/items/1",
    "/items/a..b": "/v1/items/a..b",
    "/items/..hidden": "/v1/items/..hidden",
    "/items/.well-known": "/v1/items/.well-known",
    "/items/v1..": "/v1/items/v1..",
    "/x;y=1": "/v1/x;y=1",
    "/%E2%82%AC": "/v1/%E2%82%AC",
    "/€/ü": "/v1/%E2%82%AC/%C3%BC",
    "/a%20b": "/v1/a%20b",
    "/a b": "/v1/a%20b",
    "/files/a%2Fb": "/v1/files/a%2Fb",
    "/C%23": "/v1/C%23",
    "/100%25": "/v1/100%25",
    "/a%2520b": "/v1/a%2520b",
    "/@user/posts": "/v1/@user/posts",
    "/items:search": "/v1/items:search",
    "/a//b": "/v1/a//b",
    "/items?next=../..&at=2026-01-01T00:00:00": "/v1/items?next=../..&at=2026-01-01T00:00:00",
    "?page=2": "/v1/?page=2",
    "/wiki/می‌خواهم": "/v1/wiki/%D9%85%DB%8C%E2%80%8C%D8%AE%D9%88%D8%A7%D9%87%D9%85",
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def api(fake_api: FakeApi) -> AsyncIterator[client.ApiClient]:
    """One for all: a client loads the certificates of the world, which takes a while."""
    environ = {"API_BASE_URL": fake_api.url, "MCP_SECRETS_DIR": "/nonexistent"}
    api = client.ApiClient(settings.Settings.load(sources.Sources(environ)))
    yield api
    await api.aclose()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)


@pytest.mark.anyio
@pytest.mark.parametrize("path", AWAY)
async def test_no_reading_of_a_path_leads_away(api: client.ApiClient, fake_api: FakeApi, path: str) -> None:
    before = len(fake_api.requests)
    with pytest.raises(errors.UpstreamError, match="leads away from the API's base URL"):
        await api.get_json(path)
    assert len(fake_api.requests) == before


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "sent"), BELOW.items())
async def test_a_path_below_is_sent_as_it_is(api: client.ApiClient, fake_api: FakeApi, path: str, sent: str) -> None:
    await api.get_json(path)
    target, _, query = fake_api.requests[-1][0].partition("?")
    assert target == sent.partition("?")[0]
    assert set(parse_qsl(sent.partition("?")[2])) <= set(parse_qsl(query))  # a key may travel there, too


@pytest.mark.anyio
async def test_a_whole_address_has_to_be_below_the_base_url(api: client.ApiClient, fake_api: FakeApi) -> None:
    await api.get_json(f"{fake_api.url}/items/2")
    assert fake_api.requests[-1][0].startswith("/v1/items/2")
    origin = fake_api.url.removesuffix("/v1")
    before = len(fake_api.requests)
    for address in (
        origin.replace("http://", "http://user:pw@") + "/v1/items",
        origin.replace("http://", "http://user@") + "/v1/items",
        origin.replace("http://", "https://") + "/v1/items",
        origin.replace("127.0.0.1", "localhost") + "/v1/items",
        origin.replace("127.0.0.1", "evil.127.0.0.1") + "/v1/items",
        origin.replace("127.0.0.1", "127.0.0.1.evil.example") + "/v1/items",
        origin.rpartition(":")[0] + "/v1/items",
        origin.rpartition(":")[0] + ":1/v1/items",
        origin + "/v1evil/items",
        origin + "/v1%2fitems",
        origin + "/V1/items",
        origin + "/v1",
        origin + "/admin",
        origin + "/v1/../admin",
        origin + "/v1/%2e%2e/admin",
    ):
        with pytest.raises(errors.UpstreamError, match="leads away"):
            await api.get_json(address)
    assert len(fake_api.requests) == before


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/\x00", "/a\nb", "/\ud800", "/" + "a" * 70000])
async def test_a_malformed_path_is_refused(api: client.ApiClient, fake_api: FakeApi, path: str) -> None:
    before = len(fake_api.requests)
    with pytest.raises(errors.UpstreamError, match="not a valid address"):
        await api.get_json(path)
    assert len(fake_api.requests) == before


def test_decoding_has_an_end() -> None:
    assert not api_paths.leads_away("/" + "%25" * 4 + "41")
    assert api_paths.leads_away("/%" + "25" * 100 + "41")
