"""Endpoints from metadata, and the attacks that travel in it (A1, A5-A8; see also test_transport.py); the provider profiles."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from .fake_provider import FakeProvider
from .package import (
    AzureADOAuth,
    ConfigError,
    CustomOAuth,
    GitHubOAuth,
    GoogleOAuth,
    LoginRequired,
    OAuth2Config,
    OAuth2Flow,
    Reply,
)

pytestmark = pytest.mark.anyio
JSON = {"content-type": "application/json"}


def discovering(p: FakeProvider) -> CustomOAuth:
    return CustomOAuth(p.client_id, p.client_secret, ["read"], issuer=p.base)


def asking(issuer: str, send: Any) -> OAuth2Flow:
    return OAuth2Flow(OAuth2Config(client_id="c", issuer=issuer, discover=True), send=send)


async def test_discovery_signs_in_and_renews(provider: FakeProvider) -> None:
    flow = discovering(provider)
    request = await flow.begin("http://127.0.0.1:1/callback")
    status, headers = provider.authorize(urlsplit(request.url).query)
    assert status == 302
    code = flow.read_redirect(request, urlsplit(headers["Location"]).query)
    found = await flow.exchange_code(code, request.verifier, request.redirect_uri)
    assert (await flow.refresh_token(found.refresh_token)).access_token
    assert provider.requests.count("/.well-known/oauth-authorization-server") == 1
    assert (await flow.endpoints()).iss == "required"


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example"},
        {"code_challenge_methods_supported": ["plain"]},
        {"code_challenge_methods_supported": None},
        {"token_endpoint": "http://evil.example/token"},
        {"token_endpoint": 7},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"device_authorization_endpoint": "file:///x"},
    ],
)
async def test_a1_a5_a6_metadata_that_is_refused(provider: FakeProvider, change: dict[str, Any]) -> None:
    provider.metadata = change
    with pytest.raises(ConfigError):
        await discovering(provider).endpoints()


async def test_discovery_issuer_with_a_trailing_slash_is_another(provider: FakeProvider) -> None:
    provider.metadata = {"issuer": provider.base + "/"}
    with pytest.raises(ConfigError):
        await discovering(provider).endpoints()


async def test_discovery_order_for_an_issuer_with_a_path() -> None:
    asked: list[str] = []

    async def send(method: str, url: str, headers: Any, body: bytes = b"", *, public_only: bool = False) -> Reply:
        asked.append(url)
        return Reply(404, {}, b"")

    with pytest.raises(ConfigError, match="no metadata"):
        await asking("https://id.example/t/1", send).endpoints()
    assert [urlsplit(url).path for url in asked] == [
        "/.well-known/oauth-authorization-server/t/1",
        "/.well-known/openid-configuration/t/1",
        "/t/1/.well-known/openid-configuration",
    ]


async def test_a8_the_secret_goes_only_where_the_sign_in_went(provider: FakeProvider) -> None:
    """After a restart the stored endpoint is used: a swapped metadata document is not even read."""
    provider.metadata = {"token_endpoint": "https://evil.example/token"}
    body = provider.issue()
    assert (await discovering(provider).refresh_token(body["refresh_token"], f"{provider.base}/token")).access_token
    assert provider.requests == ["/token"]
    flow = discovering(provider)
    await flow.endpoints()
    with pytest.raises(LoginRequired, match="changed"):
        await flow.refresh_token("rt", f"{provider.base}/token")


async def test_a7_a_discovered_host_elsewhere_has_to_be_public() -> None:
    seen: list[tuple[str, bool]] = []
    document = {
        "issuer": "https://id.example",
        "authorization_endpoint": "https://id.example/a",
        "token_endpoint": "https://other.example/t",
        "code_challenge_methods_supported": ["S256"],
    }

    async def send(method: str, url: str, headers: Any, body: bytes = b"", *, public_only: bool = False) -> Reply:
        seen.append((url, public_only))
        return Reply(200, JSON, json.dumps(document if method == "GET" else {"access_token": "a"}).encode())

    await asking("https://id.example", send).exchange_code("code", "v" * 43)
    assert seen[-1] == ("https://other.example/t", True)


def test_the_url_needs_the_endpoints(provider: FakeProvider) -> None:
    with pytest.raises(ConfigError, match=r"await flow\.endpoints"):
        discovering(provider).get_authorization_url()


def query_of(flow: OAuth2Flow) -> dict[str, str]:
    return {k: v[0] for k, v in parse_qs(urlsplit(flow.get_authorization_url()).query).items()}


def test_google_profile() -> None:
    flow = GoogleOAuth(client_id="c", client_secret="s", scopes=["openid"])
    query = query_of(flow)
    assert (query["access_type"], query["prompt"], flow.config.iss) == ("offline", "consent", "required")


def test_azure_profile() -> None:
    flow = AzureADOAuth(client_id="c", tenant_id="common", scopes=["User.Read"])
    query = query_of(flow)
    assert query["scope"] == "User.Read offline_access"
    assert "resource" not in query
    assert flow.config.redirect_host == "localhost"
    good = "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"
    assert flow._issuer_matches(good)
    assert flow._issuer_matches(None)
    for bad in (
        good + "/",
        good.replace("https", "http"),
        "https://login.microsoftonline.com/x/../y/v2.0",
        "/v2.0",
    ):
        assert not flow._issuer_matches(bad)
    with pytest.raises(ConfigError):
        AzureADOAuth(client_id="c", tenant_id="../evil")


def test_github_profile() -> None:
    flow = GitHubOAuth(client_id="c", client_secret="s", scopes=["repo"], base_url="https://ghe.example")
    assert flow.config.userinfo_url == "https://ghe.example/api/v3/user"
    assert GitHubOAuth(client_id="c").config.iss == "required"


def test_custom_needs_endpoints() -> None:
    with pytest.raises(ConfigError):
        CustomOAuth(client_id="c")
    with pytest.raises(ConfigError, match="OAUTH_CLIENT_ID"):
        CustomOAuth(client_id="", issuer="https://a")
