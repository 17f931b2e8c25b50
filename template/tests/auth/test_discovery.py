"""Endpoints from metadata, and the attacks that travel in it (A1, A5-A8; see also test_transport.py); the provider profiles."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from .fake_provider import FakeProvider
from .package import (
    AuthError,
    AzureADOAuth,
    ConfigError,
    CustomOAuth,
    GitHubOAuth,
    GoogleOAuth,
    LoginRequired,
    OAuth2Config,
    OAuth2Flow,
    OAuth2Token,
    Reply,
    TransientAuthError,
    device_login,
    discovery,
    key_of,
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


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ("{0}/", "'{0}/', not '{0}'. They differ by a slash at the end: set oauth_issuer to the first."),
        ("{0}.evil.example", "'{0}.evil.example', not '{0}'."),
        ("{0}x\x1b[2J\u202e\ud800", "'{0}x[2J', not '{0}'."),
        ("https://id.ex\u0430mple", "'https://id.ex\\u0430mple', not '{0}'."),
        ("x" * 1000, "'" + "x" * 200 + "', not '{0}'."),
        (7, "'', not '{0}'."),
        (None, "none, not '{0}'."),
        (["{0}"], "'', not '{0}'."),
    ],
)
async def test_a1_another_issuer_is_shown_beside_the_configured_one(
    provider: FakeProvider, named: Any, shown: str
) -> None:
    provider.metadata = {"issuer": named.format(provider.base) if isinstance(named, str) else named}
    with pytest.raises(ConfigError) as caught:
        await discovering(provider).endpoints()
    assert caught.value.code == "issuer_mismatch"
    assert str(caught.value).endswith(shown.format(provider.base))
    assert str(caught.value).isprintable()


async def test_an_issuer_with_a_slash_is_found_and_compared_with_it(provider: FakeProvider) -> None:
    provider.metadata = {"issuer": provider.base + "/"}
    flow = CustomOAuth(provider.client_id, "s3cret", issuer=provider.base + "/")
    assert (await flow.endpoints()).token_url == f"{provider.base}/token"


PLACES = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"]
HTML = (200, {"Content-Type": "text/html"}, b"<!doctype html><title>Sign in</title>")
NOT_THERE: tuple[int, dict[str, str], bytes] = (404, {}, b"")
BETTER = {"authorization_endpoint": "https://id.example/elsewhere"}  # a document that is good, and another one


def document(p: FakeProvider, **changes: Any) -> bytes:
    return json.dumps(p.document() | changes).encode()


@pytest.mark.parametrize(
    "answer",
    [
        HTML,
        NOT_THERE,
        (500, {}, b'{"error": "server_error"}'),
        (503, {"Retry-After": "7"}, b""),
        (429, {}, b"{}"),
        (401, {}, b"{}"),
        (302, {"Location": "/elsewhere"}, b""),
        (308, {"Location": "/elsewhere"}, b"{}"),
        (200, {}, b""),
        (200, {}, b"[]"),
        (200, {"Content-Encoding": "gzip"}, b"{}"),
        (200, {}, b"{" + b" " * 1024 * 1024 + b"}"),
        (200, {}, {"issuer": "https://evil.example"}),
        (200, {}, {"code_challenge_methods_supported": ["plain"]}),
        (200, {}, {"code_challenge_methods_supported": None}),
        (200, {}, {"authorization_endpoint": "javascript:alert(1)"}),
        (200, {}, {"token_endpoint": "http://evil.example/token"}),
        (200, {}, {"token_endpoint": None}),
        (200, {}, {"require_pushed_authorization_requests": True}),
        (200, {}, {"token_endpoint_auth_methods_supported": ["private_key_jwt"]}),
        # A good document that was not served as one.
        (500, {}, BETTER),
        (302, {"Location": "/elsewhere"}, BETTER),
        (404, {}, BETTER),
    ],
)
async def test_no_answer_of_one_place_ends_the_search(provider: FakeProvider, answer: tuple[int, Any, Any]) -> None:
    status, headers, body = answer
    for poor in PLACES:
        provider.requests.clear()
        raw = body if isinstance(body, bytes) else document(provider, **body)
        provider.places = {poor: (status, headers, raw)}
        found = await discovering(provider).endpoints()
        assert found.authorization_url == f"{provider.base}/authorize"
        assert provider.requests == (PLACES if poor == PLACES[0] else PLACES[:1])


@pytest.mark.parametrize(
    ("answers", "kind", "code", "said"),
    [
        ([NOT_THERE, NOT_THERE], ConfigError, "no_metadata", "no metadata: 127.0.0.1 answered with HTTP 404"),
        ([NOT_THERE, HTML], ConfigError, "no_metadata", "something that is not JSON"),
        ([(302, {}, b""), NOT_THERE], ConfigError, "no_metadata", "HTTP 302"),
        ([NOT_THERE, (503, {"Retry-After": "7"}, b"{}")], TransientAuthError, "http_503", "Try again later"),
        ([(500, {}, b"{}"), HTML], TransientAuthError, "http_500", "Try again later"),
        ([{"issuer": "https://evil.example"}, (502, {}, b"")], TransientAuthError, "http_502", "another issuer"),
        ([(502, {}, b""), {"code_challenge_methods_supported": []}], TransientAuthError, "http_502", "S256"),
        ([{"issuer": "https://evil.example"}, NOT_THERE], ConfigError, "issuer_mismatch", "evil.example"),
        ([HTML, {"issuer": "https://evil.example"}], ConfigError, "issuer_mismatch", "evil.example"),
        (
            [{"issuer": "x"}, {"code_challenge_methods_supported": []}],
            ConfigError,
            "no_s256",
            "leave oauth_issuer empty",
        ),
        ([{"code_challenge_methods_supported": ["s256"]}, {"issuer": "x"}], ConfigError, "no_s256", "the two URLs"),
        ([{"token_endpoint": "http://x/"}, NOT_THERE], ConfigError, "bad_url", "token_endpoint"),
    ],
)
async def test_the_most_telling_of_the_answers_is_told(
    provider: FakeProvider, answers: list[Any], kind: type[AuthError], code: str, said: str
) -> None:
    for place, answer in zip(PLACES, answers, strict=True):
        provider.places[place] = answer if isinstance(answer, tuple) else (200, {}, document(provider, **answer))
    flow = CustomOAuth(provider.client_id, "s3cret", issuer=provider.base, name="127.0.0.1")
    with pytest.raises(kind, match=said) as caught:
        await flow.endpoints()
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert caught.value.retry_after == (7 if code == "http_503" else None)
    assert "\n" not in str(caught.value)


async def test_a_place_that_is_slow_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    assert discovery.PLACE_DEADLINE == 10
    monkeypatch.setattr(discovery, "PLACE_DEADLINE", 0.05)
    asked: list[str] = []

    async def send(method: str, url: str, headers: Any, body: bytes = b"", *, public_only: bool = False) -> Reply:
        asked.append(url)
        if len(asked) < 3:
            await asyncio.sleep(30)
        return Reply(200, JSON, json.dumps(DOCUMENT | {"issuer": "https://id.example/t"}).encode())

    assert (await asking("https://id.example/t", send).endpoints()).token_url == DOCUMENT["token_endpoint"]
    asked.clear()
    with pytest.raises(TransientAuthError):  # the first two only
        await asking("https://id.example", send).endpoints()


@pytest.mark.parametrize(
    ("demand", "said"),
    [("require_pushed_authorization_requests", "PAR"), ("require_signed_request_object", "JAR")],
)
async def test_a_demand_that_cannot_be_met_is_told_at_once(provider: FakeProvider, demand: str, said: str) -> None:
    provider.metadata = {demand: True}
    with pytest.raises(ConfigError, match=said):
        await discovering(provider).begin()
    for value in (False, None, "false"):
        provider.metadata = {demand: value}
        assert (await discovering(provider).begin()).url


@pytest.mark.parametrize(
    "name", ["authorization_endpoint", "token_endpoint", "userinfo_endpoint", "revocation_endpoint"]
)
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x", "https://localhost/x", "https://[::1]/x", "http://id.example/x"]
)
async def test_a7_metadata_from_elsewhere_names_nothing_on_this_machine(name: str, url: str) -> None:
    async def send(method: str, url: str, headers: Any, body: bytes = b"", *, public_only: bool = False) -> Reply:
        return Reply(200, JSON, json.dumps(document).encode())

    document = DOCUMENT | {name: url}
    with pytest.raises(ConfigError, match=name):
        await asking("https://id.example", send).endpoints()


@pytest.mark.parametrize(
    ("advertised", "configured", "iss"),
    [
        (True, "if_present", "required"),
        (True, "ignore", "ignore"),
        (False, "if_present", "if_present"),
        ("true", "if_present", "if_present"),
        (None, "required", "required"),
    ],
)
async def test_a5_an_issuer_that_promises_iss_has_to_send_it(
    provider: FakeProvider, advertised: Any, configured: str, iss: str
) -> None:
    provider.metadata = {"authorization_response_iss_parameter_supported": advertised}
    flow = CustomOAuth(provider.client_id, "s3cret", issuer=provider.base, iss=configured)
    assert (await flow.endpoints()).iss == iss


async def test_discovery_order_for_an_issuer_with_a_path() -> None:
    asked: list[str] = []

    async def send(method: str, url: str, headers: Any, body: bytes = b"", *, public_only: bool = False) -> Reply:
        asked.append(url)
        return Reply(404, {}, b"")

    for issuer in ("https://id.example/t/1", "https://id.example/t/1/"):
        asked.clear()
        with pytest.raises(ConfigError, match="no metadata"):
            await asking(issuer, send).endpoints()
        assert {urlsplit(url).netloc for url in asked} == {"id.example"}
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


DOCUMENT = {
    "issuer": "https://id.example",
    "authorization_endpoint": "https://id.example/a",
    "token_endpoint": "https://id.example/t",
    "code_challenge_methods_supported": ["S256"],
}
ENDPOINTS = {
    "token": "token_endpoint",
    "refresh": "token_endpoint",
    "device": "device_authorization_endpoint",
    "revoke": "revocation_endpoint",
    "github": "revocation_endpoint",
    "account": "userinfo_endpoint",
}


async def exchange(flow: OAuth2Flow, which: str) -> None:
    token = OAuth2Token("at", "rt")
    if which == "token":
        await flow.exchange_code("code", "v" * 43)
    elif which == "refresh":
        await flow.refresh_token("rt")
    elif which == "device":
        await device_login(flow, sleep=asyncio.sleep, monotonic=iter((0.0, 1e9)).__next__, tell=lambda _: None)
    elif which == "account":
        await flow.account(token)
    else:
        await flow.revoke(token)


@pytest.mark.parametrize("which", ENDPOINTS)
@pytest.mark.parametrize(
    ("endpoint", "public_only"),
    [
        ("https://other.example/x", True),
        ("https://id.example.evil.example/x", True),
        ("https://id.example:8443/x", True),
        ("https://169.254.169.254/x", True),
        ("https://id.example/x", False),
    ],
)
async def test_a7_a_discovered_host_elsewhere_has_to_be_public(which: str, endpoint: str, public_only: bool) -> None:
    seen: list[tuple[str, bool]] = []

    async def send(method: str, url: str, headers: Any, body: bytes = b"", *, public_only: bool = False) -> Reply:
        seen.append((url, public_only))
        found: dict[str, Any] = {"access_token": "a", "device_code": "d", "user_code": "u"}
        found["verification_uri"] = "https://id.example/device"
        if "well-known" in url:
            found = DOCUMENT | {ENDPOINTS[which]: endpoint}
        return Reply(200, JSON, json.dumps(found).encode())

    revocation = "github" if which == "github" else "rfc7009"
    config = OAuth2Config("c", client_secret="s", issuer="https://id.example", discover=True, revocation=revocation)
    with suppress(LoginRequired):  # the device's code runs out
        await exchange(OAuth2Flow(config, send=send), which)
    assert seen == [(f"https://id.example{PLACES[0]}", False), (endpoint, public_only)]


@pytest.mark.parametrize("which", ENDPOINTS)
async def test_a_configured_host_may_be_internal(which: str) -> None:
    seen: list[bool] = []

    async def send(method: str, url: str, headers: Any, body: bytes = b"", *, public_only: bool = False) -> Reply:
        seen.append(public_only)
        found = {"access_token": "a", "device_code": "d", "user_code": "u", "verification_uri": "https://id.example/d"}
        return Reply(200, JSON, json.dumps(found).encode())

    url = "https://intranet.example/x"
    urls = {f"{name}_url": url for name in ("authorization", "token", "device", "revocation", "userinfo")}
    with suppress(LoginRequired):
        await exchange(OAuth2Flow(OAuth2Config("c", **urls), send=send), which)  # type: ignore[arg-type]
    assert seen == [False]


ACCOUNT = b'{"name": "Bad credentials", "login": "x"}'


@pytest.mark.parametrize(
    ("status", "code"), [(401, "http_401"), (403, "http_403"), (302, "http_302"), (500, "http_500")]
)
async def test_an_account_is_believed_of_a_success_only(provider: FakeProvider, status: int, code: str) -> None:
    provider.metadata = {"userinfo_endpoint": f"{provider.base}/userinfo"}
    provider.places = {"/userinfo": (status, {"Content-Type": "application/json"}, ACCOUNT)}
    with pytest.raises(AuthError) as caught:
        await discovering(provider).account(OAuth2Token("at"))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("found", "account"),
    [
        ({"login": "ada", "email": "a@example.com", "sub": "1"}, "ada"),
        ({"login": None, "email": "a@example.com", "name": "Ada"}, "a@example.com"),
        ({"login": "", "email": 7, "userPrincipalName": "ada@corp", "name": "Ada"}, "ada@corp"),
        ({"login": "\x1b\ud800", "name": "A\x1bda", "sub": "1"}, "Ada"),
        ({"sub": "1"}, "1"),
        ({"id": 7}, ""),
    ],
)
async def test_an_account_is_the_first_name_that_can_be_shown(
    provider: FakeProvider, found: dict[str, Any], account: str
) -> None:
    provider.metadata = {"userinfo_endpoint": f"{provider.base}/userinfo"}
    provider.places = {"/userinfo": (200, {"Content-Type": "text/plain"}, json.dumps(found).encode())}
    assert await discovering(provider).account(OAuth2Token("at")) == account


def test_the_url_needs_the_endpoints(provider: FakeProvider) -> None:
    with pytest.raises(ConfigError, match=r"await flow\.endpoints"):
        discovering(provider).get_authorization_url()


def query_of(flow: OAuth2Flow) -> dict[str, str]:
    return {k: v[0] for k, v in parse_qs(urlsplit(flow.get_authorization_url()).query).items()}


def profile(config: OAuth2Config) -> dict[str, Any]:
    """What tells the built-in providers from the RFCs, and their addresses."""
    names = ("issuer", "authorization_url", "token_url", "device_url", "revocation_url", "userinfo_url")
    more = ("name", "secret_required", "iss", "revocation", "redirect_host", "discover", "token_endpoint_auth_method")
    return {name: getattr(config, name) for name in (*names, *more)}


RFC = {"secret_required": False, "iss": "if_present", "revocation": "rfc7009", "redirect_host": "127.0.0.1"}
RFC |= {"discover": False, "token_endpoint_auth_method": ""}


def test_google_profile() -> None:
    elsewhere = GoogleOAuth("c", base_url="https://Stand-In.example/").config
    assert elsewhere.token_url == "https://stand-in.example/token"
    flow = GoogleOAuth(client_id="c", client_secret="s", scopes=["openid"])
    query = query_of(flow)
    assert (query["access_type"], query["prompt"]) == ("offline", "consent")
    assert profile(flow.config) == RFC | {
        "name": "Google",
        "issuer": "https://accounts.google.com",
        "authorization_url": "https://accounts.google.com/o/oauth2/v2/auth",
        "token_url": "https://oauth2.googleapis.com/token",
        "device_url": "https://oauth2.googleapis.com/device/code",
        "revocation_url": "https://oauth2.googleapis.com/revoke",
        "userinfo_url": "https://openidconnect.googleapis.com/v1/userinfo",
        "secret_required": True,
        "iss": "required",
    }


def test_azure_profile() -> None:
    flow = AzureADOAuth("c", "common", ["User.Read"], base_url="https://Login.MicrosoftOnline.com:443/")
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
        good.removesuffix("/v2.0"),
        good.removeprefix("https://login.microsoftonline.com/"),
        "9188040d-6c67-4c5b-b112-36a304b66dad",
        good.replace("9188", "918"),
        good.replace("login.", "login.evil."),
        "https://login.microsoftonline.com/x/../y/v2.0",
        "/v2.0",
    ):
        assert not flow._issuer_matches(bad)
    base = "https://login.microsoftonline.com"
    assert profile(flow.config) == RFC | {
        "name": "Azure AD",
        "issuer": base + "/{tenantid}/v2.0",
        "authorization_url": f"{base}/common/oauth2/v2.0/authorize",
        "token_url": f"{base}/common/oauth2/v2.0/token",
        "device_url": f"{base}/common/oauth2/v2.0/devicecode",
        "revocation_url": "",
        "userinfo_url": "https://graph.microsoft.com/v1.0/me",
        "redirect_host": "localhost",
    }
    for bad in ("../evil", "", "a/b", ".a", "a b", "a" * 254, "common\n"):
        with pytest.raises(ConfigError):
            AzureADOAuth(client_id="c", tenant_id=bad)


GUID = "72f988bf-86f1-41af-91ab-2d7cd011db47"


@pytest.mark.parametrize(
    ("tenant", "issuing"),
    [
        (GUID, GUID),
        (GUID.upper(), GUID),
        ("consumers", "9188040d-6c67-4c5b-b112-36a304b66dad"),
        ("organizations", "{tenantid}"),
        ("contoso.com", "{tenantid}"),
        (f"{GUID}.example", "{tenantid}"),
    ],
)
def test_azure_tenants_and_who_may_answer_for_them(tenant: str, issuing: str) -> None:
    flow = AzureADOAuth("c", tenant, ["User.Read", "offline_access"], base_url="https://login.microsoftonline.us/")
    assert flow.config.issuer == f"https://login.microsoftonline.us/{issuing}/v2.0"
    assert flow.config.token_url == f"https://login.microsoftonline.us/{tenant}/oauth2/v2.0/token"
    assert flow.config.userinfo_url == ""  # of another cloud
    assert flow.config.scopes == ("User.Read", "offline_access")
    other = "00000000-86f1-41af-91ab-2d7cd011db47"
    assert flow._issuer_matches(f"https://login.microsoftonline.us/{other}/v2.0") == ("tenantid" in issuing)


@pytest.mark.parametrize(
    ("base", "plain", "api"),
    [
        ("https://github.com", "https://github.com", "https://api.github.com"),
        ("https://GitHub.com/", "https://github.com", "https://api.github.com"),
        ("https://github.com:443", "https://github.com", "https://api.github.com"),
        ("https://octocorp.ghe.com", "https://octocorp.ghe.com", "https://api.octocorp.ghe.com"),
        ("https://OctoCorp.GHE.com:443/", "https://octocorp.ghe.com", "https://api.octocorp.ghe.com"),
        ("https://octocorp.ghe.com:8443", "https://octocorp.ghe.com:8443", "https://octocorp.ghe.com:8443/api/v3"),
        *(
            (base, base, f"{base}/api/v3")
            for base in (
                "https://ghe.example",
                "https://ghe.example/Sub",
                "https://ghe.com",
                "https://octocorp.ghe.com.evil.example",
                "https://evilghe.com",
                "https://octocorp-ghe.com",
                "https://a.b.ghe.com",
                "https://octocorp.ghe.com/api.ghe.com",
                "https://github.com.evil.example",
            )
        ),
    ],
)
def test_github_where_its_api_is(base: str, plain: str, api: str) -> None:
    flow = GitHubOAuth(client_id="c", client_secret="s", scopes=["repo"], base_url=base)
    assert profile(flow.config) == RFC | {
        "name": "GitHub",
        "issuer": f"{plain}/login/oauth",
        "authorization_url": f"{plain}/login/oauth/authorize",
        "token_url": f"{plain}/login/oauth/access_token",
        "device_url": f"{plain}/login/device/code",
        "revocation_url": f"{api}/applications/c/token",
        "userinfo_url": f"{api}/user",
        "secret_required": True,
        "iss": "required" if plain == "https://github.com" else "if_present",
        "revocation": "github",
    }


@pytest.mark.parametrize(
    "base", ["http://octocorp.ghe.com", "https://u@octocorp.ghe.com", "octocorp.ghe.com", "https://["]
)
def test_a_base_url_has_to_be_plain(base: str) -> None:
    with pytest.raises(ConfigError, match="OAUTH_BASE_URL"):
        GitHubOAuth(client_id="c", base_url=base)


def test_custom_needs_endpoints() -> None:
    with pytest.raises(ConfigError, match="needs an issuer"):
        CustomOAuth(client_id="c")
    with pytest.raises(ConfigError, match="OAUTH_CLIENT_ID"):
        CustomOAuth(client_id="", issuer="https://a")


@pytest.mark.parametrize("host", ["evilid.example", "x.id.example", "id.example.evil", "id.example:8443"])
def test_a7_only_the_issuers_own_host_may_be_internal(host: str) -> None:
    flow = CustomOAuth("client-1", issuer="https://id.example")
    assert flow._guarded(f"https://{host}/token")
    assert not flow._guarded("https://id.example/token")


def test_each_client_and_issuer_has_a_record_of_its_own() -> None:
    flows = [
        CustomOAuth(client, issuer=f"https://{host}") for client in ("a", "b") for host in ("c.example", "d.example")
    ]
    assert len({key_of(flow) for flow in flows}) == 4


def test_a5_a_tenant_is_the_whole_guid() -> None:
    flow = AzureADOAuth("client-1")
    tenant = "11111111-2222-3333-4444-555555555555"
    assert flow._issuer_matches(f"https://login.microsoftonline.com/{tenant}/v2.0")
    assert not flow._issuer_matches(f"https://login.microsoftonline.com/{tenant}/evil/v2.0")
