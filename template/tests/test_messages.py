"""No message repeats what was set or typed: it may be a key in the wrong place."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pkg import answers, cli, connections, credentials, errors

Run = Callable[..., subprocess.CompletedProcess[str]]

SECRET = "sk-live-5e17"
TOKENS = "MCP_BEARER_TOKENS"
LONG = "/" + 300 * SECRET  # longer than a file's name may be


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_BASE_URL", f"https://user:{SECRET}@api.example.com"),
        ("API_BASE_URL", f"https://:{SECRET}@api.example.com"),
        ("API_BASE_URL", f"https://api.example.com/?key={SECRET}"),
        ("API_BASE_URL", f"https://api.example.com:{SECRET}"),
        ("API_BASE_URL", f"https://[{SECRET}]/"),
        ("API_BASE_URL", f"https://{SECRET}\u2100/"),
        ("API_TIMEOUT", SECRET),
        ("MCP_PORT", SECRET),
        ("MCP_LOG_LEVEL", SECRET),
        ("MCP_ALLOWED_HOSTS", f"https://{SECRET}"),
        ("MCP_ALLOWED_ORIGINS", SECRET),
        ("MCP_SECRETS_DIR", SECRET),
        ("ENV_FILE", SECRET),
        ("ENV_FILE", f"/{SECRET}"),
        ("ENV_FILE", LONG),
        ("API_BASE_URL_FILE", SECRET),
        ("API_BASE_URL_FILE", f"/{SECRET}"),
        ("API_BASE_URL_FILE", LONG),
    ],
)
def test_a_wrong_setting_is_named_and_not_repeated(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    code = cli.main(["health"])  # reads every setting, and ends
    printed = capsys.readouterr()
    assert (code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert name.removesuffix("_FILE") in printed.err
    assert SECRET not in printed.err
    assert SECRET[1:] not in printed.err


@pytest.mark.parametrize("name", ["0.0.0.0.SECRET", "SECRET..example", f"{'a' * 64}.SECRET", "SECRET\0"])
def test_a_host_that_cannot_be_bound_is_not_repeated(name: str) -> None:
    with pytest.raises(errors.ServerError, match=r"^MCP_HOST, or --host, is no address") as raised:
        connections.listen(name.replace("SECRET", SECRET), 0)
    assert (raised.value.exit_code, raised.value.__suppress_context__) == (1, True)


@pytest.mark.parametrize("host", [f"{SECRET}.example", "0.0.0.0"])
def test_an_open_bind_is_refused_without_its_name(host: str, run: Run) -> None:
    done = run("serve", "--http", "--port", "0", MCP_HOST=host)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"{answers.COMMAND}: Binding more than loopback ")


@pytest.mark.parametrize(
    "arguments",
    [
        [SECRET],
        ["serve", SECRET],
        ["serve", f"x\n{SECRET}"],
        [f"--{SECRET}"],
        ["serve", f"--key={SECRET}"],
        ["serve", f"--http={SECRET}"],
        ["serve", f"--h={SECRET}"],  # --http, --host, --help
        ["serve", "--http", "--port", SECRET],
        ["serve", "--http", "--port", f"{SECRET}\nmore (choose from {SECRET})"],
        ["config", SECRET],
        ["config", f"a (choose from {SECRET}"],
        ["secrets", SECRET],
        ["secrets", "set", f"{TOKENS}={SECRET}"],
        ["secrets", "set", SECRET],
        ["secrets", "set", TOKENS, SECRET],
        ["secrets", "delete", SECRET],
        ["secrets", "files", f"{TOKENS}={SECRET}"],
        ["secrets", "files", TOKENS, SECRET],
        ["health", "--url", f"http://user:{SECRET}@127.0.0.1:1"],
        ["health", "--url", f"http://:{SECRET}@127.0.0.1:1"],
        ["health", "--url", f"http://127.0.0.1:{SECRET}"],
        ["health", "--url", f"http://[{SECRET}"],
        ["health", "--url", SECRET],
        ["health", "--url", f"file:///{SECRET}"],
    ],
)
def test_what_was_typed_is_not_repeated(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = cli.main(arguments)
    except SystemExit as ended:
        code = ended.code
    printed = capsys.readouterr()
    assert (code, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert printed.err.startswith(answers.COMMAND)
    assert SECRET not in printed.err


def test_wrong_usage_says_which_argument_and_where_help_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["serve", "--http", "--port", "99999"])
    said = f"{answers.COMMAND} serve: argument --port: is not a port: a number from 0 to 65535. "
    assert capsys.readouterr().err == f"{said}Run: {answers.COMMAND} serve --help\n"
    with pytest.raises(SystemExit):
        cli.main(["secrets", "set"])
    said = f"{answers.COMMAND} secrets set: the following arguments are required: NAME. "
    assert capsys.readouterr().err == f"{said}Run: {answers.COMMAND} secrets set --help\n"


@pytest.mark.parametrize("value", [SECRET, f"/{SECRET}", f"/{SECRET}/x", LONG, f"./{SECRET}", f"~/{SECRET}"])
def test_a_key_put_into_name_file_does_not_reach_the_model(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{TOKENS}_FILE", value)
    problem = credentials.credential_status(TOKENS, credentials.SOURCES).problem
    assert problem is not None
    assert TOKENS in problem
    assert SECRET not in problem


def test_the_path_of_a_file_that_is_there_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.touch()
    monkeypatch.setenv(f"{TOKENS}_FILE", str(path))
    assert (
        credentials.credential_status(TOKENS, credentials.SOURCES).problem == f"{path} is empty. Write {TOKENS} to it."
    )
