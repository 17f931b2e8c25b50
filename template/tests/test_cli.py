"""The command line, besides serving."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pkg import answers, cli, config, errors, keychain, logs, secrets, server, tools

Run = Callable[..., subprocess.CompletedProcess[str]]

posix = pytest.mark.skipif(sys.platform == "win32", reason="takes a POSIX shell")


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
    assert "MCP_BEARER_TOKENS_FILE names no file that exists" in tokens


@pytest.mark.parametrize(
    ("stdin", "name", "said"),
    [
        ("value\n", "NO_SUCH_NAME", "That is not a credential of this server. Give one of these names alone: "),
        ("\n", "MCP_BEARER_TOKENS", "No value was given"),
        ("a\x07b\n", "MCP_BEARER_TOKENS", "control character"),
    ],
)
def test_secrets_set_refuses_what_cannot_work(run: Run, stdin: str, name: str, said: str) -> None:
    done = run("secrets", "set", name, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


class Backend:
    """A keyring that works, or that fails at everything."""

    def __init__(self, works: bool = True) -> None:
        self.values: dict[tuple[str, str], str] = {}
        self.works = works

    def get_password(self, service: str, username: str) -> str | None:
        if not self.works:
            raise RuntimeError(username)
        return self.values.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.values[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.values[service, username]


@pytest.mark.parametrize("typed", ["sentinel-value-of-the-keyring\r\n", "sentinel-value-of-the-keyring"])
def test_secrets_keeps_and_deletes_in_the_keyring_under_this_servers_name(
    typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = Backend()
    monkeypatch.setattr(secrets, "Keychain", lambda: keychain.Keychain(lambda: backend))
    for name in secrets.NAMES:
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        assert cli.main(["secrets", "set", name]) == 0
        assert capsys.readouterr() == (
            "",
            f"{name} is in the OS keyring. A server that is running uses it within seconds.\n",
        )
        assert backend.values == {(answers.COMMAND, name): "sentinel-value-of-the-keyring"}
        assert cli.main(["secrets", "delete", name]) == 0
        assert cli.main(["secrets", "delete", name]) == 0
        said = f"{name} is no longer in the OS keyring.\n{name} was not in the OS keyring.\n"
        assert (capsys.readouterr(), backend.values) == (("", said), {})


def test_bytes_that_are_no_text_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))
    assert cli.main(["secrets", "set", "MCP_BEARER_TOKENS"]) == 2
    said = f"{answers.COMMAND}: What was given for MCP_BEARER_TOKENS is not UTF-8 text.\n"
    assert capsys.readouterr() == ("", said)


def test_without_a_keyring_the_other_ways_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(secrets, "Keychain", lambda: keychain.Keychain(lambda: Backend(works=False)))
    monkeypatch.setattr(sys, "stdin", io.StringIO("sentinel-value-of-the-keyring\n"))
    name = "MCP_BEARER_TOKENS"
    assert cli.main(["secrets", "set", name]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        f"{answers.COMMAND}: The OS keyring failed (RuntimeError). Other ways: the variable {name}, "
    )
    assert f"{name}_FILE names, /run/secrets/{name.lower()}, or a line in .env." in said
    assert "sentinel" not in said
    assert cli.main(["secrets", "delete", name]) == 1


def test_secrets_set_refuses_what_the_server_would_refuse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = Backend()
    monkeypatch.setattr(secrets, "Keychain", lambda: keychain.Keychain(lambda: backend))
    names = answers.AUTH_KEYS if answers.API_AUTH != "basic" else ()
    for name in names:
        for value in (" padded ", '"quoted"', "zero\u200bwidth", "two\nlines"):
            monkeypatch.setattr(sys, "stdin", io.StringIO(f"{value}\n"))
            assert cli.main(["secrets", "set", name]) == 2
            printed = capsys.readouterr()
            assert (printed.out, printed.err.count("\n"), backend.values) == ("", 1, {})
            assert f"{name} (as given) " in printed.err
            assert value not in printed.err


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
        ["serve", "--port", "0"],
        ["serve", "--host", ""],
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
    assert done.stderr.startswith(f"{answers.COMMAND}: MCP_PORT (environment) is not a port")


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PermissionError(13, "Permission denied", "/data"), 1, "/data cannot be used"),
        (OSError(28, "No space left on device"), 1, "cannot be read or written: No space left on device."),
        (BrokenPipeError(32, "Broken pipe"), 1, "cannot be read or written: Broken pipe."),
        (TimeoutError(), 1, "TimeoutError."),
        (errors.ServerError("It failed."), 1, "It failed."),
        (errors.UsageError("It is wrong."), 2, "It is wrong."),
        (errors.CredentialError("It is missing."), 2, "It is missing."),
        (errors.UpstreamError("It refused sentinel-value."), 1, "It refused ***."),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: Exception, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout", sys.stdout)
    logs.hide("sentinel-value")
    monkeypatch.setattr(config, "show", failing(error))
    assert cli.main(["config", "cursor"]) == code
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith(f"{answers.COMMAND}: ")
    assert printed.err.endswith(f"{said}\n" if said.endswith(".") else f"{error.strerror}.\n")  # type: ignore[attr-defined]
    assert said in printed.err


def test_an_interrupt_is_130_and_a_defect_is_shown_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "show", failing(KeyboardInterrupt()))
    assert cli.main(["config", "cursor"]) == 130
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(config, "show", failing(LookupError("a defect")))
    with pytest.raises(LookupError, match="a defect"):
        cli.main(["config", "cursor"])


def shell(command: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `command` in a shell, where SERVER is this server's command line."""
    server = shlex.join([sys.executable, "-m", answers.__name__.partition(".")[0]])
    command = command.replace("SERVER", server)
    return subprocess.run(
        ["sh", "-c", command], env=env, input="", capture_output=True, text=True, timeout=30, check=False
    )


@posix
@pytest.mark.parametrize("command", ["secrets", "config cursor", "--version", "--help"])
def test_a_reader_that_leaves_is_one_line(command: str, process_env: dict[str, str]) -> None:
    done = shell(f"(sleep 0.3; SERVER {command}; echo $? >&2) | true", process_env)
    *said, code = done.stderr.splitlines()
    said = [line for line in said if not line.startswith("Merge this")]
    line = f"{answers.COMMAND}: Something cannot be read or written: Broken pipe."
    assert (code, said) == ("1", [line]), done.stderr


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is full")
def test_a_full_disk_is_one_line(process_env: dict[str, str]) -> None:
    done = shell("SERVER secrets > /dev/full", process_env)
    said = f"{answers.COMMAND}: Something cannot be read or written: No space left on device.\n"
    assert (done.returncode, done.stderr) == (1, said)


@posix
def test_a_path_in_other_letters_is_printed_all_the_same(process_env: dict[str, str], tmp_path: Path) -> None:
    for name in ("schlüssel", "\udcff"):  # the second is not UTF-8 at all
        folder = tmp_path / name
        folder.mkdir()
        (folder / "mcp_bearer_tokens").write_text("a-token-that-is-long-enough")
        done = shell("SERVER secrets", {**process_env, "MCP_SECRETS_DIR": str(folder), "PYTHONIOENCODING": "ascii"})
        assert (done.returncode, done.stderr) == (0, "")
        assert ascii(name)[1:-1] in done.stdout


@posix
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("SERVER <&-", 2, "stdin or stdout is closed"),
        ("SERVER >&-", 2, "stdin or stdout is closed"),
        ("SERVER serve <&- >&-", 2, "stdin or stdout is closed"),
        ("SERVER secrets set MCP_BEARER_TOKENS <&-", 2, "No value was given"),
        ("SERVER secrets files MCP_BEARER_TOKENS --folder /nonexistent <&-", 2, "No value for MCP_BEARER_TOKENS"),
        ("SERVER config cursor >&-", 0, "Merge this"),
        ("SERVER health --url http://127.0.0.1:1 <&- >&-", 1, "not alive"),
        ("SERVER config emacs 2>&-", 2, ""),
        ("SERVER secrets delete NONE 2>&-", 2, ""),
        ("SERVER secrets <&- >&- 2>&-", 0, ""),
    ],
)
def test_a_closed_stream_is_one_line_at_most(command: str, code: int, said: str, process_env: dict[str, str]) -> None:
    done = shell(command, process_env)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == (1 if said else 0)


@posix
@pytest.mark.parametrize(
    "arguments", [["secrets"], ["config", "cursor"], ["health", "--url", "http://127.0.0.1:1"], ["--version"]]
)
def test_nobody_at_home(arguments: list[str], process_env: dict[str, str], tmp_path: Path) -> None:
    """No HOME, and no entry of this uid in /etc/passwd, as in a container that runs as a made-up uid."""
    env = {name: value for name, value in process_env.items() if name not in ("HOME", "USERPROFILE")}
    no_entry = "import pwd, sys; pwd.getpwuid = {}.__getitem__"
    script = f"{no_entry}; from {answers.__name__.partition('.')[0]}.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *arguments],
        env=env,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == (1 if "health" in arguments else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1
    assert os.listdir(tmp_path) == []


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
