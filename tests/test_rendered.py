"""What is rendered: it parses, passes its own tools, and answers clients that are not ours."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
import yaml
from conftest import ROOT, ended
from mcp import Client, StdioServerParameters

Render = Callable[..., Path]

# Keys, how they travel, and names that are hard to render.
MATRIX: dict[str, dict[str, Any]] = {
    "none": {"server_name": "Open Data", "auth_keys": ""},
    "one-header": {"server_name": "Weather API", "auth_keys": "WEATHER_API_KEY", "api_key_header": "X-Weather-Key"},
    "one-bearer": {"server_name": "Wetter Zürich", "auth_keys": "BEARER_TOKEN", "api_auth": "bearer"},
    "one-query": {"server_name": "3D \"Druck\" 'Bob' \\ 🚀", "auth_keys": "A", "api_auth": "query"},
    "one-none": {"server_name": "天気", "auth_keys": "WEATHER_API_KEY", "api_auth": "none"},
    "three-header": {"server_name": "x", "auth_keys": "PRIMARY_API_KEY BACKUP_API_KEY ANALYTICS_KEY"},
    "three-bearer": {"server_name": "{{ 7 * 7 }} <b>*x*</b>", "auth_keys": "A, B, C", "api_auth": "bearer"},
    "three-basic": {"server_name": "Calendar", "auth_keys": "[API_USERNAME, API_PASSWORD, C]", "api_auth": "basic"},
    "three-query": {
        "server_name": "Long " + "name " * 18 + "end",
        "auth_keys": "_".join(["LONG"] * 18) + " B C",
        "api_auth": "query",
        "api_key_parameter": "key",
        "description": "Everything, " * 24,
    },
    "three-none": {"server_name": "None", "auth_keys": "A B C", "api_auth": "none", "github_actions": False},
}
MATRIX["sign-in"] = {"server_name": "Signed In", "oauth_provider": "custom", "auth_keys": "EXTRA_KEY"}
MATRIX["three-query"]["description"] = MATRIX["three-query"]["description"].strip()

# A project's own tests are run in one cell as a whole, and those of the sign-in in the cell that has one. In the others
# those that differ most between answers, and the rest with EVERY_TEST=1.
WHOLE = ("sign-in", "one-header")
QUICK = ["tests/test_cli.py", "tests/test_client.py", "tests/tools"]
PYTEST = ("pytest", "-q", "-p", "no:copie", "-p", "no:xdist", "-p", "no:cacheprovider")

cells = pytest.mark.parametrize("answers", MATRIX.values(), ids=MATRIX)


def parts(cell: str) -> list[list[str]]:
    """The targets of one cell's own tests, in parts that the workers can share."""
    if cell not in WHOLE:
        return [QUICK]
    if cell != "sign-in":
        return [["tests"]]
    auth = sorted(path.name for path in (ROOT / "template" / "tests" / "auth").glob("test_*.py"))
    return [[f"tests/auth/{name}" for name in auth[part::3]] for part in range(3)]


OWN_TESTS = [
    pytest.param(cell, targets, id=f"{cell}-{number}", marks=pytest.mark.long)
    for cell in sorted(MATRIX, key=[*WHOLE, *MATRIX].index)
    for number, targets in enumerate(parts(cell), start=1)
]


def run(project: Path, *command: str, seconds: float = 280) -> None:
    """Run one of the project's own tools on it; what it prints is the failure."""
    # The sign-in tests kill and race processes as often as these say; their project's own default is higher.
    env = {**os.environ, "PYTHONPATH": str(project / "src"), "AUTH_KILLS": "6", "AUTH_ROUNDS": "1"}
    env.pop("PYTEST_ADDOPTS", None)
    with TemporaryFile("w+") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=project,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            code = started.wait(seconds)
        finally:
            interrupt(started)
        output.seek(0)
        said = output.read()
    assert code == 0, said[-8000:]


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """End what still runs, as Ctrl-C does: the project's tests then end their own servers."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=20)
    finally:
        process.kill()


@cells
def test_every_file_parses_and_no_jinja_is_left(render: Render, answers: dict[str, Any]) -> None:
    project = render(**answers)
    seen = set()
    for path in project.rglob("*"):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        seen.add(path.suffix)
        assert path.suffix != ".jinja"
        assert '"' not in path.name
        assert not text or text.endswith("\n"), path
        if path.name != ".copier-answers.yml":  # holds the answers as typed
            left = text.replace("${{ matrix.python }}", "").replace("\\", "").replace(answers["server_name"], "")
            assert "{{" not in left
            assert "{%" not in left
        match path.suffix:
            case ".py":
                ast.parse(text)
            case ".toml":
                tomllib.loads(text)
            case ".yml":
                yaml.safe_load(text)
    assert {".py", ".toml", ".yml", ".md"} <= seen


@cells
def test_the_projects_own_tools_pass(render: Render, answers: dict[str, Any]) -> None:
    project = render(**answers)
    run(project, "ruff", "check", "--no-cache", ".")
    run(project, "ruff", "format", "--no-cache", "--check", ".")
    run(project, "mypy", "--cache-dir", str(project.parent.parent / "mypy-cache"))


@pytest.mark.parametrize(("cell", "targets"), OWN_TESTS)
def test_the_projects_own_tests_pass(render: Render, cell: str, targets: list[str]) -> None:
    run(render(**MATRIX[cell]), *PYTEST, *targets)


if os.environ.get("EVERY_TEST"):

    @pytest.mark.parametrize("cell", [cell for cell in MATRIX if cell != "one-header"])
    def test_the_slow_tests_pass_in_the_other_cells_too(render: Render, cell: str) -> None:
        done = ["tests/auth"] if cell == "sign-in" else QUICK
        run(render(**MATRIX[cell]), *PYTEST, *(f"--ignore={it}" for it in done))


FAILING = """
import subprocess
import sys

WAITING = [sys.executable, "-c", "input()"]

def note(process):
    with open("started", "a") as file:
        print(process.pid, file=file)

def test_that_fails(serve):
    note(serve().process)
    note(subprocess.Popen(WAITING, stdin=subprocess.PIPE))
    raise AssertionError

def test_that_waits_for_ever():
    process = subprocess.Popen(WAITING, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    note(process)
    process.stdout.readline()
"""


def test_a_test_that_fails_or_hangs_ends_and_leaves_nothing_running(render: Render) -> None:
    project = render(folder="failing", **MATRIX["one-header"])
    (project / "tests" / "test_failing.py").write_text(FAILING)
    assert tomllib.loads((project / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["timeout"] == 60
    with pytest.raises(AssertionError) as failed:
        run(project, *PYTEST, "--timeout=5", "tests/test_failing.py")
    said = str(failed.value)
    assert "2 failed" in said
    assert "Timeout (>5.0s)" in said
    started = (project / "started").read_text().split()
    assert len(started) == 3
    assert [pid for pid in started if Path("/proc", pid).exists()] == []


def test_readme_commands_use_the_projects_names(render: Render) -> None:
    text = (render(**MATRIX["three-basic"]) / "README.md").read_text()
    assert "uv run calendar-server secrets set API_USERNAME" in text
    assert "src/calendar_server/tools/" in text
    assert "| `API_PASSWORD` | as the password of HTTP Basic |" in text


def test_no_oauth_is_mentioned_where_none_is_rendered(render: Render) -> None:
    project = render(**MATRIX["one-header"])
    mentions = [
        (path.name, line)
        for path in project.rglob("*")
        if path.is_file() and path.name != ".copier-answers.yml" and "__pycache__" not in path.parts
        for line in path.read_text().splitlines()
        if "oauth" in line.lower()
    ]
    assert [line for line in mentions if line[0] != "inbound.py"] == []


def answer_bytes(project: Path, package: str, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Speak JSON-RPC as bytes to a server on stdio; the last request has been answered before stdin closes."""
    server = subprocess.Popen(
        [sys.executable, "-m", package],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(project / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    replies = []
    with ended(server) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for request in requests:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **request}).encode() + b"\n")
            process.stdin.flush()
            if "id" in request:
                replies.append(json.loads(process.stdout.readline()))
        rest, _ = process.communicate(timeout=15)
    assert rest == b""
    assert process.returncode == 0
    return replies


def test_a_raw_conversation_of_2025_11_25(render: Render) -> None:
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bytes", "version": "1"}}
    call = {"name": "health_check", "arguments": {}}
    opened, listed, called, unknown = answer_bytes(
        render(**MATRIX["one-header"]),
        "weather_api",
        [
            {"id": 1, "method": "initialize", "params": client},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/list"},
            {"id": 3, "method": "tools/call", "params": call},
            {"id": 4, "method": "no/such/method"},
        ],
    )
    assert opened["result"]["protocolVersion"] == "2025-11-25"
    assert opened["result"]["serverInfo"]["title"] == "Weather API"
    assert [tool["name"] for tool in listed["result"]["tools"]] == ["health_check", "fetch"]
    health = json.loads(called["result"]["content"][0]["text"])
    assert health["status"] == "healthy"
    assert health["auth_config"] == {"WEATHER_API_KEY": "missing"}
    assert unknown["error"]["code"] == -32601


def test_a_raw_conversation_of_2026_07_28(render: Render) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "bytes", "version": "1"},
    }
    discovered, called = answer_bytes(
        render(**MATRIX["one-header"]),
        "weather_api",
        [
            {"id": 1, "method": "server/discover", "params": {"_meta": meta}},
            {"id": 2, "method": "tools/call", "params": {"name": "health_check", "arguments": {}, "_meta": meta}},
        ],
    )
    assert "2026-07-28" in discovered["result"]["supportedVersions"]
    assert called["result"]["structuredContent"]["status"] == "healthy"


def test_a_tool_that_is_dropped_into_the_folder_is_served(render: Render, tmp_path: Path) -> None:
    """The README's own sample, as a file, beside the example."""
    project = render(folder="with-a-tool", **MATRIX["one-header"])
    sample = (project / "README.md").read_text().split("```python\n")[1].split("```")[0]
    (project / "src" / "weather_api" / "tools" / "forecast.py").write_text(sample)

    async def tools() -> list[str]:
        env = {"PYTHONPATH": str(project / "src")}
        server = StdioServerParameters(command=sys.executable, args=["-m", "weather_api"], env=env, cwd=tmp_path)
        async with Client(server) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    assert asyncio.run(tools()) == ["health_check", "fetch", "forecast"]
    run(project, "ruff", "check", "--no-cache", "src")
    run(project, "ruff", "format", "--no-cache", "--check", "src")
