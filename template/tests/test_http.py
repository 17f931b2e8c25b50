"""Over HTTP: who is let in, and who is not."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import TOKEN, VALUES, ServerProcess, a_hangup
from fake_api import FakeApi
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from pkg import BEYOND, NEEDED, answers, cli
from pkg import health as health_command
from pkg import server as server_module

Run = Callable[..., subprocess.CompletedProcess[str]]
Serve = Callable[..., ServerProcess]

HEADERS = {"Accept": "application/json, text/event-stream"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
HELLO = {
    **PING,
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "bytes", "version": "1"},
    },
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "bytes", "version": "1"},
}


def calling(tool: str, **arguments: str) -> dict[str, Any]:
    """A whole call of a tool, in one request of protocol 2026-07-28, as arguments of `httpx.post`."""
    return {
        "json": {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments, "_meta": META},
        },
        "headers": {
            **HEADERS,
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": tool,
        },
    }


def bearer(token: str) -> dict[str, str]:
    return {**HEADERS, "Authorization": f"Bearer {token}"}


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
        assert health["ready"] is not bool(NEEDED)
        assert health["problems"][: len(answers.AUTH_KEYS)] == [f"{name}: missing" for name in answers.AUTH_KEYS]


def test_without_a_token_there_is_a_challenge(closed_server: ServerProcess) -> None:
    refused = httpx.post(f"{closed_server.url}/mcp", json=PING, headers=HEADERS)
    assert refused.status_code == 401
    # No error code where no token was sent (RFC 6750, section 3.1).
    assert refused.headers["www-authenticate"] == f'Bearer realm="{answers.COMMAND}"'


@pytest.mark.parametrize(
    "sent",
    [
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {'x' * len(TOKEN)}",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer",
        f"Bearer  {TOKEN}",
        "",
    ],
)
def test_with_a_wrong_token_there_is_an_error(closed_server: ServerProcess, sent: str) -> None:
    refused = httpx.post(f"{closed_server.url}/mcp", json=PING, headers={**HEADERS, "Authorization": sent})
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    assert TOKEN not in refused.text


def test_on_loopback_tokens_that_are_set_are_asked_for(serve: Serve) -> None:
    server = serve(MCP_BEARER_TOKENS=TOKEN)
    call = calling("probe_fetch", path="/asked")
    assert httpx.post(f"{server.url}/mcp", **call).status_code == 401
    for token, status in ((TOKEN, 200), ("x" * len(TOKEN), 401)):
        call["headers"] |= bearer(token)
        assert httpx.post(f"{server.url}/mcp", **call).status_code == status


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "x-forwarded-host", "Via", "X-Real-Ip"])
def test_without_tokens_nothing_runs_for_a_request_that_a_proxy_passed_on(
    open_server: ServerProcess, fake_api: FakeApi, header: str
) -> None:
    call = calling("probe_fetch", path=f"/through/{header}")
    call["headers"][header] = "mcp.example.com"
    refused = httpx.post(f"{open_server.url}/mcp", **call)
    assert refused.status_code == 403
    assert "Set MCP_BEARER_TOKENS" in refused.json()["error_description"]
    assert not [path for path, _ in fake_api.requests if "/through/" in path]
    for public in ("/health", "/ready"):
        assert httpx.get(f"{open_server.url}{public}", headers={header: "mcp.example.com"}).status_code == 200


def test_tokens_that_appear_close_it_and_it_stays_closed_when_they_go(serve: Serve, tmp_path: Path) -> None:
    server = serve(MCP_SECRETS_DIR=str(tmp_path))
    path = tmp_path / "mcp_bearer_tokens"

    def status(token: str) -> int:
        call = calling("probe_noise")
        call["headers"] |= bearer(token)
        return httpx.post(f"{server.url}/mcp", **call).status_code

    assert status(TOKEN) == 200
    path.write_text(TOKEN)
    time.sleep(1)
    assert status("x" * len(TOKEN)) == 401
    assert status(TOKEN) == 200
    path.unlink()
    time.sleep(1)
    assert status(TOKEN) == 401


@pytest.mark.parametrize("readable", [True, False])
def test_tokens_that_vanish_before_the_first_request_let_nobody_in(
    serve: Serve, tmp_path: Path, readable: bool
) -> None:
    path = tmp_path / "mcp_bearer_tokens"
    path.write_bytes(TOKEN.encode() if readable else b"\xff")
    server = serve(MCP_SECRETS_DIR=str(tmp_path), MCP_ALLOWED_HOSTS="mcp.example.com", **BEYOND)
    path.unlink()
    assert httpx.post(f"{server.url}/mcp", **calling("probe_noise")).status_code == 401


def test_a_session_is_for_the_token_that_opened_it(closed_server: ServerProcess) -> None:
    url = f"{closed_server.url}/mcp"
    opened = httpx.post(url, json=HELLO, headers=bearer(TOKEN))
    assert opened.status_code == 200
    session = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"], "Mcp-Protocol-Version": "2025-11-25"}
    asked = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    for token, status in (("an-older-token-that-still-counts", 404), (TOKEN, 200)):
        assert httpx.post(url, json=asked, headers={**bearer(token), **session}).status_code == status


def test_sessions_have_a_bound(serve: Serve) -> None:
    assert server_module.MAX_SESSIONS == 1000
    small = serve(PROBE_MAX_SESSIONS="2")
    opened = [httpx.post(f"{small.url}/mcp", json=HELLO, headers=HEADERS).status_code for _ in range(3)]
    assert opened == [200, 200, 503]
    # Protocol 2026-07-28 has no sessions.
    assert httpx.post(f"{small.url}/mcp", **calling("probe_noise")).status_code == 200


def test_slow_tools_lock_nobody_out(serve: Serve, tmp_path: Path) -> None:
    server = serve(MCP_BEARER_TOKENS=TOKEN)
    slow, check = calling("probe_wait", folder=str(tmp_path)), calling("health_check")
    for call in (slow, check):
        call["headers"] |= bearer(TOKEN)

    def post(call: dict[str, Any], timeout: float) -> int:
        return httpx.post(f"{server.url}/mcp", timeout=timeout, **call).status_code

    with ThreadPoolExecutor(45) as pool:
        waiting = [pool.submit(post, slow, 40) for _ in range(45)]
        try:
            give_up = time.monotonic() + 20
            while len(list(tmp_path.iterdir())) < 40:
                assert time.monotonic() < give_up
                time.sleep(0.05)
            time.sleep(1)  # so that the tokens are read once more
            assert post(check, 10) == 200
            assert httpx.get(f"{server.url}/ready", timeout=10).status_code == 200
        finally:
            (tmp_path / "go").touch()
        assert [it.result() for it in waiting] == [200] * 45


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/", "/health/", "//health", "/ready/../mcp", "/openapi.json"])
def test_every_path_but_the_public_ones_asks_for_a_token(closed_server: ServerProcess, path: str) -> None:
    assert httpx.get(f"{closed_server.url}{path}").status_code == 401


def test_no_redirect_leads_from_https_to_http(closed_server: ServerProcess) -> None:
    for headers in (bearer(TOKEN), {**bearer(TOKEN), "Host": "evil.example"}):
        answer = httpx.post(f"{closed_server.url}/mcp/", json=PING, headers=headers)
        assert (answer.status_code, answer.headers.get("Location")) == (404, None)


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
        assert "server" not in alive.headers
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
    ("arguments", "env", "code", "said"),
    [
        (["--host", "0.0.0.0"], {}, 2, "Set MCP_BEARER_TOKENS, or bind 127.0.0.1"),
        (["--host", ""], {}, 2, "Set MCP_BEARER_TOKENS, or bind 127.0.0.1"),
        (
            [],
            {"MCP_ALLOWED_HOSTS": "mcp.example.com"},
            2,
            "Set MCP_BEARER_TOKENS, or keep to localhost in MCP_ALLOWED_H",
        ),
        (
            [],
            {"MCP_ALLOWED_ORIGINS": "https://a.example"},
            2,
            "Set MCP_BEARER_TOKENS, or keep to localhost in MCP_ALLO",
        ),
        ([], {"MCP_BEARER_TOKENS": "weak"}, 2, "MCP_BEARER_TOKENS, token 1: at least 16"),
        ([], {}, 1, "(Address already in use). Try another: "),
        (["--host", "a..b"], {"MCP_BEARER_TOKENS": TOKEN}, 1, "MCP_HOST, or --host, is no address of this machine. "),
    ],
)
def test_a_refusal_at_start_is_one_line(
    arguments: list[str],
    env: dict[str, str],
    code: int,
    said: str,
    open_server: ServerProcess,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {**BEYOND, **env}.items():
        monkeypatch.setenv(name, value)
    port = open_server.url.rpartition(":")[2]  # which is taken, so that nothing is served here in any case
    returned = cli.main(["serve", "--http", "--port", port, *arguments])
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
    assert any("MCP_ALLOWED_HOSTS is not set: only requests to localhost are answered" in line for line in server.log)

    path.rmdir()
    path.write_text("weak\n")
    assert httpx.get(f"{url}/ready").json()["reasons"] == ["MCP_BEARER_TOKENS: unreadable"]
    path.write_text(f"{TOKEN}\n")
    deadline = time.monotonic() + 10
    while httpx.post(f"{url}/mcp", json=PING, headers=headers).status_code == 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert httpx.get(f"{url}/ready").status_code == 200


def test_the_log_says_at_the_start_what_is_missing(closed_server: ServerProcess, open_server: ServerProcess) -> None:
    said = "".join(closed_server.log)
    missing = f"Not ready: Missing required auth: {', '.join(answers.AUTH_KEYS)}. Run: {answers.COMMAND} secrets files"
    assert said.count(missing) == bool(answers.AUTH_KEYS)
    assert ("Not ready" in said) is bool(NEEDED)
    assert not [line for line in open_server.log if "Not ready" in line]
    # One format, and no line for each request.
    assert all(re.match(r"[0-9-]{10} [0-9:,]{12} (INFO|WARNING) ", line) for line in open_server.log[:5])
    httpx.get(f"{open_server.url}/health")
    assert not [line for line in open_server.log if "GET /health" in line]
    for server in (closed_server, open_server):
        assert not [line for line in server.log if "MCP_ALLOWED_HOSTS is not set" in line]


def test_sigterm_ends_it_with_success_and_no_secret_in_the_log(serve: Serve) -> None:
    server = serve(MCP_LOG_LEVEL="DEBUG", MCP_BEARER_TOKENS=TOKEN)
    call = calling("probe_fetch", path="/x")
    call["headers"] |= bearer(TOKEN)
    answered = httpx.post(f"{server.url}/mcp", **call)
    assert answered.status_code == 200
    assert "/x" in answered.text
    assert server.stop() == 0
    log = "".join(server.log)
    assert "Traceback" not in log
    for secret in (TOKEN, *VALUES.values()):
        assert secret not in log
        assert secret not in answered.text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_that_comes_before_uvicorn_listens_ends_it_too(number: str, process_env: dict[str, str]) -> None:
    early = f"import gc, os, signal; gc.freeze = lambda: os.kill(os.getpid(), signal.{number})"
    serve = f"import sys; from {cli.__name__} import main; sys.exit(main(['serve', '--http', '--port', '0']))"
    env = {**process_env, "MCP_BEARER_TOKENS": TOKEN}
    ended = subprocess.run([sys.executable, "-c", f"{early}\n{serve}"], env=env, capture_output=True, timeout=20)
    assert ended.returncode == 0
    assert b"Serving http://" in ended.stderr
    assert b"Traceback" not in ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_a_terminal_that_closes_ends_it_with_success_unless_nohup_says_otherwise(serve: Serve) -> None:
    with a_hangup(signal.SIG_IGN):
        kept = serve()
    with a_hangup(signal.SIG_DFL):
        ended = serve()
    for server in (kept, ended):
        server.process.send_signal(signal.SIGHUP)
    assert ended.process.wait(15) == 0
    assert httpx.get(f"{kept.url}/health").status_code == 200
    assert kept.stop() == 0


def test_collections_of_garbage_leave_out_what_was_loaded(open_server: ServerProcess) -> None:
    answer = httpx.post(f"{open_server.url}/mcp", **calling("probe_frozen"))
    assert answer.json()["result"]["structuredContent"]["result"] > 10_000


def test_a_call_under_way_ends_after_sigterm(serve: Serve, tmp_path: Path) -> None:
    assert server_module.GRACE_SECONDS == 10
    process = serve()
    with ThreadPoolExecutor(1) as pool:
        call = calling("probe_wait", folder=str(tmp_path))
        answer = pool.submit(httpx.post, f"{process.url}/mcp", timeout=20, **call)
        give_up = time.monotonic() + 10
        while not list(tmp_path.iterdir()):
            assert time.monotonic() < give_up
            time.sleep(0.02)
        process.process.terminate()
        time.sleep(0.3)
        (tmp_path / "go").touch()
        assert answer.result().status_code == 200
    assert process.process.wait(10) == 0


def test_a_call_that_does_not_end_holds_nothing_up(serve: Serve, fake_api: FakeApi) -> None:
    process = serve(PROBE_GRACE_SECONDS="0.2")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(httpx.post, f"{process.url}/mcp", timeout=20, **calling("probe_fetch", path="/slow"))
        give_up = time.monotonic() + 10
        while not [path for path, _ in fake_api.requests if path.startswith("/v1/slow")]:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        began = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began < 4  # the API takes 5
        call.exception()


PAGE = "https://app.example.com"


@pytest.fixture(scope="module")
def server_for_pages(serve: Serve) -> ServerProcess:
    origins = f"{PAGE}, http://localhost:3000"
    return serve(MCP_ALLOWED_ORIGINS=origins, MCP_BEARER_TOKENS=TOKEN, **BEYOND)


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
FROM_A_CLIENT = (
    "accept,authorization,content-type,last-event-id,mcp-method,mcp-name,mcp-protocol-version,mcp-session-id,"
    "mcp-param-place"
)


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_browser_learns_that_a_page_may_call(server_for_pages: ServerProcess, origin: str, method: str) -> None:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": FROM_A_CLIENT,
        "Access-Control-Request-Private-Network": "true",
    }
    answer = httpx.options(f"{server_for_pages.url}/mcp", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert "Origin" in answer.headers["Vary"]
    assert method in answer.headers["Access-Control-Allow-Methods"]
    allowed = {name.strip().lower() for name in answer.headers["Access-Control-Allow-Headers"].split(",")}
    assert allowed >= set(FROM_A_CLIENT.split(","))
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"
    assert "*" not in "".join(answer.headers.values())
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    ("sent", "status"), [({}, 401), (bearer("x" * len(TOKEN)), 401), ({**bearer(TOKEN), "Host": "evil.example"}, 421)]
)
def test_a_page_can_read_why_it_was_refused(server_for_pages: ServerProcess, sent: dict[str, str], status: int) -> None:
    refused = httpx.post(f"{server_for_pages.url}/mcp", json=PING, headers={"Origin": PAGE, **sent})
    assert refused.status_code == status
    assert refused.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Origin" in refused.headers["Vary"]
    exposed = refused.headers["Access-Control-Expose-Headers"].split(", ")
    assert exposed == ["Mcp-Session-Id", "WWW-Authenticate"]


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
def test_a_page_that_may_call_does(server_for_pages: ServerProcess, origin: str) -> None:
    call = calling("probe_noise")
    call["headers"] |= {**bearer(TOKEN), "Origin": origin}
    answer = httpx.post(f"{server_for_pages.url}/mcp", **call)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == origin


ELSEWHERE = [
    "https://evil.example",
    "null",
    f"{PAGE}.evil.example",
    f"{PAGE}:8443",
    "http://app.example.com",
    "https://other.example.com",
    "http://localhost.evil.example",
]


@pytest.mark.parametrize("origin", [*ELSEWHERE, "http://localhost:3001", "http://localhost", "http://127.0.0.1:3000"])
def test_other_pages_cannot_call(server_for_pages: ServerProcess, fake_api: FakeApi, origin: str) -> None:
    asked = httpx.options(f"{server_for_pages.url}/mcp", headers={**PREFLIGHT, "Origin": origin})
    assert asked.status_code == 400
    assert "Access-Control-Allow-Origin" not in asked.headers
    # What a browser sends without asking first.
    call = calling("probe_fetch", path="/from/another/page")
    call["headers"] |= {**bearer(TOKEN), "Origin": origin, "Content-Type": "text/plain"}
    answer = httpx.post(f"{server_for_pages.url}/mcp", **call)
    assert answer.status_code in {400, 403}
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert not [path for path, _ in fake_api.requests if path.endswith("/from/another/page")]


@pytest.mark.parametrize("origin", ELSEWHERE)
def test_another_origin_is_refused(server_for_pages: ServerProcess, fake_api: FakeApi, origin: str) -> None:
    call = calling("probe_fetch", path="/from/another/origin")
    call["headers"] |= {**bearer(TOKEN), "Origin": origin}
    assert httpx.post(f"{server_for_pages.url}/mcp", **call).status_code == 403
    assert not [path for path, _ in fake_api.requests if path.endswith("/from/another/origin")]


def test_where_no_page_is_allowed_no_browser_is_told_so(open_server: ServerProcess) -> None:
    for origin in ("http://localhost:3000", "http://localhost", PAGE):
        asked = httpx.options(f"{open_server.url}/mcp", headers={**PREFLIGHT, "Origin": origin})
        assert not [name for name in asked.headers if name.startswith("access-control-")]
    # What passes a local page's request on, such as a development server, is answered.
    for origin in ("http://localhost:3000", "http://localhost", "http://127.0.0.1:5173", "http://[::1]:1"):
        call = calling("probe_noise")
        call["headers"]["Origin"] = origin
        assert httpx.post(f"{open_server.url}/mcp", **call).status_code == 200
