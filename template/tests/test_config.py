"""`config`: how a client starts this server, wherever it was installed and whatever lies in the working directory."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from conftest import SOURCE
from pkg import answers, config

PACKAGE = answers.__name__.partition(".")[0]
SUFFIX = ".exe" if sys.platform == "win32" else ""


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python in whose scripts folder this server's command is not."""
    if sys.platform == "win32":
        pytest.skip("what Windows does with its suffix is tested below")
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    return str(folder / "bin" / "python")


def script(folder: Path) -> Path:
    """An installed command, as pip writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (answers.COMMAND + SUFFIX)
    path.write_text(f"import sys\nfrom {PACKAGE}.cli import main\nsys.exit(main())\n")
    return path


def printed(command: list[str], cwd: Path, env: dict[str, str], **more: str) -> list[str]:
    environ = {**env, "PYTHONPATH": os.pathsep.join([str(SOURCE), *filter(os.path.isabs, sys.path)]), **more}
    arguments = [*command, "config", "cursor"]
    done = subprocess.run(arguments, cwd=cwd, env=environ, capture_output=True, text=True, check=True, timeout=30)
    entry = json.loads(done.stdout)["mcpServers"][answers.COMMAND]
    return [entry["command"], *entry["args"]]


def test_the_command_that_was_typed_is_found_where_it_is(
    bare_python: str, tmp_path: Path, process_env: dict[str, str]
) -> None:
    real = script(tmp_path / "somewhere" / "bin")
    assert printed([bare_python, str(real)], tmp_path, process_env) == [str(real)]
    relative = f".{os.sep}{real.relative_to(tmp_path)}"
    assert printed([bare_python, relative], tmp_path, process_env) == [str(real)]
    if os.name == "posix":  # pipx: the link stays as it is when what it points to moves
        link = tmp_path / "links" / answers.COMMAND
        link.parent.mkdir()
        link.symlink_to(real)
        assert printed([bare_python, str(link)], tmp_path, process_env) == [str(link)]


def test_a_user_installation_is_found(bare_python: str, tmp_path: Path, process_env: dict[str, str]) -> None:
    base = tmp_path / "user base"
    asked = [bare_python, "-c", "import sysconfig as s; print(s.get_path('scripts', s.get_preferred_scheme('user')))"]
    env = {**process_env, "PYTHONUSERBASE": str(base)}
    folder = subprocess.run(asked, env=env, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    assert folder.startswith(str(base))
    real = script(Path(folder))
    found = printed([bare_python, "-m", PACKAGE], tmp_path, process_env, PYTHONUSERBASE=str(base))
    assert found == [str(real)]
    typed = script(tmp_path / "another" / "bin")  # what runs is taken before what is installed besides
    assert printed([bare_python, str(typed)], tmp_path, process_env, PYTHONUSERBASE=str(base)) == [str(typed)]


def test_a_command_in_the_working_directory_is_not_taken(
    bare_python: str, tmp_path: Path, process_env: dict[str, str]
) -> None:
    for folder in (tmp_path, tmp_path / "bin", tmp_path / "Scripts", tmp_path / "~" / ".local" / "bin"):
        script(folder)
    expected = [bare_python, "-P", "-m", PACKAGE]
    assert printed([bare_python, "-m", PACKAGE], tmp_path, process_env, PYTHONUSERBASE=".") == expected
    assert printed([bare_python, answers.COMMAND + SUFFIX], tmp_path, process_env) == expected  # a bare name
    other = script(tmp_path / "other").rename(tmp_path / "other" / f"{answers.COMMAND}-old")
    script(tmp_path / "other")  # beside it, and not what was typed
    assert printed([bare_python, str(other)], tmp_path, process_env) == expected
    installed = tmp_path / "user base" / "bin" / answers.COMMAND
    installed.mkdir(parents=True)  # a folder by that name starts nothing
    assert (
        printed([bare_python, "-m", PACKAGE], tmp_path, process_env, PYTHONUSERBASE=str(tmp_path / "user base"))
        == expected
    )


@pytest.mark.parametrize("planted", ["mcp", "httpx", "anyio"])
def test_what_is_printed_imports_nothing_from_the_working_directory(
    planted: str, bare_python: str, tmp_path: Path, process_env: dict[str, str]
) -> None:
    hostile(tmp_path, planted)
    command = printed([bare_python, "-P", "-m", PACKAGE], tmp_path, process_env)
    assert "-P" in command
    started(command if planted == "mcp" else [*command, "secrets"], tmp_path, process_env)


def test_without_p_nothing_is_imported_from_there_either(tmp_path: Path, process_env: dict[str, str]) -> None:
    hostile(tmp_path, "dotenv")
    hostile(tmp_path, "logging")
    started([sys.executable, "-m", PACKAGE, "secrets"], tmp_path, process_env)


def hostile(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was imported from the working directory')\n")


def started(command: list[str], cwd: Path, env: dict[str, str]) -> None:
    environ = {**env, "PYTHONPATH": os.pathsep.join([str(SOURCE), *filter(os.path.isabs, sys.path)])}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "working directory" in done.stderr) == (0, False), done.stderr


def test_on_windows_the_suffix_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"{answers.COMMAND}.exe"
    path.touch()
    monkeypatch.setattr(sys, "platform", "win32")
    for typed in (path, path.with_suffix("")):  # launchers cut it off
        monkeypatch.setattr(sys, "argv", [str(typed)])
        assert config.start_command() == [str(path)]


@pytest.mark.parametrize("client", ["claude-desktop", "claude-code", "cursor", "vscode"])
def test_a_path_with_blanks_and_quotes_survives(
    client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script(tmp_path / 'It\'s "my" $HOME')
    monkeypatch.setattr(sys, "argv", [str(path)])
    assert config.show(client) == 0
    shown = capsys.readouterr()
    assert shown.err == f"{config.WHERE[client]}\n"
    if client == "claude-code":
        assert shlex.split(shown.out) == ["claude", "mcp", "add", answers.COMMAND, "--", str(path)]
        return
    stdio = {"type": "stdio"} if client == "vscode" else {}
    entry = {answers.COMMAND: {**stdio, "command": str(path), "args": []}}
    assert json.loads(shown.out) == {"servers" if client == "vscode" else "mcpServers": entry}
