"""Over HTTP: who is let in, and who is not."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from conftest import TOKEN, VALUES, ServerProcess
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from pkg import BEYOND, NEEDED, answers, cli
from pkg import health as health_command

Run = Callable[..., subprocess.CompletedProcess[str]]
Serve = Callable[..., ServerProcess]

PING = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
HEADERS = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def open_server(serve: Serve) -> ServerProcess:
    """On loopback, without tokens."""
    return serve()


@pytest.fixture(scope="module")
def closed_server(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> ServerProcess:
    """On every address, with a token, as in a container; and without credentials for the API."""
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"an-older-token-that-still-counts\n{TOKEN}\n")
    env = {"MCP_BEARER_TOKENS_FILE": str(path), "MCP_ALLOWED_HOSTS": "mcp.example.com"}
    server = serve("--host", "0.0.0.0", **env, **dict.fromkeys(VALUES, ""))
    server.url = server.url.replace("0.0.0.0", "127.0.0.1")
    return server


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_of_either_protocol_calls_tools(mode: str, open_server: ServerProcess) -> None:
    async with Client(f"{open_server.url}/mcp", mode=mode) as client:
        assert "health_check" in [tool.name for tool in (await client.list_tools()).tools]
        health = (await client.call_tool("health_check")).structured_content
        assert health is not None
        assert health["ready"] is True
        fetched = await client.call_tool("probe_fetch", {"path": "/items/1"})
        assert not fetched.is_error


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_with_a_token_calls_tools(mode: str, closed_server: ServerProcess) -> None:
    bearer = create_mcp_http_client(headers={"Authorization": f"Bearer {TOKEN}"})
    async with (
        bearer,
        Client(streamable_http_client(f"{closed_server.url}/mcp", http_client=bearer), mode=mode) as client,
    ):
        health = (await client.call_tool("health_check")).structured_content
        assert health is not None
        assert health["auth_config"] == dict.fromkeys(answers.AUTH_KEYS, "missing")


def test_without_a_token_there_is_a_challenge(closed_server: ServerProcess) -> None:
    refused = httpx.post(f"{closed_server.url}/mcp", json=PING, headers=HEADERS)
    assert refused.status_code == 401
    # No error code where no token was sent (RFC 6750, section 3.1).
    assert refused.headers["www-authenticate"] == f'Bearer realm="{answers.COMMAND}"'


@pytest.mark.parametrize(
    "sent", ["Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", f"Bearer  {TOKEN}", ""]
)
def test_with_a_wrong_token_there_is_an_error(closed_server: ServerProcess, sent: str) -> None:
    refused = httpx.post(f"{closed_server.url}/mcp", json=PING, headers={**HEADERS, "Authorization": sent})
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    assert TOKEN not in refused.text


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/", "/health/", "//health", "/ready/../mcp", "/openapi.json"])
def test_every_path_but_the_public_ones_asks_for_a_token(closed_server: ServerProcess, path: str) -> None:
    assert httpx.get(f"{closed_server.url}{path}").status_code == 401


@pytest.mark.parametrize("server", ["open_server", "closed_server"])
@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Host", "evil.example", 421),
        ("Host", "127.0.0.1.evil.example:80", 421),
        ("Host", "localhost.evil.example", 421),
        ("Origin", "https://evil.example", 403),
        ("Origin", "null", 403),
        ("Origin", "http://localhost.evil.example", 403),
    ],
)
def test_a9_a_rebound_name_or_a_foreign_page_is_refused(
    server: str, header: str, value: str, status: int, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(server).url
    headers = {**HEADERS, "Authorization": f"Bearer {TOKEN}", header: value}
    assert httpx.post(f"{url}/mcp", json=PING, headers=headers).status_code == status


def test_an_allowed_host_is_answered(closed_server: ServerProcess) -> None:
    for host in ("mcp.example.com", "mcp.example.com:8443", "localhost:1"):
        headers = {**HEADERS, "Authorization": f"Bearer {TOKEN}", "Host": host}
        assert httpx.post(f"{closed_server.url}/mcp", json=PING, headers=headers).status_code not in {401, 403, 421}


def test_health_and_readiness_are_public_and_name_names_only(
    open_server: ServerProcess, closed_server: ServerProcess
) -> None:
    for server in (open_server, closed_server):
        alive = httpx.get(f"{server.url}/health")
        assert (alive.status_code, alive.json()) == (200, {"status": "healthy"})
    assert httpx.get(f"{open_server.url}/ready").json() == {"status": "ready"}
    unready = httpx.get(f"{closed_server.url}/ready")
    if NEEDED:
        assert (unready.status_code, unready.json()["status"]) == (503, "not ready")
        reasons = unready.json()["reasons"]
        assert reasons[: len(answers.AUTH_KEYS)] == [f"{name}: missing" for name in answers.AUTH_KEYS]
        # Whoever can reach the port may read this: names, and no sentence that could hold a path.
        assert all(re.fullmatch(r"[\w-]+: (missing|unreadable)", reason) for reason in reasons)
    else:
        assert unready.status_code == 200


def test_the_health_command_tells_alive_from_ready(
    run: Run, open_server: ServerProcess, closed_server: ServerProcess
) -> None:
    ready = run("health", "--url", open_server.url)
    assert (ready.returncode, ready.stdout) == (0, "ready\n")
    port = closed_server.url.rpartition(":")[2]
    unready = run("health", MCP_PORT=port)
    if NEEDED:
        assert unready.returncode == 1
        assert unready.stderr.startswith("alive, not ready: ")
    assert run("health", "--alive", MCP_PORT=port).returncode == 0


@pytest.mark.parametrize(
    ("reasons", "code"), [(["sign-in: missing"], 0), (["A: unreadable", "sign-in: missing"], 1), (["A: missing"], 1)]
)
def test_a_container_may_wait_for_a_sign_in_and_for_nothing_else(reasons: list[str], code: int) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            alive = self.path == "/health"
            self.send_response(200 if alive else 503)
            self.end_headers()
            self.wfile.write(json.dumps({"status": "healthy"} if alive else {"reasons": reasons}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert health_command.check(url, alive_only=False, without_sign_in=True) == code
        assert health_command.check(url, alive_only=False) == 1
        assert health_command.check(url, alive_only=True) == 0
        server.shutdown()


def test_the_health_command_says_why_there_is_no_answer(run: Run) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        gone = run("health", "--url", f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert gone.returncode == 1
    assert "did not answer (Connection refused)" in gone.stderr
    assert run("health", "--url", "localhost").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "tokens", "code", "said"),
    [
        (["--host", "0.0.0.0"], "", 2, "Set MCP_BEARER_TOKENS, or bind 127.0.0.1"),
        ([], "weak", 2, "MCP_BEARER_TOKENS, token 1: at least 16"),
        (["--port", "TAKEN"], "", 1, "(Address already in use). Try another: "),
    ],
)
def test_a_refusal_at_start_is_one_line(
    arguments: list[str],
    tokens: str,
    code: int,
    said: str,
    open_server: ServerProcess,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {**BEYOND, "MCP_BEARER_TOKENS": tokens}.items():
        monkeypatch.setenv(name, value)
    port = open_server.url.rpartition(":")[2]
    returned = cli.main(["serve", "--http", *(port if it == "TAKEN" else it for it in arguments)])
    printed = capsys.readouterr()
    assert (returned, printed.out, printed.err.count("\n")) == (code, "", 1)
    assert said in printed.err


def test_tokens_that_cannot_be_read_let_nobody_in_until_they_can(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.mkdir()
    server = serve("--host", "0.0.0.0", MCP_BEARER_TOKENS_FILE=str(path))
    url = server.url.replace("0.0.0.0", "127.0.0.1")
    headers = {**HEADERS, "Authorization": f"Bearer {TOKEN}"}
    assert httpx.post(f"{url}/mcp", json=PING, headers=headers).status_code == 401
    assert httpx.get(f"{url}/ready").json()["reasons"] == ["MCP_BEARER_TOKENS: unreadable"]
    said = [line for line in server.log if "Not ready: " in line]
    assert len(said) == 1
    assert f"{path} is a directory, so MCP_BEARER_TOKENS cannot be read" in said[0]

    path.rmdir()
    path.write_text(f"{TOKEN}\n")
    deadline = time.monotonic() + 10
    while httpx.post(f"{url}/mcp", json=PING, headers=headers).status_code == 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert httpx.get(f"{url}/ready").status_code == 200


def test_sigterm_ends_it_with_success_and_no_secret_in_the_log(serve: Serve) -> None:
    server = serve(MCP_LOG_LEVEL="DEBUG", MCP_BEARER_TOKENS=TOKEN)
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "bytes", "version": "1"},
    }
    params = {"name": "probe_fetch", "arguments": {"path": "/x"}, "_meta": meta}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        **HEADERS,
        "Authorization": f"Bearer {TOKEN}",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "probe_fetch",
    }
    answered = httpx.post(f"{server.url}/mcp", json=call, headers=headers)
    assert answered.status_code == 200
    assert "/x" in answered.text
    assert server.stop() == 0
    log = "".join(server.log)
    assert "Traceback" not in log
    for secret in (TOKEN, *VALUES.values()):
        assert secret not in log
        assert secret not in answered.text
