"""The client of the upstream API: the credential on the way out, errors on the way back."""

from __future__ import annotations

import logging
import threading
from base64 import b64encode
from collections.abc import AsyncIterator

import httpx
import pytest
from conftest import VALUES
from fake_api import FakeApi
from pkg import answers, api_auth, client, errors, logs, settings, sources, version

pytestmark = pytest.mark.anyio


@pytest.fixture
async def api(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[client.ApiClient]:
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    environ = {"API_BASE_URL": fake_api.url, "API_TIMEOUT": "1", "MCP_SECRETS_DIR": "/nonexistent"}
    api = client.ApiClient(settings.Settings.load(sources.Sources(environ)))
    yield api
    await api.aclose()


async def test_the_credential_travels_as_answered(api: client.ApiClient, fake_api: FakeApi) -> None:
    assert await api.get_json("/items/1", params={"city": "Zürich"}) == {"path": "/items/1"}
    path, headers = fake_api.requests[-1]
    first, second = [*VALUES.values(), "", ""][:2]
    query = "city=Z%C3%BCrich"
    match answers.API_AUTH:
        case "header":
            assert headers[answers.API_AUTH_NAME.lower()] == first
        case "bearer":
            assert headers["authorization"] == f"Bearer {first}"
        case "basic":
            assert headers["authorization"] == "Basic " + b64encode(f"{first}:{second}".encode()).decode()
        case "query":
            query += f"&{answers.API_AUTH_NAME}={first}"
        case "none":
            assert "authorization" not in headers
        case _:
            assert headers["authorization"] == f"Bearer {[*VALUES.values()][-1]}"
    assert path == f"/v1/items/1?{query}"
    assert headers["user-agent"].startswith(f"{answers.COMMAND}/")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/status/401", "does not accept the credential"),
        ("/status/403", "may not do this"),
        ("/status/404", "nothing at that path"),
        ("/status/410", "nothing at that path"),
        ("/status/418", "answered 418: it does not accept this request"),
        ("/status/429", "Try again in 7 s"),
        ("/status/500", "it failed. Try again later"),
        ("/redirect", "a redirect, which is not followed"),
        ("/text", "not JSON (text/plain)"),
        ("/status/503", "it failed. Try again later"),
        ("/slow", "did not answer within 1 s"),
    ],
)
async def test_a_failure_is_one_line_that_says_what_to_do(api: client.ApiClient, path: str, said: str) -> None:
    with pytest.raises(errors.ServerError) as raised:
        await api.get_json(path)
    message = str(raised.value)
    # Where people sign in, a token that is refused is theirs to mend.
    assert said in message or (path == "/status/401" and f"Run: {answers.COMMAND} login" in message)
    assert "\n" not in message
    assert "sentinel" not in message


async def test_a_401_may_be_about_one_path(api: client.ApiClient) -> None:
    with pytest.raises(errors.ServerError) as raised:
        await api.get_json("/status/401")
    said = f"it refuses this path, or does not accept the credential. In that case: {answers.COMMAND}"
    assert str(raised.value) == f"The API answered 401: {said} {answers.MEND_COMMAND}"


async def test_an_api_that_is_down_is_named_by_host_only() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"cannot reach {request.url} with {request.headers}")

    environ = {"MCP_SECRETS_DIR": "/nonexistent", "API_BASE_URL": "https://api.example.com"}
    api = client.ApiClient(settings.Settings.load(sources.Sources(environ)), httpx.MockTransport(fail))
    api._client = httpx.AsyncClient(transport=httpx.MockTransport(fail), base_url="https://api.example.com")
    with pytest.raises(errors.UpstreamError) as raised:
        await api.get_json("/x")
    assert str(raised.value) == "The API at api.example.com could not be reached (ConnectError). Try again later."
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


async def test_a_redirect_is_not_followed(api: client.ApiClient, fake_api: FakeApi) -> None:
    """Not even to the same host: what answers there was not asked for."""
    fake_api.prepare("/moved", b"{}", 302, Location=f"{fake_api.url}/items/1")
    with pytest.raises(errors.UpstreamError, match="a redirect"):
        await api.get_json("/moved")
    assert fake_api.requests[-1][0].startswith("/v1/moved")


async def test_a_key_is_looked_up_for_each_request(
    api: client.ApiClient, fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    if answers.API_AUTH not in ("header", "bearer", "basic", "query"):
        return  # no key travels
    name = answers.AUTH_KEYS[0]
    for value in ("sentinel-before", "sentinel-after"):
        monkeypatch.setenv(name, value)
        await api.get_json("/items/1")
        sent = str(fake_api.requests[-1])
        second = VALUES[answers.AUTH_KEYS[1]] if answers.API_AUTH == "basic" else ""
        assert value in sent or b64encode(f"{value}:{second}".encode()).decode() in sent
    before = len(fake_api.requests)
    monkeypatch.delenv(name)
    with pytest.raises(errors.CredentialError, match=f"Missing required auth: {name}"):
        await api.get_json("/items/1")
    assert len(fake_api.requests) == before


async def test_an_address_that_holds_a_key_is_not_logged(
    api: client.ApiClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Outside our command line, as in `mcp run` or a notebook, nobody else quiets these."""
    for name in ("httpx", "httpcore", "httpx2", "httpcore2"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
        logging.getLogger(name).manager._clear_cache()  # type: ignore[attr-defined]
    caplog.set_level(logging.DEBUG)
    await api.get_json("/items/1")
    assert [it for it in caplog.records if it.name.startswith("http") and it.levelno < logging.WARNING] == []


async def test_closing_closes_the_network_and_the_next_request_opens_it_again(fake_api: FakeApi) -> None:
    closed: list[str] = []

    class Network(httpx.MockTransport):
        async def aclose(self) -> None:
            closed.append("network")

    environ = {"MCP_SECRETS_DIR": "/nonexistent", "API_BASE_URL": "https://api.example.com"}
    network = Network(lambda _: httpx.Response(200, content=b"[1]"))
    api = client.ApiClient(settings.Settings.load(sources.Sources(environ)), network)
    await api.aclose()
    for number in (1, 2):
        opened = api._client = api._open()
        opened.auth = httpx.Auth()
        assert await api.get_json("/x") == [1]
        await api.aclose()
        assert opened.is_closed
        assert api._client is None
        assert closed == ["network"] * number


async def test_what_every_request_says(api: client.ApiClient, fake_api: FakeApi) -> None:
    await api.request("GET", "/items/1", headers={"X-Own": "1"})
    headers = fake_api.requests[-1][1]
    assert headers["user-agent"] == f"{answers.COMMAND}/{version()}"
    assert (headers["accept"], headers["accept-encoding"], headers["x-own"]) == ("application/json", "gzip", "1")


SCHEMES = [
    (api_auth.HeaderAuth("X-Key", "A"), {"x-key": "value-a"}, ""),
    (api_auth.BearerAuth("A"), {"authorization": "Bearer value-a"}, ""),
    (api_auth.BasicAuth("A", "B"), {"authorization": "Basic " + b64encode(b"value-a:p\xc3\xa4ss").decode()}, ""),
    (api_auth.QueryAuth("key", "A"), {}, "key=value-a"),
]


@pytest.mark.parametrize(("scheme", "headers", "query"), SCHEMES, ids=["header", "bearer", "basic", "query"])
def test_each_scheme(scheme: api_auth.CredentialAuth, headers: dict[str, str], query: str) -> None:
    request = httpx.Request("GET", "https://api.example.com/x")
    scheme.apply(request, *["value-a", "päss"][: len(scheme._keys)])
    assert {key: request.headers[key] for key in headers} == headers
    assert request.url.query.decode() == query


@pytest.mark.parametrize("user", ["wort:", ":", "a:b"])
def test_a_user_with_a_colon_is_not_quoted(user: str) -> None:
    request = httpx.Request("GET", "https://api.example.com/x")
    with pytest.raises(errors.CredentialError) as raised:
        api_auth.BasicAuth("A", "B").apply(request, user, "x")
    assert "A contains a colon" in str(raised.value)
    assert user not in str(raised.value).removesuffix("Set it again.").replace("7617):", "") or user == ":"
    api_auth.BasicAuth("A", "B").apply(request, "user", "pass:word")


@pytest.mark.parametrize(("scheme", "headers", "query"), SCHEMES, ids=["header", "bearer", "basic", "query"])
def test_a_synchronous_client_is_signed_too(
    scheme: api_auth.CredentialAuth, headers: dict[str, str], query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"A": "value-a", "B": "päss"}
    monkeypatch.setattr(api_auth, "require_auth", values.__getitem__)
    seen: list[httpx.Request] = []

    def network(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(network), auth=scheme) as plain:
        plain.get("https://api.example.com/x")
    assert {key: seen[0].headers[key] for key in headers} == headers
    assert seen[0].url.query.decode() == query


@pytest.mark.parametrize(("scheme", "headers", "query"), SCHEMES, ids=["header", "bearer", "basic", "query"])
async def test_a_look_up_holds_up_no_other_call(
    scheme: api_auth.CredentialAuth, headers: dict[str, str], query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keyring may take three seconds, in which the event loop would stand still."""
    threads: list[threading.Thread] = []

    def slow(name: str) -> str:
        threads.append(threading.current_thread())
        return "value"

    monkeypatch.setattr(api_auth, "require_auth", slow)
    network = httpx.MockTransport(lambda _: httpx.Response(200))
    async with httpx.AsyncClient(transport=network, auth=scheme) as asynchronous:
        await asynchronous.get("https://api.example.com/x")
    assert threads
    assert threading.current_thread() not in threads


def test_a_parameter_of_that_name_gives_way_to_the_key() -> None:
    request = httpx.Request("GET", "https://api.example.com/x?key=another&a=1&key=third")
    api_auth.QueryAuth("key", "A").apply(request, "value-a")
    assert sorted(request.url.params.multi_items()) == [("a", "1"), ("key", "value-a")]


def test_a_credential_is_blotted_as_it_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_hidden", {})
    for value in ("sentinel-user", "sentinel-password", "sentinel/value é"):
        logs.hide(value)
    request = httpx.Request("GET", "https://api.example.com/x")
    api_auth.BasicAuth("A", "B").apply(request, "sentinel-user", "sentinel-password")
    api_auth.QueryAuth("key", "A").apply(request, "sentinel/value é")
    basic = request.headers["authorization"].removeprefix("Basic ")
    said = logs.blot(f"{basic} {request.url}")
    assert said.endswith(" https://api.example.com/x?key=***")
    assert not any(basic[start : start + 6] in said for start in range(len(basic) - 6))
