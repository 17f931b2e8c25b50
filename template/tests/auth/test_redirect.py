"""The request that opens the browser, and the redirect that answers it: state, issuer, error, code, in this order."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest

from .fake_provider import FakeProvider
from .package import (
    AuthError,
    ConfigError,
    LoginRequired,
    OAuth2Config,
    OAuth2Flow,
    OAuth2Token,
    PKCECodeVerifier,
    ProtocolError,
    TransientAuthError,
    transport,
)
from .support import flow_for

pytestmark = pytest.mark.anyio
HERE = "http://127.0.0.1:1/callback"
ISSUER = "https://id.example/a"


def flow(iss: str = "if_present", issuer: str = ISSUER, **more: Any) -> OAuth2Flow:
    config = OAuth2Config("c", "https://id.example/authorize", "https://id.example/t", issuer=issuer, iss=iss, **more)
    return OAuth2Flow(config)


async def read(it: OAuth2Flow, **params: str | None) -> str:
    request = await it.begin(HERE)
    return it.read_redirect(
        request, urlencode({"state": request.state} | {k: v for k, v in params.items() if v is not None})
    )


@pytest.mark.parametrize(
    ("iss", "given", "good"),
    [
        *((iss, ISSUER, True) for iss in ("required", "if_present", "ignore")),
        *((iss, None, iss != "required") for iss in ("required", "if_present", "ignore")),
        ("ignore", "https://evil.example", True),
        *(
            (iss, wrong, False)
            for iss in ("required", "if_present")
            for wrong in (
                "",
                ISSUER + "/",
                ISSUER[:-1],
                ISSUER + "b",
                ISSUER[:-1] + "b",
                ISSUER.upper(),
                "/a",
                " " + ISSUER,
            )
        ),
    ],
)
async def test_a5_the_issuer_of_a_redirect(iss: str, given: str | None, good: bool) -> None:
    if good:
        assert await read(flow(iss), code="good", iss=given) == "good"
    else:
        with pytest.raises(ProtocolError) as caught:
            await read(flow(iss), code="good", iss=given)
        assert caught.value.code == "iss_mismatch"


async def test_a5_without_a_configured_issuer_there_is_nothing_to_compare() -> None:
    assert await read(flow(issuer=""), code="good", iss="https://any.example") == "good"


@pytest.mark.parametrize(
    ("params", "kind", "code"),
    [
        ({"error": "access_denied", "code": "good"}, LoginRequired, "access_denied"),
        ({"error": "<script>", "code": "good"}, ProtocolError, "unknown_error"),
        ({"error": "temporarily_unavailable"}, TransientAuthError, "temporarily_unavailable"),
        ({"error": "invalid_scope"}, ConfigError, "invalid_scope"),
        ({"code": ""}, ProtocolError, "no_code"),
        ({}, ProtocolError, "no_code"),
        ({"error": ""}, ProtocolError, "no_code"),
        ({"state": "", "code": "good", "error": "access_denied"}, ProtocolError, "state_mismatch"),
        ({"iss": "https://evil.example", "error": "access_denied"}, ProtocolError, "iss_mismatch"),
        ({f"x{n}": "y" for n in range(20)}, ProtocolError, "bad_redirect"),
    ],
)
async def test_a3_what_a_redirect_says_in_which_order(params: dict[str, str], kind: type[AuthError], code: str) -> None:
    with pytest.raises(kind) as caught:
        await read(flow(), **params)
    assert (type(caught.value), caught.value.code) == (kind, code)


async def test_an_empty_error_is_none() -> None:
    assert await read(flow(), error="", error_description="", code="good") == "good"


async def test_a4_a_state_has_to_be_the_whole_state() -> None:
    it = flow()
    request = await it.begin(HERE)
    state = request.state
    other = "".join(chr(ord(char) ^ 1) for char in state)
    for wrong in (state[:-1], state + "x", state.swapcase(), other, state[1:], "", " " + state):
        for query in (urlencode({"state": wrong, "code": "x"}), urlencode({"State": state, "code": "x"}), "code=x"):
            with pytest.raises(ProtocolError) as caught:
                it.read_redirect(request, query)
            assert caught.value.code == "state_mismatch"
    for odd in (f"state={state}&code=a&code=a", f"state={state}&state={state}&code=a", "state=%ff", "a=%80"):
        with pytest.raises(ProtocolError) as caught:
            it.read_redirect(request, odd)
        assert caught.value.code == "bad_redirect"


async def test_each_request_has_a_state_and_a_verifier_of_its_own() -> None:
    asked: list[int] = []
    it = flow()
    requests = [await it.begin(HERE) for _ in range(50)]
    for values in ([r.state for r in requests], [r.verifier for r in requests]):
        assert len(set(values)) == 50
    assert {len(request.state) for request in requests} == {43}  # 256 bits
    assert {len(request.verifier) for request in requests} == {86}
    for request in requests:
        query = dict(parse_qsl(urlsplit(request.url).query))
        assert query["state"] == request.state
        assert query["code_challenge"] == PKCECodeVerifier(request.verifier).challenge
        assert query["redirect_uri"] == request.redirect_uri == HERE
        assert request.verifier not in request.url
        assert request.state not in repr(request)  # which is in the URL, too
        assert request.verifier not in repr(request)

    def random(size: int) -> str:
        asked.append(size)
        return "r" * 43

    assert (await OAuth2Flow(it.config, random=random).begin(HERE)).state == "r" * 43
    assert sorted(asked) == [32, 64]


def test_a_url_without_a_state_of_yours_has_one_of_its_own() -> None:
    it = flow()
    queries = [dict(parse_qsl(urlsplit(it.get_authorization_url()).query)) for _ in range(20)]
    for name in ("state", "code_challenge"):
        assert len({query[name] for query in queries}) == 20
        assert {len(query[name]) for query in queries} == {43}


async def test_the_code_goes_with_what_was_asked(provider: FakeProvider) -> None:
    it = flow_for(provider)
    url = it.get_authorization_url(redirect_uri=HERE)
    verifier = it._pending.verifier if it._pending else ""
    _, headers = provider.authorize(urlsplit(url).query)
    code = parse_qs(urlsplit(headers["Location"]).query)["code"][0]
    assert (await it.exchange_code(code)).access_token
    sent = {name: provider.posts[-1][name] for name in ("grant_type", "code", "code_verifier", "redirect_uri")}
    assert sent == {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": HERE}
    with pytest.raises(ProtocolError, match="no verifier"):  # used up
        await it.exchange_code(code)
    assert len(provider.posts) == 1


async def test_a_lifetime_counts_from_before_the_request(provider: FakeProvider) -> None:
    now = [1000.0]

    async def slow(*request: Any, **more: Any) -> Any:
        now[0] += 100
        return await transport.send(*request, **more)

    flow = flow_for(provider, clock=lambda: now[0], send=slow)
    found = await flow.refresh_token(provider.issue()["refresh_token"])
    assert found.expires_at == 1000.0 + 3600


async def test_a_provider_that_repeats_nothing_leaves_what_was_there(provider: FakeProvider) -> None:
    provider.rotate = False
    provider.more = {"scope": None}
    old = provider.issue()["refresh_token"]
    found = await flow_for(provider).refresh_token(old)
    assert (found.refresh_token, found.scopes) == (old, ("read", "write"))


def test_a1_a_url_that_no_browser_should_get_is_not_made() -> None:
    for more in ({"scopes": ["x" * 9000]}, {"authorize_params": {"a": "b" * 9000}}):
        with pytest.raises(ConfigError, match="authorization URL"):
            flow(**more).get_authorization_url()


async def test_without_a_refresh_token_nothing_is_asked(provider: FakeProvider) -> None:
    for nothing in (None, ""):
        with pytest.raises(LoginRequired) as caught:
            await flow_for(provider).refresh_token(nothing)
        assert caught.value.code == "no_refresh_token"
    assert provider.requests == []


@pytest.mark.parametrize("moved", ["/token/", "/Token", "/tokens", "/toke"])
async def test_a8_another_endpoint_than_that_of_the_sign_in_gets_nothing(provider: FakeProvider, moved: str) -> None:
    with pytest.raises(LoginRequired) as caught:
        await flow_for(provider).refresh_token("rt", provider.base + moved)
    assert caught.value.code == "endpoints_changed"
    assert provider.requests == []


async def test_the_refresh_token_is_revoked_where_there_is_one(provider: FakeProvider) -> None:
    for token, what in (
        (OAuth2Token("at", "rt"), ("rt", "refresh_token")),
        (OAuth2Token("at"), ("at", "access_token")),
        ("at2", ("at2", "access_token")),
    ):
        assert await flow_for(provider).revoke(token) is True
        assert (provider.posts[-1]["token"], provider.posts[-1]["token_type_hint"]) == what
    github = flow_for(provider, revocation="github", client_secret=None)
    assert await github.revoke("at") is False
    with pytest.raises(ProtocolError):
        await flow_for(provider, revocation="github", client_secret="wrong!").revoke("at")


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": ""},
        {"client_id": "a b"},
        {"client_id": "a\n"},
        {"client_id": "é"},
        {"client_secret": "a b"},
        {"client_secret": "a\x00"},
        {"authorization_url": "http://id.example/a"},
        {"token_url": "http://id.example/t"},
        {"device_url": "http://id.example/d"},
        {"revocation_url": "http://id.example/r"},
        {"userinfo_url": "http://id.example/u"},
        {"issuer": "http://id.example", "discover": True},
        {"authorization_url": ""},
        {"token_url": ""},
    ],
)
def test_a_configuration_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    good = {"client_id": "c", "authorization_url": "https://id.example/a", "token_url": "https://id.example/t"}
    assert OAuth2Config(**good)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        OAuth2Config(**good | wrong)
    assert (caught.value.code == "no_client_id") == (wrong.get("client_id") == "")
    assert "s3cret" not in repr(OAuth2Config(**good, client_secret="s3cret"))  # type: ignore[arg-type]
