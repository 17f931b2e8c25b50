"""PKCE, the strict parser, discovery, the provider profiles and the guide's samples."""

from __future__ import annotations

import json
import socket
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
    OAuth2Token,
    PKCECodeVerifier,
    ProtocolError,
    Reply,
    TransientAuthError,
    Transport,
    check_url,
    is_public_address,
    parse_token,
    s256,
)
from .support import flow_for

pytestmark = pytest.mark.anyio
JSON = {"content-type": "application/json"}


# -- PKCE


def test_pkce_rfc_7636_appendix_b() -> None:
    verifier = PKCECodeVerifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert verifier.challenge == s256(verifier.verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert verifier.method == "S256"
    assert verifier.verifier not in repr(verifier)


@pytest.mark.parametrize("bad", ["a" * 42, "a" * 129, "a" * 42 + "=", "a" * 42 + "é", "a" * 43 + "\n"])
def test_pkce_refuses_other_lengths_and_alphabets(bad: str) -> None:
    with pytest.raises(ValueError, match="43 to 128"):
        PKCECodeVerifier(bad)


def test_pkce_verifiers_are_distinct() -> None:
    assert len({PKCECodeVerifier.generate().verifier for _ in range(10_000)}) == 10_000
    assert PKCECodeVerifier("a" * 43).challenge != PKCECodeVerifier("~" * 128).challenge


# -- parser (what providers really send)


def token(body: Any, status: int = 200, kind: str = "application/json", **more: Any) -> OAuth2Token:
    raw = (
        body if isinstance(body, bytes) else json.dumps({"access_token": "abc", "token_type": "bearer"} | body).encode()
    )
    options: dict[str, Any] = {"what": "the code", "requested": ("read",), "sent_at": 1000.0} | more
    return parse_token(Reply(status, {"content-type": kind}, raw), "Fake", **options)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *((3600, 3600), ("28800", 28800), (59.9, 59), (1e300, 315360000)),
        *((None, None), (0, None), (-1, None), ("x", None), (True, None), ([], None), ("1e999", None)),
        ("9" * 5000, None),
    ],
)
def test_expires_in(value: Any, seconds: int | None) -> None:
    found = token({"expires_in": value})
    assert found.expires_in == seconds
    assert found.expires_at == (None if seconds is None else 1000.0 + seconds)


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        ("a b", ("a", "b")),
        ("repo,user", ("repo", "user")),
        ("", ()),
        (None, ("read",)),
        ("a\x1b[2J", ("a[2J",)),
    ],
)
def test_scope(scope: str | None, scopes: tuple[str, ...]) -> None:
    assert token({"scope": scope}).scopes == scopes


def test_token_type_and_refresh_token() -> None:
    assert token({"token_type": "BEARER"}).token_type == "Bearer"
    assert token({}, refresh_token="old").refresh_token == "old"
    assert token({"refresh_token": ""}, refresh_token="old").refresh_token == "old"
    assert token({"refresh_token": "new"}, refresh_token="old").refresh_token == "new"
    for kind in ("DPoP", "mac", 7, None):
        with pytest.raises(ProtocolError):
            token({"token_type": kind})


@pytest.mark.parametrize("bad", ["", None, 5, "a b", "a\r\nX: y", "a\x00", "é", "a" * 70000])
def test_a21_access_token_cannot_inject_a_header(bad: Any) -> None:
    with pytest.raises(ProtocolError):
        token({"access_token": bad})


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("invalid_grant", 400, LoginRequired),
        ("invalid_grant", 403, LoginRequired),
        ("bad_refresh_token", 200, LoginRequired),
        ("bad_verification_code", 200, LoginRequired),
        ("interaction_required", 400, LoginRequired),
        ("incorrect_client_credentials", 200, ConfigError),
        ("invalid_client", 401, ConfigError),
        ("redirect_uri_mismatch", 200, ConfigError),
        ("temporarily_unavailable", 400, TransientAuthError),
        ("invalid_grant", 503, TransientAuthError),
        ("invalid_grant", 429, TransientAuthError),
        ("something_new", 400, ProtocolError),
        ("<script>", 400, ProtocolError),
        (7, 400, ProtocolError),
    ],
)
def test_errors_count_whatever_the_status(code: Any, status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        token({"error": code, "error_description": "SENTINEL"}, status)
    assert "SENTINEL" not in str(caught.value)
    assert "<" not in str(caught.value)


def test_slack_says_ok_false() -> None:
    with pytest.raises(ProtocolError, match="invalid_code"):
        token({"ok": False, "error": "invalid_code"})


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\xfe", "application/json"),
        (b"[" * 1_000_000, "application/json"),
        (b"[1]", "application/json"),
        (b"<html>", "text/html"),
        (b"access_token=a&token_type=bearer", "text/plain"),
        (b"9" * 6000, "application/json"),
    ],
)
def test_a21_hostile_bodies_are_protocol_errors(body: bytes, kind: str) -> None:
    with pytest.raises(ProtocolError):
        token(body, kind=kind)


def test_form_bodies_are_read() -> None:
    kind = "application/x-www-form-urlencoded; charset=utf-8"
    assert token(b"access_token=abc&scope=repo%2Cuser&token_type=bearer", kind=kind).scopes == (
        "repo",
        "user",
    )


# -- the wire


def test_a21_bounded_in_size_encoding_time_and_no_redirects(provider: FakeProvider) -> None:
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
            flow.refresh_blocking("rt")
        assert caught.value.code == code
    assert set(provider.requests) == {"/token"}


@pytest.mark.parametrize("part", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"])
def test_a21_slowloris_meets_the_deadline(part: bytes) -> None:
    import threading
    import time

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
            Transport(deadline=0.5)("POST", f"http://127.0.0.1:{server.getsockname()[1]}/", {})
        assert time.monotonic() - began < 1.5


def test_secret_by_basic_is_percent_encoded(provider: FakeProvider) -> None:
    provider.client_id, provider.client_secret = "a:b", "p%+/:é".replace("é", "e")
    body = provider.issue()
    assert flow_for(provider, basic_auth=True).refresh_blocking(body["refresh_token"]).access_token
    assert "client_secret" not in provider.posts[-1]


# -- URLs, SSRF, discovery

BAD_URLS = [
    *(
        "javascript:alert(1)",
        "file:///etc/passwd",
        "data:text/html,x",
        "ms-msdt:/id",
        "--incognito",
        "-remote=x",
    ),
    *(
        "http://evil.example/",
        'https://a"&calc&',
        "https://a&calc/",
        "https://a/\r\nx",
        "https://u:p@a/",
        "https://",
    ),
    *(
        "https://a/\x1b",
        "HTTPS:\\\\a",
        "https://a/'; rm\t-rf",
        "//a",
        "",
        "https://a:0/",
        "https://[::1",
        "https://a/%20|x",
    ),
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a1_odd_urls_are_never_opened_or_called(url: str) -> None:
    from .package import open_browser

    opened: list[str] = []
    with pytest.raises(ConfigError) as caught:
        open_browser(url, opened.append)
    assert opened == []
    assert not url or url not in str(caught.value)
    with pytest.raises(ConfigError):
        OAuth2Config(client_id="c", authorization_url=url, token_url="https://a/t")


def test_a1_a_plain_url_is_opened_once() -> None:
    import time

    from .package import open_browser

    opened: list[str] = []
    open_browser("https://example.com/authorize?a=b&c=%20d", opened.append)
    time.sleep(0.05)
    assert opened == ["https://example.com/authorize?a=b&c=%20d"]
    assert check_url("http://[::1]:80/x", "x").port == 80


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::ffff:127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "224.0.0.1",
        "10.0.0.1",
        "0.0.0.0",
        "fe80::1%eth0",
        "::1",
        "fc00::1",
        "ff02::1",
        "2001::1",
        "::7f00:1",
    ],
)
def test_a7_addresses_that_are_not_public(address: str) -> None:
    assert not is_public_address(address)


def test_a7_public_addresses() -> None:
    assert all(map(is_public_address, ("8.8.8.8", "2606:4700::1", "64:ff9b::808:808")))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "[::ffff:127.0.0.1]"])
def test_a7_spelled_otherwise_is_refused_at_connect_time(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Transport()("GET", f"https://{host}:1/", {}, public_only=True)
    assert caught.value.code == "not_public"


def test_a7_rebinding_cannot_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is looked up once, and one bad address among good ones is enough to refuse."""
    answers: list[list[str]] = [["8.8.8.8", "127.0.0.1"]]

    def look_up(*args: Any, **more: Any) -> Any:
        return [(2, 1, 6, "", (a, 443)) for a in answers.pop()]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(ConfigError):
        Transport()("GET", "https://evil.example/", {}, public_only=True)


def discovering(p: FakeProvider, send: Any = None) -> CustomOAuth:
    return CustomOAuth(p.client_id, p.client_secret, ["read"], issuer=p.base, **({"send": send} if send else {}))


def test_discovery_signs_in_and_renews(provider: FakeProvider) -> None:
    flow = discovering(provider)
    request = flow.begin("http://127.0.0.1:1/callback")
    status, headers = provider.authorize(urlsplit(request.url).query)
    assert status == 302
    code = flow.read_redirect(request, urlsplit(headers["Location"]).query)
    found = flow.exchange_code_blocking(code, request.verifier, request.redirect_uri)
    assert flow.refresh_blocking(found.refresh_token or "").access_token
    assert provider.requests.count("/.well-known/oauth-authorization-server") == 1
    assert flow.endpoints().iss == "required"


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
def test_a1_a5_a6_metadata_that_is_refused(provider: FakeProvider, change: dict[str, Any]) -> None:
    provider.metadata = change
    with pytest.raises(ConfigError):
        discovering(provider).get_authorization_url()


def test_discovery_issuer_with_a_trailing_slash_is_another(provider: FakeProvider) -> None:
    provider.metadata = {"issuer": provider.base + "/"}
    with pytest.raises(ConfigError):
        discovering(provider).get_authorization_url()


def test_discovery_order_for_an_issuer_with_a_path() -> None:
    asked: list[str] = []

    def send(method: str, url: str, headers: Any, body: bytes = b"", *, public_only: bool = False) -> Reply:
        asked.append(url)
        return Reply(404, {}, b"")

    with pytest.raises(ConfigError, match="no metadata"):
        CustomOAuth("c", issuer="https://id.example/t/1", send=send).get_authorization_url()
    assert [urlsplit(url).path for url in asked] == [
        "/.well-known/oauth-authorization-server/t/1",
        "/.well-known/openid-configuration/t/1",
        "/t/1/.well-known/openid-configuration",
    ]


def test_a8_the_secret_goes_only_where_the_sign_in_went(provider: FakeProvider) -> None:
    """After a restart the stored endpoint is used: a swapped metadata document is not even read."""
    provider.metadata = {"token_endpoint": "https://evil.example/token"}
    body = provider.issue()
    assert discovering(provider).refresh_blocking(body["refresh_token"], f"{provider.base}/token").access_token
    assert provider.requests == ["/token"]
    flow = discovering(provider)
    flow.endpoints()
    with pytest.raises(LoginRequired, match="changed"):
        flow.refresh_blocking("rt", f"{provider.base}/token")


def test_a7_a_discovered_host_elsewhere_has_to_be_public() -> None:
    seen: list[tuple[str, bool]] = []
    document = {
        "issuer": "https://id.example",
        "authorization_endpoint": "https://id.example/a",
        "token_endpoint": "https://other.example/t",
        "code_challenge_methods_supported": ["S256"],
    }

    def send(method: str, url: str, headers: Any, body: bytes = b"", *, public_only: bool = False) -> Reply:
        seen.append((url, public_only))
        return Reply(200, JSON, json.dumps(document if method == "GET" else {"access_token": "a"}).encode())

    flow = CustomOAuth("c", issuer="https://id.example", send=send)
    flow.exchange_code_blocking("code", "v" * 43)
    assert seen[-1] == ("https://other.example/t", True)


# -- state, iss, PKCE at the flow


def redirect(**params: str) -> str:
    from urllib.parse import urlencode

    return urlencode(params)


def test_a4_a5_state_then_iss_then_the_rest(provider: FakeProvider) -> None:
    flow = flow_for(provider)
    one, two = flow.begin("http://127.0.0.1:1/callback"), flow.begin("http://127.0.0.1:1/callback")
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


def test_a6_no_downgrade_of_pkce(provider: FakeProvider) -> None:
    flow = flow_for(provider)
    with pytest.raises(ConfigError):
        flow.get_authorization_url(code_challenge="x", code_challenge_method="plain")
    request = flow.begin("http://127.0.0.1:1/callback")
    _, headers = provider.authorize(urlsplit(request.url).query)
    code = parse_qs(urlsplit(headers["Location"]).query)["code"][0]
    with pytest.raises(LoginRequired, match="PKCE verification failed"):
        flow.exchange_code_blocking(code, "w" * 43, request.redirect_uri)
    assert len(provider.posts) == 1  # never tried again without the verifier
    with pytest.raises(ProtocolError, match="PKCE verification failed"):
        flow.exchange_code_blocking("code")


# -- provider profiles


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


# -- the guide's samples


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
        redirect_uri="http://127.0.0.1:8080/callback",
        base_url=provider.base,
    )
    auth_url = github.get_authorization_url()
    _, headers = provider.authorize(urlsplit(auth_url).query)
    code = parse_qs(urlsplit(headers["Location"]).query)["code"][0]
    tokens = await github.exchange_code(code)
    assert tokens.scopes == ("read:user", "repo")
    with pytest.raises(LoginRequired, match="bad_refresh_token"):
        await github.refresh_token("nonsense")
    assert await github.revoke(tokens) is True
    assert provider.revoked == [tokens.access_token]
