"""How the client proves itself, and what else it says: the same in every exchange with a provider."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from .fake_provider import FakeProvider
from .package import (
    ConfigError,
    CustomOAuth,
    GitHubOAuth,
    OAuth2Config,
    OAuth2Flow,
    OAuth2Token,
    TokenRecord,
    client_auth,
    device_login,
    key_of,
)
from .support import flow_for, manager_for, store_at

pytestmark = pytest.mark.anyio
POST, BASIC = "client_secret_post", "client_secret_basic"
LISTED = "token_endpoint_auth_methods_supported"
LISTED_FOR_REVOCATION = "revocation_endpoint_auth_methods_supported"


async def no_sleep(_seconds: float) -> None:
    """Devices need not be waited for."""


def discovering(p: FakeProvider, secret: str | None = "s3cret") -> OAuth2Flow:
    p.client_secret = secret
    p.metadata |= {"userinfo_endpoint": f"{p.base}/userinfo"}
    return CustomOAuth(p.client_id, secret, ["read"], issuer=p.base)


async def signed_in(flow: OAuth2Flow, p: FakeProvider) -> OAuth2Token:
    request = await flow.begin("http://127.0.0.1:1/callback")
    status, headers = p.authorize(urlsplit(request.url).query)
    assert status == 302, headers
    code = flow.read_redirect(request, urlsplit(headers["Location"]).query)
    return await flow.exchange_code(code, request.verifier, request.redirect_uri)


async def every_exchange(flow: OAuth2Flow, p: FakeProvider) -> None:
    token = await signed_in(flow, p)
    assert await flow.account(token) in ("ada", "")
    token = await flow.refresh_token(token.refresh_token)
    assert (await device_login(flow, sleep=no_sleep, tell=lambda _: None)).access_token
    assert await flow.revoke(token) is True
    assert p.revoked


def test_the_header_is_percent_encoded_as_a_form_is() -> None:
    sent = client_auth.basic("a:b/c~", "p%+/:&=").removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == "a%3Ab%2Fc~:p%25%2B%2F%3A%26%3D"


@pytest.mark.parametrize("method", [POST, BASIC])
async def test_by_urls_every_exchange_proves_itself_as_configured(provider: FakeProvider, method: str) -> None:
    provider.client_auth = (method,)
    await every_exchange(flow_for(provider, token_endpoint_auth_method=method), provider)
    provider.posts.clear()
    wrong = flow_for(provider, token_endpoint_auth_method=POST if method == BASIC else BASIC)
    for exchange in (wrong.exchange_code("code", "v" * 43), wrong.refresh_token("rt"), wrong.revoke("at")):
        with pytest.raises(ConfigError, match="invalid_client"):
            await exchange
    with pytest.raises(ConfigError, match="invalid_client"):
        await device_login(wrong, sleep=no_sleep, tell=lambda _: None)
    assert len(provider.posts) == 4  # never found out by trying: a code is good for one


async def test_by_urls_the_secret_is_in_the_body_unless_said_otherwise(provider: FakeProvider) -> None:
    provider.client_auth = (POST,)
    await every_exchange(flow_for(provider), provider)
    with pytest.raises(ConfigError, match=POST):
        flow_for(provider, token_endpoint_auth_method="private_key_jwt")
    with pytest.raises(ConfigError, match=POST):
        flow_for(provider, revocation_endpoint_auth_method="basic")


@pytest.mark.parametrize(
    ("listed", "method"),
    [
        ([POST, BASIC], POST),
        ([BASIC, POST], POST),
        ([BASIC], BASIC),
        (["private_key_jwt", BASIC], BASIC),
        (["none", POST], POST),
        (None, BASIC),
        ([], BASIC),
        (POST, BASIC),
    ],
)
async def test_with_an_issuer_its_metadata_decides(provider: FakeProvider, listed: Any, method: str) -> None:
    provider.metadata = {} if listed is None else {LISTED: listed}
    provider.client_auth = (method,)
    await every_exchange(discovering(provider), provider)


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (["private_key_jwt", "tls_client_auth"], "private_key_jwt or tls_client_auth"),
        (["client_secret_jwt"], "client_secret_jwt"),
        (["CLIENT_SECRET_POST", "client_secret_basic2"], "client_secret_basic2"),
        (["none"], "unset OAUTH_CLIENT_SECRET"),
        ([7, "a b\x1b"], "something unnamed"),
    ],
)
async def test_what_a_provider_wants_instead_is_said_before_the_consent(
    provider: FakeProvider, listed: list[Any], said: str
) -> None:
    provider.metadata = {LISTED: listed}
    with pytest.raises(ConfigError, match=said) as caught:
        await discovering(provider).begin("http://127.0.0.1:1/callback")
    assert str(caught.value).isprintable()
    assert provider.posts == []


@pytest.mark.parametrize("listed", [None, ["none"], [BASIC], ["private_key_jwt"]])
async def test_a_public_client_sends_its_id_in_the_body(provider: FakeProvider, listed: Any) -> None:
    provider.metadata = {LISTED: listed, LISTED_FOR_REVOCATION: listed}
    await every_exchange(discovering(provider, None), provider)
    assert all(post["client_id"] == provider.client_id and "client_secret" not in post for post in provider.posts)
    provider.posts.clear()
    await every_exchange(flow_for(provider, token_endpoint_auth_method=BASIC), provider)
    assert all(post["client_id"] == provider.client_id for post in provider.posts)


async def test_a_programs_own_word_counts_before_the_metadata(provider: FakeProvider) -> None:
    provider.metadata = {LISTED: ["private_key_jwt"]}
    provider.client_auth = (POST,)
    config = OAuth2Config(
        provider.client_id, client_secret="s3cret", issuer=provider.base, discover=True, token_endpoint_auth_method=POST
    )
    assert (await signed_in(OAuth2Flow(config), provider)).access_token


async def test_revocation_may_ask_for_another_way(provider: FakeProvider) -> None:
    provider.metadata = {LISTED: [POST], LISTED_FOR_REVOCATION: [BASIC]}
    flow = discovering(provider)
    token = await signed_in(flow, provider)
    provider.client_auth = (BASIC,)
    assert await flow.revoke(token) is True
    provider.metadata[LISTED_FOR_REVOCATION] = ["private_key_jwt"]
    provider.client_auth = (POST,)
    flow = discovering(provider)
    assert await flow.revoke(await signed_in(flow, provider)) is False  # signing in works without


async def test_a_revocation_that_was_refused_with_200_is_no_success(provider: FakeProvider) -> None:
    for body in (b'{"error": "invalid_client"}', b'{"ok": false, "error": "invalid_client"}'):
        provider.faults = [(200, {"Content-Type": "text/plain"}, body)]
        with pytest.raises(ConfigError, match="invalid_client"):
            await flow_for(provider).revoke("at")
    for body in (b"", b"OK", b'{"error": null}'):
        provider.faults = [(200, {}, body)]
        assert await flow_for(provider).revoke("at") is True


async def test_a_device_is_answered_with_nulls(provider: FakeProvider) -> None:
    empty = dict.fromkeys(("error", "error_description", "verification_uri", "interval", "expires_in"))
    answer = {"device_code": "dc", "user_code": "ABCD", "verification_url": f"{provider.base}/device", **empty}
    provider.faults = [(200, {"Content-Type": "text/html"}, json.dumps(answer).encode())]
    provider.devices["dc"] = []
    provider.more = {"error": None, "token_type": None, "scope": None}
    assert (await device_login(flow_for(provider), sleep=no_sleep, tell=lambda _: None)).access_token


@pytest.mark.parametrize("method", [POST, BASIC])
async def test_after_a_restart_it_is_as_at_the_sign_in(provider: FakeProvider, tmp_path: Any, method: str) -> None:
    """The metadata is not read again, neither to renew nor to sign out."""
    provider.client_auth = (method,)
    body = provider.issue()
    flow = discovering(provider)
    token_url = f"{provider.base}/token"
    record = TokenRecord("old", body["refresh_token"], time.time() - 1, token_url=token_url, token_auth=method)
    store = store_at(tmp_path)
    with store.lock(key_of(flow)):
        store.save(key_of(flow), record)
    assert await manager_for(provider, tmp_path, flow=flow).get_token() in provider.access
    assert await flow.revoke("at", f"{provider.base}/revoke", method) is True
    assert provider.requests == ["/token", "/revoke"]


async def test_every_request_says_who_asks(provider: FakeProvider) -> None:
    flow = discovering(provider)
    flow.user_agent = "demo/1.2"
    await every_exchange(flow, provider)
    assert len(provider.agents) == 7
    assert set(provider.agents) == {"demo/1.2"}
    github = GitHubOAuth(provider.client_id, "s3cret", base_url=provider.base)
    github.user_agent = "demo/1.3"
    assert await github.revoke("at") is True
    assert provider.agents[-1] == "demo/1.3"


# ---------------------------------------------------------------- parameters of the authorization request


def query_of(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query, keep_blank_values=True)


def asking(authorization_url: str, **params: str) -> OAuth2Flow:
    return CustomOAuth(
        "c",
        scopes=["read"],
        authorization_url=authorization_url,
        token_url="https://id.example/token",
        authorize_params=params,
    )


async def test_parameters_and_the_urls_own_query_are_sent(provider: FakeProvider) -> None:
    provider.required = {"audience": "https://api.example.com/", "prompt": "login consent", "tenant": "a&b", "x": "y z"}
    more = {"audience": "https://api.example.com/", "prompt": "login consent"}
    flow = flow_for(
        provider, authorization_url=f"{provider.base}/authorize?tenant=a%26b&x=y+z&prompt=none", authorize_params=more
    )
    assert (await signed_in(flow, provider)).access_token


OURS = {
    "response_type": "code",
    "client_id": "c",
    "redirect_uri": "http://127.0.0.1:1/callback",
    "scope": "read",
    "state": "s" * 43,
    "code_challenge": "x" * 43,
    "code_challenge_method": "S256",
}
NEVER = ("request", "request_uri", "response_mode", "client_secret", "code_verifier")


@pytest.mark.parametrize("name", [*OURS, *NEVER])
@pytest.mark.parametrize("spelt", [str, str.upper, str.title])
def test_none_of_ours_can_be_given_otherwise(name: str, spelt: Any) -> None:
    more = {spelt(name): "evil", "audience": "a"}
    for flow in (asking("https://id.example/a", **more), asking(f"https://id.example/a?audience=a&{spelt(name)}=evil")):
        url = flow.get_authorization_url("s" * 43, "x" * 43, redirect_uri="http://127.0.0.1:1/callback")
        assert sorted(query_of(url)) == sorted({**OURS, "audience": "a"}.items())


def test_none_of_ours_comes_from_elsewhere_where_it_is_left_away() -> None:
    flow = CustomOAuth(
        "c",
        authorization_url="https://id.example/a?scope=all",
        token_url="https://id.example/t",
        authorize_params={"redirect_uri": "https://evil.example", "scope": "all"},
    )
    found = parse_qs(urlsplit(flow.get_authorization_url()).query)
    assert not {"scope", "redirect_uri"} & found.keys()
