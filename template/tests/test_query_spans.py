"""Traces of requests whose URL holds the key: the key is in none of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import httpx
import pytest
from conftest import VALUES
from fake_api import FakeApi
from opentelemetry.trace import NonRecordingSpan, SpanContext
from pkg import answers, api_auth, client, errors, query_spans, settings, sources

pytestmark = pytest.mark.anyio


class Recording(NonRecordingSpan):
    """A span that keeps what it is told."""

    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        super().__init__(SpanContext(1, 1, is_remote=False))
        self.name = name
        self.attributes = dict(attributes)
        self.told: list[object] = []
        self.ended = False

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.told.append((status, description))

    def record_exception(self, exception: BaseException, *rest: Any, **options: Any) -> None:
        self.told.append(str(exception))


class Tracer:
    """Stands for an exporter."""

    def __init__(self) -> None:
        self.spans: list[Recording] = []

    @contextmanager
    def start_as_current_span(self, name: str, kind: object, attributes: dict[str, Any]) -> Iterator[Recording]:
        span = Recording(name, attributes)
        self.spans.append(span)
        try:
            yield span
        finally:
            span.ended = True


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    tracer = Tracer()
    monkeypatch.setattr(query_spans, "_tracer", tracer)
    return tracer


@pytest.fixture
def looking_away(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Stands for the package that instruments httpx: [True] while that is told to look away."""
    state = [False]

    @contextmanager
    def suppress() -> Iterator[None]:
        state[0] = True
        try:
            yield
        finally:
            state[0] = False

    utils = ModuleType("opentelemetry.instrumentation.utils")
    utils.suppress_http_instrumentation = suppress  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation", ModuleType("opentelemetry.instrumentation"))
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    return state


@pytest.mark.parametrize("status", [200, 404, 500, None])
async def test_a_span_says_where_and_how_it_went_and_no_more(
    tracer: Tracer, looking_away: list[bool], status: int | None
) -> None:
    seen: list[tuple[bool, str]] = []

    def network(request: httpx.Request) -> httpx.Response:
        seen.append((looking_away[0], str(request.url)))
        if status is None:
            raise httpx.ConnectError(f"cannot reach {request.url}")
        return httpx.Response(status, content=b"{}")

    environ = {"API_BASE_URL": "https://api.example.com/v1", "MCP_SECRETS_DIR": "/nonexistent"}
    api = client.ApiClient(settings.Settings.load(sources.Sources(environ)), httpx.MockTransport(network))
    try:
        await api.get_json("/items/1")
    except errors.UpstreamError:
        assert status != 200
    [(away, url)] = seen
    assert away, "the instrumentation of httpx sees the key"
    assert not looking_away[0]
    assert VALUES[answers.AUTH_KEYS[0]] in url
    [span] = tracer.spans
    outcome: dict[str, object] = {} if status is None else {"http.response.status_code": status}
    if status != 200:
        outcome["error.type"] = str(status or "_OTHER")
        assert span.told
    assert (span.name, span.ended) == ("GET", True)
    assert span.attributes == {
        "http.request.method": "GET",
        "server.address": "api.example.com",
        "server.port": 443,
        **outcome,
    }
    assert "sentinel" not in str(span.told)
    await api.aclose()


async def test_it_works_without_the_package_that_instruments(tracer: Tracer, fake_api: FakeApi) -> None:
    environ = {"API_BASE_URL": fake_api.url, "MCP_SECRETS_DIR": "/nonexistent"}
    api = client.ApiClient(settings.Settings.load(sources.Sources(environ)))
    await api.get_json("/items/1")
    assert isinstance(api_auth.api_auth(fake_api.url), query_spans.TracedQueryAuth)
    assert tracer.spans[0].attributes["server.port"] == int(fake_api.url.rpartition(":")[2].partition("/")[0])
    await api.aclose()
