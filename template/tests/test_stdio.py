"""Over stdio, as a client starts the server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import HERE, VALUES, a_hangup
from fake_api import FakeApi
from mcp import Client, StdioServerParameters
from mcp_types import TextContent
from pkg import answers, app, errors, server

PROBE = str(HERE / "probe_server.py")


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_of_either_protocol_lists_and_calls_tools(
    mode: str, process_env: dict[str, str], fake_api: FakeApi
) -> None:
    env = {**process_env, **VALUES, "API_BASE_URL": fake_api.url, "MCP_LOG_LEVEL": "WARNING"}
    async with Client(StdioServerParameters(command=sys.executable, args=[PROBE], env=env), mode=mode) as client:
        info = client.server_info
        assert info is not None
        assert (info.name, info.title) == (answers.COMMAND, answers.SERVER_NAME)
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert "health_check" in names

        health = (await client.call_tool("health_check")).structured_content
        assert health is not None
        assert health["status"] == "healthy"
        assert health["auth_config"] == dict.fromkeys(answers.AUTH_KEYS, "configured")
        assert health["ready"] is True

        fetched = await client.call_tool("probe_fetch", {"path": "/items/1"})
        assert not fetched.is_error
        refused = await client.call_tool("probe_fetch", {"path": "/status/500"})
        assert refused.is_error
        assert refused.content == [TextContent(text="The API answered 500: it failed. Try again later.")]
        crashed = await client.call_tool("probe_crash")
        assert crashed.content == [TextContent(text="Error executing tool probe_crash")]


def message(number: int, method: str, **params: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"


INITIALIZE = message(
    1,
    "initialize",
    protocolVersion="2025-11-25",
    capabilities={},
    clientInfo={"name": "bytes", "version": "1"},
)


def start(env: dict[str, str], cwd: Path | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, PROBE],
        env=env,
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_stdout_carries_the_protocol_and_nothing_else(process_env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("".join(f"{name}=planted by a stranger\n" for name in answers.AUTH_KEYS))
    process = start({**process_env, "MCP_LOG_LEVEL": "DEBUG"}, cwd=tmp_path)
    initialized = b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
    calls = [message(2, "tools/call", name="probe_noise", arguments={}), b"this is not JSON\n"]
    calls += [message(3, "tools/call", name="health_check", arguments={}), message(4, "ping")]
    assert process.stdin is not None
    process.stdin.write(INITIALIZE + initialized + b"".join(calls))
    process.stdin.flush()
    assert process.stdout is not None
    answered: dict[int, dict[str, object]] = {}
    while len(answered) < 4:
        reply = json.loads(process.stdout.readline())
        assert reply["jsonrpc"] == "2.0"
        if reply.get("id") is not None:
            answered[reply["id"]] = reply
    rest, log = process.communicate(timeout=15)  # closes stdin, as a client does when it is done
    assert rest == b""
    assert process.returncode == 0
    assert "quiet" in str(answered[2])
    assert "planted" not in log.decode()
    for name in answers.AUTH_KEYS:  # what lies in the working directory is not the server's
        assert f"{name}: missing" in str(answered[3])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells of a closed pipe in another way")
def test_a_client_that_leaves_before_its_answer_is_one_line(process_env: dict[str, str]) -> None:
    process = start({**process_env, "MCP_LOG_LEVEL": "WARNING"})
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(INITIALIZE)
        process.stdin.flush()
        assert process.stdout.readline()
        process.stdout.close()
        process.stdin.write(message(2, "ping"))
        process.stdin.flush()
        time.sleep(2)  # it answers before it reads that this is the end; nothing tells when
        process.stdin.close()
        assert process.wait(timeout=20) == 1
        said = f"{answers.COMMAND}: The client closed its end before it had every answer.\n"
        assert process.stderr.read().decode() == said
    finally:
        process.kill()
        process.wait(timeout=10)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows clients end a server outright; there is no such signal")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_it_cleanly(name: str, process_env: dict[str, str], tmp_path: Path) -> None:
    with a_hangup(signal.SIG_DFL):
        process = start({**process_env, "MCP_LOG_LEVEL": "WARNING", "PROBE_ENDED": str(tmp_path / "ended")})
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(INITIALIZE)
    process.stdin.flush()
    assert process.stdout.readline()
    os.kill(process.pid, signal.Signals[name])
    assert process.wait(timeout=10) == 0
    assert (tmp_path / "ended").exists()  # what was registered with `atexit` is done
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stdin.close()
    process.stdout.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_what_nohup_started_outlives_its_terminal(process_env: dict[str, str]) -> None:
    with a_hangup(signal.SIG_IGN):
        process = start(process_env)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(INITIALIZE)
    process.stdin.flush()
    assert process.stdout.readline()
    os.kill(process.pid, signal.SIGHUP)
    process.stdin.write(message(2, "ping"))
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["id"] == 2
    process.communicate(timeout=15)
    assert process.returncode == 0


@pytest.mark.parametrize("error", [BrokenPipeError(), RuntimeError("a defect"), OSError(28, "No space left on device")])
def test_only_a_pipe_that_broke_is_said_to_be_the_client_s_doing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end() -> None:
        raise error

    monkeypatch.setattr(app.mcp, "run_stdio_async", end)
    if isinstance(error, BrokenPipeError):
        with pytest.raises(errors.ServerError, match="The client closed its end"):
            server.run_stdio()
    else:
        with pytest.raises(ExceptionGroup) as raised:
            server.run_stdio()
        assert raised.value.exceptions == (error,)
