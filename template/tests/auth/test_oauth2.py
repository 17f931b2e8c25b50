"""The flow on the wire: bounded exchanges (A21), state, iss and PKCE (A4, A5, A6), and the guide's samples."""

from __future__ import annotations

import socket
import threading
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from .fake_provider import FakeProvider
from .package import (
    ConfigError,
    CustomOAuth,
    GitHubOAuth,
    LoginRequired,
    OAuth2Config,
    OAuth2Flow,
    PKCECodeVerifier,
    ProtocolError,
    TransientAuthError,
    transport,
)
from .support import flow_for

pytestmark = pytest.mark.anyio
JSON = {"content-type": "application/json"}


async def test_a21_bounded_in_size_encoding_time_and_no_redirects(provider: FakeProvider) -> None:
    flow = flow_for(provider)
    cases: list[tuple[tuple[int, dict[str, str], bytes], str]] = [
        ((200, JSON, b"x" * (1024 * 1024 + 1)), "too_large"),
        ((200, {**JSON, "Content-Encoding": "gzip"}, b"x"), "bad_encoding"),
        ((302, {"Location": f"{provider.base}/other"}, b""), "http_302"),
        ((307, {"Location": f"{provider.base}/other"}, b""), "http_307"),
    ]
    for fault, code in cases:
        provider.faults = [fault]
        with pytest.raises(ProtocolError) as caught:
            await flow.refresh_token("rt")
        assert caught.value.code == code
    assert set(provider.requests) == {"/token"}


@pytest.mark.parametrize("part", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"])
async def test_a21_slowloris_meets_the_deadline(part: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    connection.sendall(part)
                    for _ in range(100):
                        connection.sendall(b"X")
                        time.sleep(0.05)
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(TransientAuthError):
            await transport.send("POST", f"http://127.0.0.1:{server.getsockname()[1]}/", {}, deadline=0.5)
        assert time.monotonic() - began < 1.5


async def test_secret_by_basic_is_percent_encoded(provider: FakeProvider) -> None:
    provider.client_id, provider.client_secret = "a:b", "p%+/:é".replace("é", "e")
    body = provider.issue()
    flow = flow_for(provider, token_endpoint_auth_method="client_secret_basic")
    assert (await flow.refresh_token(body["refresh_token"])).access_token
    assert "client_secret" not in provider.posts[-1]


def redirect(**params: str) -> str:
    return urlencode(params)


async def test_a4_a5_state_then_iss_then_the_rest(provider: FakeProvider) -> None:
    flow = flow_for(provider)
    one, two = [await flow.begin("http://127.0.0.1:1/callback") for _ in range(2)]
    assert one.state != two.state
    iss = provider.base
    for state in ("", "x", two.state, one.state + "é", "\udcff"):
        with pytest.raises(ProtocolError, match="State mismatch") as caught:
            flow.read_redirect(
                one,
                redirect(
                    state=state.encode("utf-8", "replace").decode(),
                    code="SENTINEL",
                    error="SENTINEL",
                    iss=iss,
                ),
            )
        assert "SENTINEL" not in str(caught.value)
    for wrong in ({}, {"iss": iss + "/"}, {"iss": "https://evil.example"}):
        for rest in ({"code": "SENTINEL"}, {"error": "SENTINEL"}):
            with pytest.raises(ProtocolError) as caught:
                flow.read_redirect(one, redirect(state=one.state, **wrong, **rest))
            assert caught.value.code == "iss_mismatch"
            assert "SENTINEL" not in str(caught.value)
    with pytest.raises(ProtocolError, match="repeats"):
        flow.read_redirect(one, redirect(state=one.state, iss=iss, code="a") + "&code=b")
    with pytest.raises(LoginRequired, match="access_denied"):
        flow.read_redirect(one, redirect(state=one.state, iss=iss, error="access_denied"))
    assert flow.read_redirect(one, redirect(state=one.state, iss=iss, code="good")) == "good"


async def test_a6_no_downgrade_of_pkce(provider: FakeProvider) -> None:
    flow = flow_for(provider)
    for method in ("plain", "s256", "S256 ", "S512", ""):
        with pytest.raises(ConfigError):
            flow.get_authorization_url(code_challenge="x", code_challenge_method=method)
    request = await flow.begin("http://127.0.0.1:1/callback")
    _, headers = provider.authorize(urlsplit(request.url).query)
    code = parse_qs(urlsplit(headers["Location"]).query)["code"][0]
    with pytest.raises(LoginRequired, match="PKCE verification failed"):
        await flow.exchange_code(code, "w" * 43, request.redirect_uri)
    assert len(provider.posts) == 1  # never tried again without the verifier
    with pytest.raises(ProtocolError, match="PKCE verification failed"):
        await flow.exchange_code("code")


async def test_the_guides_flow(provider: FakeProvider) -> None:
    config = OAuth2Config(
        client_id=provider.client_id,
        client_secret="s3cret",
        authorization_url=f"{provider.base}/authorize",
        token_url=f"{provider.base}/token",
        scopes=["read", "write"],
        redirect_uri="http://localhost:8080/callback",
    )
    verifier = PKCECodeVerifier.generate()
    flow = OAuth2Flow(config)
    auth_url = flow.get_authorization_url(
        state="random-state-string",
        code_challenge=verifier.challenge,
        code_challenge_method="S256",
    )
    query = parse_qs(urlsplit(auth_url).query)
    provider.codes["AUTH_CODE"] = {k: v[0] for k, v in query.items()}
    tokens = await flow.exchange_code(code="AUTH_CODE", code_verifier=verifier.verifier)
    assert tokens.expires_in == 3600
    assert tokens.access_token not in repr(tokens)
    new_tokens = await flow.refresh_token(tokens.refresh_token)
    assert new_tokens.access_token != tokens.access_token
    assert await flow.revoke(new_tokens) is False  # no revocation endpoint configured


async def test_the_guides_github_sample(provider: FakeProvider) -> None:
    provider.style = "github"
    github = GitHubOAuth(
        client_id=provider.client_id,
        client_secret="s3cret",
        scopes=["read:user", "repo"],
        base_url=provider.base,
    )
    auth_url = github.get_authorization_url(redirect_uri="http://127.0.0.1:8080/callback")
    _, headers = provider.authorize(urlsplit(auth_url).query)
    code = parse_qs(urlsplit(headers["Location"]).query)["code"][0]
    tokens = await github.exchange_code(code)
    assert tokens.scopes == ("read:user", "repo")
    with pytest.raises(LoginRequired, match="bad_refresh_token"):
        await github.refresh_token("nonsense")
    assert await github.revoke(tokens) is True
    assert provider.revoked == [tokens.access_token]


async def test_the_guides_custom_sample(provider: FakeProvider) -> None:
    custom = CustomOAuth(
        name="MyProvider",
        authorization_url="https://auth.example.com/authorize",
        token_url=f"{provider.base}/token",
        client_id=provider.client_id,
        client_secret="s3cret",
        scopes=["custom:scope"],
    )
    assert "scope=custom%3Ascope" in custom.get_authorization_url()
    with pytest.raises(LoginRequired, match="MyProvider refused"):
        await custom.exchange_code("another code")
