"""`secrets files`: what a container reads, written so that its user can read it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pkg import answers, errors, secret_files, sources

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
        assert os.geteuid() != 0 or found.st_gid == 10001

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


def test_a_folder_that_others_may_enter_is_named_with_the_command(run: Run, tmp_path: Path) -> None:
    arguments = ["secrets", "files", "--from-env", "--generate", "--folder", str(tmp_path)]
    assert run(*arguments, **VALUES).returncode == 0
    (tmp_path / "mcp_bearer_tokens").chmod(0o644)
    tmp_path.chmod(0o755)
    done = run(*arguments)
    assert done.returncode == 1
    assert f"Others on this machine can read them. Run: chmod 700 {tmp_path}" in done.stderr


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
        (["--generate", "NO_SUCH"], "", "There is no such file in secrets/. There are: "),
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


@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "fifo", "device"])
@pytest.mark.parametrize("force", [True, False])
def test_what_leads_elsewhere_is_not_written_to(tmp_path: Path, kind: str, force: bool) -> None:
    other = tmp_path / "other"
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    path = folder / "mcp_bearer_tokens"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to(os.devnull)
    elif kind == "hard link":
        other.touch(mode=0o640)
        os.link(other, path)
    else:
        if kind == "link":
            other.touch(mode=0o640)
        path.symlink_to(other)
    before = other.stat() if other.exists() else None
    with pytest.raises(errors.UsageError) as raised:
        secret_files.write(["MCP_BEARER_TOKENS"], str(folder), from_env=False, generate=True, force=force)
    said = f"{path} is a link, a pipe or a device, so it is left alone. Run: rm {path}"
    assert (raised.value.exit_code, str(raised.value)) == (2, said)
    after = other.stat() if other.exists() else None
    assert (before is None) == (after is None)
    if before and after:
        assert (after.st_size, after.st_mode, after.st_uid) == (0, before.st_mode, before.st_uid)
    assert os.listdir(folder) == [path.name]


@pytest.mark.parametrize("place", ["there", "nowhere"])
def test_a_folder_that_is_a_link_is_not_written_to(tmp_path: Path, place: str) -> None:
    other = tmp_path / "there"
    other.mkdir()
    other.chmod(0o755)
    folder = tmp_path / "secrets"
    folder.symlink_to(tmp_path / place)
    for name in (str(folder), f"{folder}/"):
        with pytest.raises(errors.UsageError) as raised:
            secret_files.write(["MCP_BEARER_TOKENS"], name, from_env=False, generate=True, force=False)
        said = f"{folder} is a symbolic link. Remove it, or give the folder itself with --folder."
        assert (raised.value.exit_code, str(raised.value)) == (2, said)
    assert (os.listdir(other), other.stat().st_mode & 0o777) == ([], 0o755)
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_becomes_a_link_on_the_way_is_not_written_to(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    path = tmp_path / "key"
    path.symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        secret_files._write(path, "value")
    path.unlink()
    os.link(other, path)
    with pytest.raises(errors.UsageError, match="is a link"):
        secret_files._write(path, "value")
    path.unlink()
    os.mkfifo(path)
    refused: list[OSError] = []

    def write_to_pipe() -> None:
        try:
            secret_files._write(path, "value")
        except OSError as error:
            refused.append(error)

    writing = threading.Thread(target=write_to_pipe, daemon=True)
    writing.start()
    writing.join(timeout=10)  # nobody reads the pipe, and nobody is waited for
    assert len(refused) == 1
    assert other.read_text() == "kept"
    assert sorted(os.listdir(tmp_path)) == ["key", "other"]


def test_a_new_file_appears_whole_and_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = os.fsync

    def fsync(handle: int) -> None:
        seen.append((os.path.exists(tmp_path / "key"), os.fstat(handle).st_size, os.fstat(handle).st_mode & 0o777))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    secret_files._write(tmp_path / "key", "value")
    assert seen == [(False, 6, 0o400 if os.geteuid() == 0 else 0o644)]
    assert content(tmp_path) == {"key": "value\n"}
    (tmp_path / "key").chmod(0o600)
    secret_files._write(tmp_path / "key", "v")
    assert (seen[1:], content(tmp_path)) == ([(True, 2, seen[0][2])], {"key": "v\n"})


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    arguments = {"from_env": False, "generate": True, "force": False}
    with pytest.raises(errors.ServerError, match="No space left on device") as raised:
        secret_files.write(["MCP_BEARER_TOKENS"], str(tmp_path), **arguments)
    assert (raised.value.exit_code, os.listdir(tmp_path)) == (1, [])


@pytest.mark.skipif(len(answers.SECRET_FILES) < 2, reason="takes two credentials")
def test_nothing_is_written_unless_there_is_a_value_for_all(run: Run, tmp_path: Path) -> None:
    done = run("secrets", "files", "--generate", "--folder", str(tmp_path))
    assert (done.returncode, os.listdir(tmp_path)) == (2, [])
    given = [name for name in GIVEN if name not in answers.MAY_BE_EMPTY]
    assert all(name in done.stderr for name in given)
    assert "MCP_BEARER_TOKENS" not in done.stderr


@pytest.mark.parametrize("name", secret_files.GENERATED)
def test_what_is_made_up_is_another_each_time(name: str) -> None:
    made = {secret_files.GENERATED[name]() for _ in range(20)}
    assert len(made) == 20
    assert {len(value) for value in made} <= {43, 44}  # of 32 bytes


def test_values_of_the_environment_are_taken_only_where_that_is_said(run: Run, tmp_path: Path) -> None:
    token = "a-token-of-the-environment"
    arguments = ["secrets", "files", "--generate", "--folder", str(tmp_path), "MCP_BEARER_TOKENS"]
    run(*arguments, MCP_BEARER_TOKENS=token)
    assert token not in content(tmp_path)["mcp_bearer_tokens"]
    run(*arguments, "--from-env", "--force", MCP_BEARER_TOKENS=f"{token}\n")
    assert content(tmp_path)["mcp_bearer_tokens"] == f"{token}\n"


@pytest.mark.parametrize("value", [" padded-with-blanks-", "'in-quotation-marks'", "line\nbreak"])
def test_a_value_that_the_server_would_refuse_is_not_written(run: Run, tmp_path: Path, value: str) -> None:
    names = [name for name in VALUES if name not in answers.AUTH_KEYS or answers.API_AUTH != "basic"]
    for name in names[:1]:
        done = run("secrets", "files", "--from-env", "--folder", str(tmp_path), name, **{name: value})
        assert (done.returncode, os.listdir(tmp_path), done.stderr.count("\n")) == (2, [], 1)
        assert f"{name} (as given) " in done.stderr
        assert value not in done.stderr


def test_outside_its_project_the_folder_has_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = sources.Sources({})
    monkeypatch.setattr(secret_files, "SOURCES", own)
    own.project_dir = None
    with pytest.raises(errors.UsageError, match="--folder /path/to/secrets"):
        secret_files.write(["MCP_BEARER_TOKENS"], None, from_env=False, generate=True, force=False)
    assert os.listdir(tmp_path) == []
    own.project_dir = tmp_path / "project"
    assert secret_files._default_folder() == tmp_path / "project" / "secrets"
    own.project_dir = tmp_path
    assert secret_files._default_folder() == Path("secrets")


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
