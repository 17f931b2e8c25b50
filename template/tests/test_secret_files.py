"""`secrets files`: what a container reads, written so that its user can read it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pkg import answers, secret_files

Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes, owners and pseudo-terminals")

# Those that somebody else gives out; the rest is made up.
GIVEN = [name for name in answers.SECRET_FILES if name not in secret_files.GENERATED]
VALUES = {name: f"sentinel {name.lower()}" for name in GIVEN if name not in answers.MAY_BE_EMPTY}


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()} if folder.is_dir() else {}


def test_every_file_is_written_for_the_containers_user_and_read_by_the_server(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    done = run("secrets", "files", "--from-env", "--generate", "--folder", str(folder), **VALUES)
    assert done.returncode == 0, done.stderr
    files = content(folder)
    assert sorted(files) == sorted(name.lower() for name in answers.SECRET_FILES)
    for name, text in files.items():
        assert text == (f"{VALUES.get(name.upper())}\n" if name.upper() in VALUES else text)
        assert len(text) > 40 or name.upper() in GIVEN
        assert not text or text.strip() not in done.stdout + done.stderr
        found = (folder / name).stat()
        readers = (found.st_uid, found.st_mode & 0o777, folder.stat().st_mode & 0o777)
        assert readers == ((10001, 0o400, 0o700) if os.geteuid() == 0 else (os.geteuid(), 0o644, 0o700))

    listed = run("secrets", MCP_SECRETS_DIR=str(folder)).stdout
    for name in answers.SECRET_FILES:
        source = "not set" if name in answers.MAY_BE_EMPTY else str(folder / name.lower())
        assert [line.split(maxsplit=1)[1] for line in listed.splitlines() if line.startswith(f"{name} ")] == [source]


def test_nothing_is_overwritten_without_force_and_then_in_place(run: Run, tmp_path: Path) -> None:
    arguments = ["secrets", "files", "--from-env", "--generate", "--folder", str(tmp_path)]
    run(*arguments, **VALUES)
    before = content(tmp_path)
    again = run(*arguments, **dict.fromkeys(VALUES, "sentinel of another time"))
    assert (again.returncode, content(tmp_path)) == (0, before)
    assert again.stdout.count(", kept") == len(answers.SECRET_FILES)

    path = tmp_path / "mcp_bearer_tokens"
    path.chmod(0o644)
    inode = path.stat().st_ino
    forced = run(*arguments, "--force", "MCP_BEARER_TOKENS", MCP_BEARER_TOKENS="a-token-of-16-ch")
    assert forced.returncode == 0, forced.stderr
    assert content(tmp_path) == {**before, "mcp_bearer_tokens": "a-token-of-16-ch\n"}
    # The file that a running container has mounted, not another one in its place.
    assert path.stat().st_ino == inode


def test_an_empty_file_counts_as_missing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mcp_bearer_tokens").touch()
    run("secrets", "files", "--generate", "--folder", str(tmp_path), "MCP_BEARER_TOKENS")
    assert len((tmp_path / "mcp_bearer_tokens").read_text()) > 40


def test_who_may_not_give_files_away_closes_the_folder_and_is_told_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with TemporaryDirectory(dir="/tmp") as parent:
        os.chmod(parent, 0o777)
        folder, owner = Path(parent, "secrets"), os.geteuid()
        folder.mkdir()
        os.chmod(folder, 0o777)
        try:
            if owner == 0:
                os.chown(folder, 65534, -1)
                os.seteuid(65534)
            code = secret_files.write(["MCP_BEARER_TOKENS"], str(folder), from_env=False, generate=True, force=False)
            path = folder / "mcp_bearer_tokens"
            assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o644)
        finally:
            os.seteuid(owner)
    assert code == (1 if len(answers.SECRET_FILES) > 1 else 0)  # the others are missing
    assert f"sudo chown 10001 {path} && sudo chmod 400 {path}" in capsys.readouterr().err


def test_a_file_that_the_container_cannot_read_is_named_with_the_command(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mcp_bearer_tokens"
    path.write_text("a-token-of-16-ch\n")
    path.chmod(0o600)
    done = run("secrets", "files", "--from-env", "--generate", "--folder", str(tmp_path), **VALUES)
    assert done.returncode == 1
    said = f"(mode 0600, uid {os.geteuid()}): the container cannot read it. Run: sudo chown 10001 {path}"
    assert said in done.stdout


@pytest.mark.parametrize(
    ("arguments", "tokens", "said"),
    [
        ([], "", "No value for "),
        (["--from-env"], "", "No value for "),
        (["--from-env"], "too-weak", "MCP_BEARER_TOKENS, token 1: at least 16"),
        (["--from-env"], "sixteen\tcharacters", "control character"),
        (["--generate", "NO_SUCH"], "", "NO_SUCH is no file in secrets/. There are: "),
    ],
)
def test_what_cannot_work_is_one_line_and_writes_nothing(
    run: Run, tmp_path: Path, arguments: list[str], tokens: str, said: str
) -> None:
    folder = tmp_path / "secrets"
    done = run("secrets", "files", "--folder", str(folder), *arguments, MCP_BEARER_TOKENS=tokens, **VALUES)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr
    assert not folder.exists()


def test_a_directory_that_docker_made_is_named_with_the_command(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mcp_bearer_tokens").mkdir()
    done = run("secrets", "files", "--generate", "--folder", str(tmp_path), "MCP_BEARER_TOKENS")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"Run: rmdir {tmp_path}/mcp_bearer_tokens" in done.stderr


def test_a_terminal_is_asked_without_echo(process_env: dict[str, str], tmp_path: Path) -> None:
    import pty

    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", answers.__name__.partition(".")[0], "secrets", "files", "--folder", str(tmp_path)],
        env=process_env,
        stdin=there,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # with no terminal of its own, it reads what is its stdin
    )
    assert process.stderr is not None
    for name in answers.SECRET_FILES:
        said = b""
        while not said.endswith(b"): "):
            byte = process.stderr.read(1)
            assert byte, said
            said += byte
        assert said.decode().lstrip().startswith(f"{name} (not shown")
        os.write(here, f"{VALUES.get(name, '')}\n".encode())
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    echoed = os.read(here, 65536) if select.select([here], [], [], 0)[0] else b""
    assert b"sentinel" not in echoed + printed
    os.close(here)
    os.close(there)
    files = content(tmp_path)
    assert {name: files[name.lower()] for name in VALUES} == {name: f"{value}\n" for name, value in VALUES.items()}
    assert len(files["mcp_bearer_tokens"]) > 40  # nothing was typed, so one was made up
