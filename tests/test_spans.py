"""Traces: a server under `opentelemetry-instrument` exports what it does, and no credential."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from mcp import Client, StdioServerParameters
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Render = Callable[..., Path]

SECRET = "sentinel/key+of the API"  # looks different once it is encoded
SCHEMES: dict[str, dict[str, Any]] = {
    "header": {"auth_keys": "A_KEY"},
    "bearer": {"auth_keys": "A_KEY", "api_auth": "bearer"},
    "basic": {"auth_keys": "A_KEY B_KEY", "api_auth": "basic"},
    "query": {"auth_keys": "A_KEY", "api_auth": "query"},
    "none": {"auth_keys": "A_KEY", "api_auth": "none"},
    "oauth": {"auth_keys": "", "oauth_provider": "custom", "oauth_issuer": "https://auth.example.com"},
}
SPELLINGS = (SECRET, quote(SECRET, safe=""), quote(SECRET), SECRET.replace(" ", "+"), "sentinel")


class Sink:
    """The API and the collector of traces in one: keeps what each was sent."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.exported: list[bytes] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                sink.asked.append(f"{self.path} {list(self.headers.values())}")
                status = int(self.path.partition("?")[0].rpartition("/")[2])
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"https://elsewhere.invalid{self.path}")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def do_POST(self) -> None:
                sink.exported.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def spans(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and attributes of each span."""
        found = []
        for body in self.exported:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        attributes = {it.key: it.value.string_value or it.value.int_value for it in span.attributes}
                        found.append((span.name, attributes))
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


async def call(project: Path, sink: Sink) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "PYTHONPATH": str(project / "src"),
        "MCP_KEYRING": "off",
        "MCP_DATA_DIR": str(project / "data"),
        "API_BASE_URL": f"{sink.url}/v1",
        "A_KEY": SECRET,
        "B_KEY": SECRET,
        "OAUTH_CLIENT_ID": "a-client",
        "ACCESS_TOKEN": SECRET.replace(" ", "-"),
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup",  # the old names of attributes and the new ones
    }
    instrument = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    arguments = [sys.executable, "-m", "weather_api"]
    async with (
        asyncio.timeout(60),
        Client(StdioServerParameters(command=instrument, args=arguments, env=env)) as client,
    ):
        for status in (200, 302, 404, 500):
            result = await client.call_tool("fetch", {"path": f"/{status}"})
            assert result.is_error == (status != 200), result
        for _ in range(100):
            if [name for name, _ in sink.spans()].count("tools/call fetch") == 4:
                break
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_traces_hold_no_credential(render: Render, sink: Sink, scheme: str) -> None:
    project = render(server_name="Weather API", **SCHEMES[scheme])
    asyncio.run(call(project, sink))
    exported = b"".join(sink.exported).decode(errors="replace")
    basic = b64encode(f"{SECRET}:{SECRET}".encode()).decode()
    assert [it for it in (*SPELLINGS, basic) if it in exported] == []
    spelt = "sentinel" if scheme != "basic" else basic
    assert all(spelt in asked for asked in sink.asked) == (scheme != "none")

    spans = sink.spans()
    assert [name for name, _ in spans].count("tools/call fetch") == 4
    requests = [attributes for _, attributes in spans if "http.response.status_code" in attributes]
    assert [it["http.response.status_code"] for it in requests] == [200, 302, 404, 500]
    # The instrumentation of httpx was at work, but for the one scheme that has its own spans.
    assert all("url.full" in it for it in requests) == (scheme != "query")
    assert all(it["server.address"] == "127.0.0.1" for it in requests)
    assert not any("url.full" in it or "http.url" in it for it in requests if scheme == "query")
