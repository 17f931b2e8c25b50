"""Where credentials come from, and that their values stay out of sight."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from conftest import SOURCE
from pkg import answers, credentials, keychain, logs, sources

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
    """Locked, and nobody is there to unlock it."""

    def get_password(self, service: str, username: str) -> str | None:
        time.sleep(60)
        return None


def look_up(project: Path | None = None, backend: MemoryBackend | None = None, **env: str) -> sources.Sources:
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
    while True:
        found = look_up(tmp_path / "project", keyring, **env).credential("KEY")
        if found is None:
            break
        seen.append(found.value)
        if "KEY_FILE" in env:
            del env["KEY_FILE"]
        elif (tmp_path / "run" / "key").exists():
            (tmp_path / "run" / "key").unlink()
        elif keyring.values:
            keyring.values.clear()
        else:
            (tmp_path / "project" / ".env").unlink()
    assert seen == ["from file", "from run", "from keyring", "from dotenv"]
    found = look_up(KEY="from environment", MCP_SECRETS_DIR=str(tmp_path)).credential("KEY")
    assert found == sources.Found("from environment", "environment")


def test_name_and_name_file_together_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="KEY and KEY_FILE are both set"):
        look_up(KEY="a", KEY_FILE=str(tmp_path)).credential("KEY")


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
    with pytest.raises(ValueError, match="does not exist"):
        look_up(KEY_FILE=str(tmp_path / "none")).credential("KEY")
    with pytest.raises(ValueError, match="is a relative path"):
        look_up(KEY_FILE="key").credential("KEY")
    with pytest.raises(ValueError, match="is a directory"):
        look_up(KEY_FILE=str(tmp_path)).credential("KEY")
    with pytest.raises(ValueError, match=r"ENV_FILE=.* is not the whole path of a file"):
        look_up(ENV_FILE=str(tmp_path / "none")).credential("KEY")


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


def test_a_keyring_that_drops_values_is_found_out() -> None:
    with pytest.raises(keychain.KeychainError, match="did not keep"):
        keychain.Keychain(lambda: ForgetfulBackend()).set("KEY", "value")


def test_a_hung_keyring_is_asked_once_and_holds_nobody_up() -> None:
    now = [0.0]
    chain = keychain.Keychain(lambda: HungBackend(), read_seconds=0.05, clock=lambda: now[0])
    before = threading.active_count()
    for _ in range(20):
        assert chain.get("KEY") is None
    assert threading.active_count() <= before + 1
    now[0] = 61.0
    chain.get("KEY")
    assert threading.active_count() <= before + 2


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
