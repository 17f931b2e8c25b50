"""Traces of requests whose URL holds the key.

With OpenTelemetry's instrumentation of httpx, each request becomes a span with its whole URL, and there is no setting
that leaves a parameter of ours out. So that instrumentation is told to look away, and the span is made here, without URL.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module

import httpx
from opentelemetry.trace import Span, SpanKind, StatusCode, get_tracer

from .api_auth import QueryAuth

_tracer = get_tracer(__name__)


class TracedQueryAuth(QueryAuth):
    """`QueryAuth`, with a span of its own around each request."""

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        async for signed in super().async_auth_flow(request):
            with _uninstrumented(), _span_without_url(signed) as span:
                response = yield signed
                span.set_attribute("http.response.status_code", response.status_code)
                if response.is_error:
                    _fail(span, str(response.status_code))


def _uninstrumented() -> AbstractContextManager[None]:
    try:
        utils = import_module("opentelemetry.instrumentation.utils")
    except ImportError:
        return nullcontext()  # what instruments httpx needs that package
    suppressed: AbstractContextManager[None] = utils.suppress_http_instrumentation()
    return suppressed


@contextmanager
def _span_without_url(request: httpx.Request) -> Iterator[Span]:
    attributes: dict[str, str | int] = {
        "http.request.method": request.method,
        "server.address": request.url.host,
        "server.port": request.url.port or 443,
    }
    with _tracer.start_as_current_span(request.method, kind=SpanKind.CLIENT, attributes=attributes) as span:
        try:
            yield span
        except GeneratorExit:  # how httpx ends the flow when no answer came
            _fail(span, "_OTHER")
            raise


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)
