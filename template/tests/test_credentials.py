"""Where credentials come from, and that their values stay out of sight."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from conftest import SOURCE
from pkg import answers, credentials, errors, keychain, logs, sources

ENV = {"MCP_SECRETS_DIR": "/nonexistent"}


class MemoryBackend:
    """A keyring that works."""

    def __init__(self, **values: str) -> None:
        self.values = values

    def get_password(self, service: str, username: str) -> str | None:
        return self.values.get(username)

    def set_password(self, service: str, username: str, password: str) -> None:
        self.values[username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.values[username]


class ForgetfulBackend(MemoryBackend):
    """Accepts everything and keeps nothing, like `keyring.backends.null`."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


class HungBackend(MemoryBackend):
    """Locked, until somebody unlocks it."""

    def __init__(self, **values: str) -> None:
        super().__init__(**values)
        self.unlocked = threading.Event()
        self.asked = 0

    def get_password(self, service: str, username: str) -> str | None:
        self.asked += 1
        self.unlocked.wait(60)
        return super().get_password(service, username)


def look_up(project: Path | None = None, backend: MemoryBackend | None = None, /, **env: str) -> sources.Sources:
    chain = keychain.Keychain(lambda: backend or MemoryBackend())
    return sources.Sources({**ENV, **env}, keychain=chain, project_dir=project)


def test_places_are_searched_in_the_documented_order(tmp_path: Path) -> None:
    for folder in ("run", "project"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").write_text("from file")
    (tmp_path / "run" / "key").write_text("from run")
    (tmp_path / "project" / ".env").write_text("KEY=from dotenv\n")
    env = {"KEY_FILE": str(tmp_path / "file"), "MCP_SECRETS_DIR": str(tmp_path / "run")}
    keyring = MemoryBackend(KEY="from keyring")
    seen = []
    settings = []
    while True:
        look = look_up(tmp_path / "project", keyring, **env)
        found = look.credential("KEY")
        if found is None:
            break
        seen.append(found.value)
        setting = look.setting("KEY")
        assert setting is not None
        settings.append(setting.value)
        if "KEY_FILE" in env:
            del env["KEY_FILE"]
        elif (tmp_path / "run" / "key").exists():
            (tmp_path / "run" / "key").unlink()
        elif keyring.values:
            keyring.values.clear()
        else:
            (tmp_path / "project" / ".env").unlink()
    assert seen == ["from file", "from run", "from keyring", "from dotenv"]
    assert settings == ["from file", "from run", "from dotenv", "from dotenv"]
    found = look_up(KEY="from environment", MCP_SECRETS_DIR=str(tmp_path)).credential("KEY")
    assert found == sources.Found("from environment", "environment")


def test_name_and_name_file_together_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="KEY and KEY_FILE are both set"):
        look_up(KEY="a", KEY_FILE=str(tmp_path)).credential("KEY")
    with pytest.raises(ValueError, match="KEY and KEY_FILE are both set"):
        look_up(KEY=str(tmp_path), KEY_FILE=str(tmp_path)).setting("KEY")


@pytest.mark.parametrize(("content", "value"), [("k\n", "k"), ("k\r\n", "k"), ("k", "k"), ("\ufeffk\n", "k")])
def test_a_trailing_newline_is_not_part_of_the_secret(tmp_path: Path, content: str, value: str) -> None:
    (tmp_path / "key").write_bytes(content.encode())
    found = look_up(KEY_FILE=str(tmp_path / "key")).credential("KEY")
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty. Write KEY to it"),
        (b"\n", "is empty"),
        (b"a\nX-Injected: b\n", "line break or control character"),
        (b"\xff\xfe", "not UTF-8 text"),
    ],
)
def test_a_file_that_holds_no_credential_says_so(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        look_up(KEY_FILE=str(tmp_path / "key")).credential("KEY")
    assert "X-Injected" not in str(raised.value)


def test_missing_relative_and_directory_paths_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="KEY_FILE names no file that exists"):
        look_up(KEY_FILE=str(tmp_path / "none")).credential("KEY")
    with pytest.raises(ValueError, match="is a directory"):
        look_up(KEY_FILE=str(tmp_path)).credential("KEY")
    for wrong in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match=r"ENV_FILE names no file"):
            look_up(ENV_FILE=str(wrong)).credential("KEY")


@pytest.mark.parametrize("name", ["KEY_FILE", "MCP_SECRETS_DIR", "ENV_FILE"])
@pytest.mark.parametrize("place", ["there", "./there", "../here/there", "~/there", "~"])
def test_a_path_in_the_working_directory_is_refused_where_there_is_something_too(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "there").mkdir(parents=True)
    (here / "~" / "there").mkdir(parents=True)
    for folder in (here / "there", here / "~" / "there", here / "~"):
        (folder / "key").write_text("planted")
    monkeypatch.chdir(here)
    value = place if name == "MCP_SECRETS_DIR" else f"{place}/key"
    for look in (look_up(**{name: value}).credential, look_up(**{name: value}).setting):
        with pytest.raises(ValueError, match=f"^{name} is not a whole path") as raised:
            look("KEY")
        assert "there" not in str(raised.value)


@pytest.mark.parametrize("where", ["KEY_FILE", "MCP_SECRETS_DIR", ".env"])
@pytest.mark.parametrize("kind", ["fifo", "device", "huge", "large"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes and devices in folders")
def test_what_is_no_small_file_is_refused_at_once(where: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / (".env" if where == ".env" else "key")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_text("KEY=")
        os.truncate(path, 3 * 1024**3 if kind == "huge" else sources.MAX_FILE_BYTES + 1)
    env = {"KEY_FILE": str(path), "MCP_SECRETS_DIR": str(tmp_path)}
    look = look_up(tmp_path) if where == ".env" else look_up(**{where: env[where]})
    reason = "more than 65536 bytes" if kind in ("huge", "large") else "a pipe or a device, not a file"
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=reason) as raised:
            look.credential("KEY")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000  # it is not read first and refused then
    assert str(raised.value).startswith(f"{path} cannot be read (")
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in folders")
def test_a_pipe_as_env_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="ENV_FILE names no file, or a pipe"):
        look_up(ENV_FILE=str(tmp_path / "pipe")).credential("KEY")
    reader, writer = os.pipe()
    try:  # as <(command) gives it
        with pytest.raises(ValueError, match="a pipe or a device, not a file"):
            look_up(KEY_FILE=f"/dev/fd/{reader}").credential("KEY")
    finally:
        os.close(reader)
        os.close(writer)


def test_the_largest_file_and_a_mounted_link_are_read(tmp_path: Path) -> None:
    value = (sources.MAX_FILE_BYTES - 1) * "k"
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "key").write_text(f"{value}\n")
    (tmp_path / "key").symlink_to(Path("..data", "key"))  # as Kubernetes mounts secrets
    for env in ({"KEY_FILE": str(tmp_path / "key")}, {"MCP_SECRETS_DIR": str(tmp_path)}):
        found = look_up(**env).credential("KEY")
        assert found == sources.Found(value, str(tmp_path / "key"))


def test_a_folder_named_env_is_no_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert look_up(tmp_path).credential("KEY") is None
    assert look_up(tmp_path).env_file() is None


@pytest.mark.parametrize("value", [" k", "k ", " ", '"k"', "'k'", '""', "k\u200b", "\ufeffk", "\u00a0k", "k\t", "k\r"])
@pytest.mark.parametrize("place", ["environment", "file", "keyring", "dotenv"])
def test_a_key_with_something_around_it_is_refused_where_it_is_looked_up(
    value: str, place: str, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{value}\n", encoding="utf-8", newline="")
    (tmp_path / ".env").write_text(f"KEY='{value}'\n" if "'" not in value else f'KEY="{value}"\n', encoding="utf-8")
    look = {
        "environment": look_up(KEY=value),
        "file": look_up(KEY_FILE=str(tmp_path / "key")),
        "keyring": look_up(None, MemoryBackend(KEY=value)),
        "dotenv": look_up(tmp_path),
    }[place]
    if place == "file" and value in ("\ufeffk", "k\r"):  # an editor's mark, and the line break's other half
        assert look.credential("KEY") == sources.Found("k", str(tmp_path / "key"))
        return
    with pytest.raises(errors.CredentialError) as raised:
        look.credential("KEY")
    assert str(raised.value).startswith("KEY (")
    assert str(raised.value).endswith("Set it again.")
    config = credentials.AuthConfig(("KEY",), look)
    assert (config["KEY"], config.status()[0].kind) == (None, "unreadable")
    with pytest.raises(errors.CredentialError):
        config.require("KEY")


@pytest.mark.parametrize("value", ["two words", "it's", '"', "'a\"", "a=b", "$HOME", "schlüssel"])
def test_a_key_with_something_in_it_is_taken(value: str) -> None:
    assert look_up(KEY=value).credential("KEY") == sources.Found(value, "environment")


def test_the_key_of_the_api_is_judged_by_how_it_travels() -> None:
    def accepted(name: str, value: str) -> bool:
        problem = credentials.credential_status(name, look_up(**{name: value})).problem
        assert problem is None or value.strip() not in problem
        return problem is None

    for number, name in enumerate(answers.AUTH_KEYS):
        in_header = answers.API_AUTH in ("header", "bearer") and number == 0
        a_password = answers.API_AUTH == "basic" and number < 2
        assert accepted(name, "plain")
        for value in ("schlüssel", "w\u00e9", "\u20ac"):
            assert accepted(name, value) is not in_header
        for value in (" padded", "padded ", "'quoted'"):
            assert accepted(name, value) is a_password
        for value in ("two\nlines", "tab\there", "bell\x07", "nul\x00", "del\x7f"):
            assert not accepted(name, value)


@pytest.mark.parametrize("name", answers.MULTILINE)
def test_several_lines_are_for_those_that_have_several_values(name: str) -> None:
    value = "a-token-that-is-long-enough\n another-that-is-long-enough \r\n"
    assert look_up(**{name: value}).credential(name) == sources.Found(value, "environment")
    assert logs.blot("another-that-is-long-enough") == "***"
    with pytest.raises(errors.CredentialError, match="control character"):
        look_up(**{name: "a-token-that-is-long-enough\nbell\x07"}).credential(name)


def test_only_what_may_be_empty_may_be_an_empty_file_and_only_in_the_secrets_folder(tmp_path: Path) -> None:
    for name in ("KEY", *answers.MAY_BE_EMPTY):
        (tmp_path / name.lower()).write_text("\n")
        optional = name in answers.MAY_BE_EMPTY
        status = credentials.credential_status(name, look_up(MCP_SECRETS_DIR=str(tmp_path)))
        assert (status.source, status.kind) == (None, "missing" if optional else "unreadable")
        with pytest.raises(ValueError, match="is empty"):
            look_up(**{f"{name}_FILE": str(tmp_path / name.lower())}).credential(name)


@pytest.mark.parametrize("content", ["k\n\n", "k\r\n\n", "k\n\r\n", "\nk"])
def test_one_line_break_at_the_end_is_taken_off_and_no_more(content: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content.encode())
    with pytest.raises(ValueError, match="line break"):
        look_up(KEY_FILE=str(tmp_path / "key")).credential("KEY")


def test_a_setting_is_never_asked_of_the_keyring_nor_judged_as_a_credential() -> None:
    look = look_up(None, MemoryBackend(KEY="from keyring"), OTHER=" 8000 ")
    assert look.setting("KEY") is None
    assert look.setting("OTHER") == sources.Found(" 8000 ", "environment")
    assert logs.blot("http://localhost: 8000 ") == "http://localhost: 8000 "


@pytest.mark.parametrize(("switch", "asked"), [("off", False), ("OFF", False), ("on", True), ("of", True), ("", True)])
def test_the_keyring_can_be_switched_off(switch: str, asked: bool) -> None:
    look = look_up(None, MemoryBackend(KEY="from keyring"), MCP_KEYRING=switch)
    assert look.credential("KEY") == (sources.Found("from keyring", "OS keyring") if asked else None)
    assert (look.keychain is not None) is asked


def test_what_is_mounted_into_a_container_is_mended_on_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CONTAINER_SECRETS", str(tmp_path))
    look = sources.Sources({}, keychain=keychain.Keychain(lambda: MemoryBackend()), project_dir=tmp_path)
    (tmp_path / "key").touch()
    on_host = f"Run on the host: {answers.COMMAND} secrets files"
    with pytest.raises(ValueError, match=rf"^{tmp_path}/key is empty\. Write KEY to it\. {on_host}$"):
        look.credential("KEY")
    (tmp_path / "key").unlink()
    (tmp_path / "key").mkdir()
    on_host = f"Run on the host: rmdir secrets/key && {answers.COMMAND} secrets files"
    with pytest.raises(ValueError, match=rf"is a directory, so KEY cannot be read\. {on_host}"):
        look.credential("KEY")
    with pytest.raises(ValueError, match=r"is a directory, so KEY cannot be read\. Put a file in its place\.$"):
        look_up(KEY_FILE=str(tmp_path / "key" / "..")).credential("KEY")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes to get wrong")
def test_a_closed_folder_is_named_and_what_is_below_it_is_not() -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        closed = Path(folder, "it's closed")
        (closed / "sentinel").mkdir(parents=True)
        (closed / "sentinel" / "key").write_text("value")
        closed.chmod(0)
        owner = os.geteuid()
        try:
            if owner == 0:
                os.seteuid(65534)
            with pytest.raises(ValueError, match="may not enter") as raised:
                look_up(KEY_FILE=str(closed / "sentinel" / "key")).credential("KEY")
            uid = os.geteuid()
        finally:
            os.seteuid(owner)
            closed.chmod(0o700)
    quoted = shlex.quote(str(closed))
    assert str(raised.value) == f"{closed} is a folder that uid {uid} may not enter. Run: chmod u+rx {quoted}"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes to get wrong")
def test_an_unreadable_file_says_uid_mode_and_the_mending_command() -> None:
    # /tmp: to somebody else, the folder that TMPDIR names may be closed.
    with TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "key")
        path.write_text("secret")
        path.chmod(0)
        owner = os.geteuid()
        try:
            if owner == 0:  # root reads everything, so it looks as somebody else
                os.seteuid(65534)
            with pytest.raises(ValueError, match="cannot be read by uid") as raised:
                look_up(KEY_FILE=str(path)).credential("KEY")
            uid = os.geteuid()
        finally:
            os.seteuid(owner)
    said = str(raised.value)
    assert f"by uid {uid} (it belongs to uid {owner}, mode 0000)" in said
    assert f"sudo chown {uid} {path} && sudo chmod 400 {path}" in said


def test_a_changed_file_counts_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "key"
    found = look_up(KEY_FILE=str(path))
    for value in ("old", "newer"):
        path.write_text(value)
        credential = found.credential("KEY")
        assert credential is not None
        assert credential.value == value


def test_a_changed_env_file_counts_without_a_restart(tmp_path: Path) -> None:
    found = look_up(tmp_path)
    for value in ("old", "newer $HOME ${HOME}"):
        (tmp_path / ".env").write_text(f"# note\nKEY='{value}'\nOTHER=\n")
        credential = found.credential("KEY")
        assert credential is not None
        assert credential.value == value  # a `$` in a password is a `$`
    assert found.credential("OTHER") is None


@pytest.mark.parametrize(("value", "later"), [("newer", 0), ("new", 1_000_000)])
def test_a_changed_env_file_is_known_by_its_size_or_by_a_part_of_a_second(
    value: str, later: int, tmp_path: Path
) -> None:
    at = 1_000_000_000_000_000_000
    found = look_up(tmp_path)
    for text, instant in (("old", at), (value, at + later)):
        (tmp_path / ".env").write_text(f"KEY={text}\n")
        os.utime(tmp_path / ".env", ns=(instant, instant))
        assert found.credential("KEY") == sources.Found(text, str(tmp_path / ".env"))


@pytest.mark.parametrize("value", ["first-half-of-it\nsecond-half-of-it", " a-key-behind-a-blank", '"a-key-in-quotes"'])
def test_a_credential_that_is_refused_is_hidden_all_the_same(value: str) -> None:
    with pytest.raises(errors.CredentialError):
        look_up(KEY=value).credential("KEY")
    for line in value.splitlines():
        assert logs.blot(f"key={line.strip()}") == "key=***"


@pytest.mark.skipif(sys.platform == "win32", reason="has no such device")
def test_a_device_is_no_empty_file() -> None:
    with pytest.raises(errors.CredentialError, match="a pipe or a device, not a file"):
        look_up(KEY_FILE=os.devnull).credential("KEY")


@pytest.mark.parametrize(
    ("folder", "described", "own"), [("src", True, True), ("src", False, False), ("site-packages", True, False)]
)
def test_only_a_source_tree_has_a_project_folder(
    folder: str, described: bool, own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed, the package lies in folders that are not the project's: what is there is not its `.env`."""
    (tmp_path / folder / "package").mkdir(parents=True)
    (tmp_path / ".env").write_text("KEY=planted\n")
    if described:
        (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(sources, "__file__", str(tmp_path / folder / "package" / "sources.py"))
    look = sources.Sources(ENV, keychain=keychain.Keychain(lambda: MemoryBackend()))
    assert look.project_dir == (tmp_path if own else None)
    assert (look.credential("KEY") is not None) is own


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes to get wrong")
def test_an_unreadable_env_file_is_an_error_and_not_an_empty_one() -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, ".env")
        path.write_text("KEY=value\n")
        path.chmod(0)
        owner = os.geteuid()
        try:
            if owner == 0:
                os.seteuid(65534)
            for look in (look_up(Path(folder)), look_up(ENV_FILE=str(path))):
                with pytest.raises(errors.CredentialError, match="cannot be read by uid"):
                    look.credential("KEY")
                with pytest.raises(errors.CredentialError, match="cannot be read by uid"):
                    look.setting("KEY")
        finally:
            os.seteuid(owner)


def test_an_env_file_of_the_working_directory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("KEY=planted by a stranger\nMCP_HOST=0.0.0.0\n")
    monkeypatch.chdir(tmp_path)
    assert look_up().credential("KEY") is None
    assert look_up().setting("MCP_HOST") is None


def test_auth_config_and_require_auth() -> None:
    config = credentials.AuthConfig(("KEY", "BACKUP"), look_up(KEY="the value"))
    assert list(config) == ["KEY", "BACKUP"]
    assert config["KEY"] == config.require("KEY") == "the value"
    assert config.get("BACKUP") is None
    with pytest.raises(KeyError):
        config["MCP_SECRETS_DIR"]  # set, and no credential
    with pytest.raises(
        ValueError, match=r"^Missing required auth: BACKUP\. Set BACKUP environment variable\. .* secrets set BACKUP$"
    ):
        config.require("BACKUP")
    with pytest.raises(ValueError, match=r"^Missing required auth: OTHER\. .* -d auth_keys=KEY,BACKUP,OTHER$"):
        config.require("OTHER")


def test_the_servers_own_credentials_are_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(credentials.AUTH_CONFIG) == list(answers.AUTH_KEYS)
    for name in answers.AUTH_KEYS:
        assert credentials.AUTH_CONFIG[name] is None
        monkeypatch.setenv(name, "set later")
        assert credentials.require_auth(name) == "set later"


def test_values_do_not_show_in_repr_or_log() -> None:
    config = credentials.AuthConfig(("KEY",), look_up(KEY="sentinel-value"))
    found = look_up(KEY="sentinel-value").credential("KEY")
    assert "sentinel" not in repr((config, found, config.status()))
    formatter = logs._HidingFormatter("%(message)s")
    try:
        raise RuntimeError("https://api.example.com/?api_key=sentinel-value")
    except RuntimeError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "key %s", ("sentinel-value",), sys.exc_info())
    text = formatter.format(record)
    assert "key ***" in text
    assert "sentinel" not in text


def test_keyring_keeps_reads_and_deletes() -> None:
    chain = keychain.Keychain(lambda: MemoryBackend(), clock=lambda: 0.0)
    assert chain.get("KEY") is None
    chain.set("KEY", "value")
    assert chain.get("KEY") == "value"
    assert chain.delete("KEY")
    assert not chain.delete("KEY")
    assert chain.get("KEY") is None


@pytest.mark.parametrize("kept", [{}, {"KEY": "the old one"}, {"KEY": "valu"}])
def test_a_keyring_that_drops_values_is_found_out(kept: dict[str, str]) -> None:
    with pytest.raises(keychain.KeychainError, match="did not keep") as raised:
        keychain.Keychain(lambda: ForgetfulBackend(**kept)).set("KEY", "value")
    assert str(raised.value) == "The OS keyring did not keep the value."


def test_an_empty_value_in_the_keyring_is_none(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEY=from dotenv\n")
    found = look_up(tmp_path, MemoryBackend(KEY="")).credential("KEY")
    assert found == sources.Found("from dotenv", str(tmp_path / ".env"))


def test_that_the_keyring_has_nothing_is_believed_too() -> None:
    asked: list[str] = []

    class Empty(MemoryBackend):
        def get_password(self, service: str, username: str) -> str | None:
            asked.append(username)
            return None

    chain = keychain.Keychain(lambda: Empty(), clock=lambda: 0.0)
    assert [chain.get(name) for name in ("KEY", "KEY", "OTHER", "KEY")] == [None] * 4
    assert asked == ["KEY", "OTHER"]  # a desktop's keyring takes a while, and a request may look for several


def test_a_hung_keyring_is_asked_once_and_holds_nobody_up() -> None:
    now = [0.0]
    backend = HungBackend(KEY="value")
    chain = keychain.Keychain(lambda: backend, read_seconds=0.05, clock=lambda: now[0])
    before = threading.active_count()
    with ThreadPoolExecutor(10) as pool:  # tools that look their key up at the same time
        assert set(pool.map(chain.get, 10 * ["KEY", "OTHER"])) == {None}
    for _ in range(5):  # a thread a minute is what a server that runs for days cannot have
        now[0] += 61.0
        assert chain.get("KEY") is None
        assert chain.problem() == "The OS keyring still does not answer (is it locked?)."
    assert (backend.asked, threading.active_count()) == (1, before + 1)
    backend.unlocked.set()
    assert chain._hanging is not None
    assert chain._hanging.daemon  # a server that is told to end does not wait for it
    chain._hanging.join(timeout=10)
    assert chain.get("KEY") == "value"
    assert chain.problem() is None


def test_a_keyring_that_failed_is_asked_again_after_a_minute() -> None:
    now = [0.0]
    calls = []

    def fail() -> keychain.Backend:
        calls.append(now[0])
        raise ImportError

    chain = keychain.Keychain(fail, clock=lambda: now[0])
    for instant in (0.0, 59.9, 60.1, 120.0, 121.0):
        now[0] = instant
        assert chain.get("KEY") is None
    assert calls == [0.0, 60.1, 121.0]


def test_what_the_keyring_said_is_believed_for_five_seconds() -> None:
    now = [0.0]
    backend = MemoryBackend(KEY="old")
    chain = keychain.Keychain(lambda: backend, clock=lambda: now[0])
    assert chain.get("KEY") == "old"
    backend.values["KEY"] = "new"
    now[0] = 4.9
    assert chain.get("KEY") == "old"
    now[0] = 5.0
    assert chain.get("KEY") == "new"
    chain.set("KEY", "mine")
    assert chain.get("KEY") == "mine"
    assert chain.delete("KEY")
    assert chain.get("KEY") is None


def test_keeping_never_replaces() -> None:
    backend = MemoryBackend(KEY="first")
    chain = keychain.Keychain(lambda: backend)
    assert chain.keep("KEY", "second") == "first"
    assert chain.keep("OTHER", "second") == "second"
    assert backend.values == {"KEY": "first", "OTHER": "second"}
    with pytest.raises(keychain.KeychainError, match="did not keep"):
        keychain.Keychain(lambda: ForgetfulBackend()).keep("KEY", "value")


def test_the_first_keyring_whose_service_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent(MemoryBackend):
        viable = False

    class Broken(MemoryBackend):
        @property
        def viable(self) -> bool:
            raise RuntimeError

    class Present(MemoryBackend):
        viable = True

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "x:")
    for spec, kind in zip(keychain.LINUX_BACKENDS, (Absent, Broken, Present), strict=True):
        module, _, name = spec.partition(":")
        # `viable` is asked of the class.
        backend = kind if kind is not Broken else type("Meta", (type,), {"viable": Broken.viable})("Keyring", (), {})
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{name: backend}))
    assert type(keychain._os_backend()) is Present
    monkeypatch.setitem(sys.modules, "keyring.backends.kwallet", None)
    with pytest.raises(keychain.KeychainError, match="No OS keyring on this machine"):
        keychain._os_backend()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no session bus")
@pytest.mark.parametrize("mine", [True, False])
def test_the_session_bus_of_somebody_else_is_not_asked(
    mine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bus").touch()
    uid = os.getuid() if mine else os.getuid() + 1
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(keychain, "Path", lambda path: tmp_path / "bus" if path == f"/run/user/{uid}/bus" else None)
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "")
    keychain._find_session_bus()
    address = f"unix:path={tmp_path}/bus"
    assert os.environ["DBUS_SESSION_BUS_ADDRESS"] == (address if mine else "")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/another")
    keychain._find_session_bus()
    assert os.environ["DBUS_SESSION_BUS_ADDRESS"] == "unix:path=/another"


def test_only_the_systems_own_keyrings_are_known() -> None:
    known = {spec for specs in keychain.BACKENDS.values() for spec in specs} | set(keychain.LINUX_BACKENDS)
    assert known == {
        "keyring.backends.macOS:Keyring",
        "keyring.backends.Windows:WinVaultKeyring",
        "keyring.backends.SecretService:Keyring",
        "keyring.backends.libsecret:Keyring",
        "keyring.backends.kwallet:DBusKeyring",
    }


def test_no_keyring_is_no_error_for_a_lookup() -> None:
    def none() -> keychain.Backend:
        raise ImportError

    chain = keychain.Keychain(none)
    assert chain.get("KEY") is None
    with pytest.raises(keychain.KeychainError, match="ImportError"):
        chain.set("KEY", "value")


def test_a_plugin_backend_is_never_chosen() -> None:
    script = (
        f"import sys; sys.path[:0] = {[str(SOURCE), *sys.path]!r}\n"
        f"from {keychain.__name__} import _os_backend, KeychainError\n"
        "try: print(type(_os_backend()).__module__)\n"
        "except KeychainError as error: print(error)"
    )
    env = {**os.environ, "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring", "DBUS_SESSION_BUS_ADDRESS": "x:"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert "null" not in done.stdout
