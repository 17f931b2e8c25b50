"""`health`: what it believes, and what it follows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pkg import errors, health, settings, sources

HEALTHY = {"status": "healthy"}


@contextmanager
def answering(answers: dict[str, tuple[int, bytes]], **headers: str) -> Iterator[str]:
    """A server that answers each path with a status and a body; its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b"{}"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(timeout=10)


def body(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (503, body(HEALTHY), "not alive: it answered 503\n"),
        (200, body({"status": "unhealthy"}), "not alive: it answered 200\n"),
        (200, body({"status": "HEALTHY"}), "not alive: it answered 200\n"),
        (200, body([HEALTHY]), "not alive: it answered 200\n"),
        (200, b"<html>healthy</html>", "not alive: it answered 200\n"),
        (200, b'{"status": "healthy", "more": "' + 70_000 * b"x" + b'"}', "not alive: it answered 200\n"),
        (404, body({"error": "sk-live"}), "not alive: it answered 404\n"),
    ],
)
def test_another_answer_than_health_is_not_alive(
    status: int, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({"/health": (status, content), "/ready": (200, b"{}")}) as url:
        assert health.check(url, alive_only=True) == 1
        assert health.check(url, alive_only=False) == 1
    assert capsys.readouterr() == ("", 2 * said)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_no_answer(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        answering({"/health": (200, body(HEALTHY)), "/ready": (200, b"{}")}) as other,
        answering({"/health": (status, b"")}, Location=f"{other}/health") as url,
    ):
        assert health.check(other, alive_only=False) == 0
        assert health.check(url, alive_only=True) == 1
    assert capsys.readouterr().err == f"not alive: it answered {status}\n"


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with answering({"/health": (200, body(HEALTHY)), "/ready": (200, b"{}")}) as url:
        assert health.check(f"{url}/any/path", alive_only=False) == 0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((503, body({"reasons": ["A: missing", "B: unreadable"]})), "A: missing; B: unreadable"),
        ((503, body({"reasons": ["\x1b]0;owned\x07 A\nB\u202e"]})), "]0;owned AB"),
        ((503, body({"reasons": "A"})), "it answered 503"),
        ((503, body({"reasons": [2000 * "x"]})), 1000 * "x"),
        ((503, b"not JSON"), "it answered 503"),
        ((404, b""), "it answered 404"),
        ((201, b"{}"), "it answered 201"),
    ],
)
def test_not_ready_is_said_in_one_printable_line(
    answer: tuple[int, bytes], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({"/health": (200, body(HEALTHY)), "/ready": answer}) as url:
        assert health.check(url, alive_only=False) == 1
        assert capsys.readouterr() == ("", f"alive, not ready: {said}\n")
        assert health.check(url, alive_only=True) == 0
        assert capsys.readouterr() == ("alive\n", "")


@pytest.mark.parametrize("port", ["99999", 30 * "9"])
def test_a_port_that_cannot_be_is_one_line_too(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert health.check(f"http://127.0.0.1:{port}", alive_only=True) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("url", ["", "localhost", "http://", "ftp://x", "http://a@b", "http://x y", "http://x:1@y"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(errors.UsageError, match=r"^--url is not an address"):
        health.check(url, alive_only=True)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:7"),
        ("::", "http://[::1]:7"),
        ("::1", "http://[::1]:7"),
        ("192.0.2.1", "http://192.0.2.1:7"),
    ],
)
def test_its_own_server_is_asked_where_it_listens(host: str, url: str) -> None:
    read = settings.Settings.load(sources.Sources({"MCP_SECRETS_DIR": "/none", "MCP_HOST": host, "MCP_PORT": "7"}))
    assert health.own_url(read) == url
