"""The command line, besides serving."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pkg import answers, server, tools

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_secrets_tells_where_each_comes_from_and_never_its_value(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("sentinel-of-a-caller-one\nsentinel-of-a-caller-two\n")
    values = dict.fromkeys(answers.AUTH_KEYS, "sentinel-value")
    done = run("secrets", MCP_BEARER_TOKENS_FILE=str(tmp_path / "tokens"), **values)
    assert done.returncode == 0
    assert "sentinel" not in done.stdout + done.stderr
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert lines == [
        *([name, "environment"] for name in answers.AUTH_KEYS),
        *([name, "not set"] for name in answers.OTHER_KEYS),
        ["MCP_BEARER_TOKENS", str(tmp_path / "tokens")],
    ]


def test_secrets_says_what_is_missing_or_wrong(run: Run, tmp_path: Path) -> None:
    done = run("secrets", MCP_BEARER_TOKENS_FILE=str(tmp_path / "none"))
    assert done.returncode == 0
    *keys, tokens = done.stdout.splitlines()
    assert [line.split() for line in keys[: len(answers.AUTH_KEYS)]] == [
        [name, "missing"] for name in answers.AUTH_KEYS
    ]
    assert "does not exist" in tokens


@pytest.mark.parametrize(
    ("stdin", "name", "said"),
    [
        ("value\n", "NO_SUCH_NAME", "is not a credential of this server. It has: "),
        ("\n", "MCP_BEARER_TOKENS", "No value was given"),
        ("a\x07b\n", "MCP_BEARER_TOKENS", "control character"),
    ],
)
def test_secrets_set_refuses_what_cannot_work(run: Run, stdin: str, name: str, said: str) -> None:
    done = run("secrets", "set", name, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("client", ["claude-desktop", "claude-code", "cursor", "vscode"])
def test_config_starts_the_server_by_absolute_path_and_holds_no_secret(run: Run, client: str) -> None:
    done = run("config", client, **dict.fromkeys(answers.AUTH_KEYS, "sentinel-value"))
    assert done.returncode == 0
    assert "sentinel" not in done.stdout + done.stderr
    if client == "claude-code":
        assert done.stdout.startswith(f"claude mcp add {answers.COMMAND} -- ")
        command = done.stdout.split(" -- ")[1].split()[0]
    else:
        servers = json.loads(done.stdout)["servers" if client == "vscode" else "mcpServers"]
        command = servers[answers.COMMAND]["command"]
    assert os.path.isabs(command)
    assert Path(command).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--port", "1"],
        ["serve", "--http", "--port", "x"],
        ["config", "emacs"],
        ["unknown"],
        ["secrets", "set"],
    ],
)
def test_wrong_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_is_one_line(run: Run) -> None:
    done = run("serve", "--http", MCP_PORT="many")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"{answers.COMMAND}: MCP_PORT='many' (environment) is not a port")


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [("x = 1\nimport no_such_module\n", 2, "ModuleNotFoundError"), ("x = 1\n\ndef (:\n", 3, "SyntaxError")],
)
def test_a_broken_tool_is_named_by_file_and_line(
    source: str, line: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(source)
    (tmp_path / "_helper.py").write_text("raise RuntimeError('helpers are not loaded by themselves')")
    monkeypatch.setattr(tools, "__path__", [str(tmp_path)])
    with pytest.raises(Exception, match=said) as raised:
        server.load_tools()
    assert str(raised.value).startswith(f"{tmp_path / 'broken.py'}:{line}: ")
