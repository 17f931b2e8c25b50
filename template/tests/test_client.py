"""The client of the upstream API: the credential on the way out, errors on the way back."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator

import httpx
import pytest
from conftest import VALUES
from fake_api import FakeApi
from pkg import answers, api_auth, client, errors, settings, sources

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
        ("/status/418", "answered 418: it does not accept this request"),
        ("/status/429", "Try again in 7 s"),
        ("/status/500", "it failed. Try again later"),
        ("/redirect", "a redirect, which is not followed"),
        ("/text", "not JSON (text/plain)"),
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


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/",
        "HTTPS://evil.example/",
        "http://127.0.0.1:1/v1/",
        "../admin",
        "/../admin",
        "/a/../../admin",
        "/%2e%2e/admin",
        "/a%2f..%2f../admin",
        "/..\\admin",
    ],
)
async def test_a_path_cannot_carry_the_credential_elsewhere(
    api: client.ApiClient, fake_api: FakeApi, path: str
) -> None:
    before = len(fake_api.requests)
    with pytest.raises(errors.UpstreamError, match="leads away from the API's base URL"):
        await api.get_json(path)
    assert len(fake_api.requests) == before


async def test_a_malformed_path_is_refused(api: client.ApiClient) -> None:
    with pytest.raises(errors.UpstreamError, match="not a valid address"):
        await api.get_json("/\x00")


async def test_an_api_that_is_down_is_named_by_host_only() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"cannot reach {request.url} with {request.headers}")

    environ = {"MCP_SECRETS_DIR": "/nonexistent", "API_BASE_URL": "https://api.example.com"}
    api = client.ApiClient(settings.Settings.load(sources.Sources(environ)), httpx.MockTransport(fail))
    api._client = httpx.AsyncClient(transport=httpx.MockTransport(fail), base_url="https://api.example.com")
    with pytest.raises(errors.UpstreamError) as raised:
        await api.get_json("/x")
    assert str(raised.value) == "The API at api.example.com could not be reached (ConnectError). Try again later."


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


def test_a_value_that_cannot_be_sent_is_not_quoted() -> None:
    request = httpx.Request("GET", "https://api.example.com/x")
    with pytest.raises(errors.CredentialError) as header:
        api_auth.BearerAuth("A").apply(request, "wört")
    with pytest.raises(errors.CredentialError) as basic:
        api_auth.BasicAuth("A", "B").apply(request, "wort:", "x")
    assert "A contains" in str(header.value)
    assert "wört" not in str(header.value)
    assert "A contains a colon" in str(basic.value)
