"""A16: the store against other people, bad luck and its own past. The keyring, too."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from .package import (
    Cipher,
    ConfigError,
    FileStore,
    Keychain,
    KeychainError,
    LoginRequired,
    RecordKey,
    Sources,
    TokenRecord,
    signin,
)
from .support import TOKEN_KEY, store_at

KEY = RecordKey("Fake", "https://id.example", "client", "ada")
RECORD = TokenRecord("at-SENTINEL", "rt-SENTINEL", expires_at=5.0, scopes=("a", "b"), account="ada")


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    store = store_at(tmp_path)
    with store.lock(KEY):
        store.save(KEY, RECORD)
    return store


def path_of(store: FileStore, key: RecordKey = KEY) -> Path:
    return store.directory / f"{key.file_name}.json"


def test_round_trip_modes_and_no_plain_text(store: FileStore) -> None:
    assert store.load(KEY) == RECORD
    assert stat.S_IMODE(path_of(store).stat().st_mode) == 0o600
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700
    assert b"SENTINEL" not in path_of(store).read_bytes()
    assert "SENTINEL" not in repr(RECORD)
    assert store.delete(KEY)
    assert store.load(KEY) is None
    assert not store.delete(KEY)


def test_a16_a_strange_umask_changes_nothing(store: FileStore) -> None:
    old = os.umask(0o277)
    try:
        store.save(KEY, RECORD)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path_of(store).stat().st_mode) == 0o600


@pytest.mark.parametrize("attack", ["symlink", "hard link", "fifo", "0644", "directory", "open directory"])
def test_a16_unsafe_files_are_refused_with_the_mending_command(store: FileStore, tmp_path: Path, attack: str) -> None:
    path, victim = path_of(store), tmp_path / "victim"
    shutil.copy2(path, victim)
    if attack == "symlink":
        path.unlink()
        path.symlink_to(victim)
    elif attack == "hard link":
        os.link(path, tmp_path / "second")
    elif attack == "fifo":
        path.unlink()
        os.mkfifo(path, 0o600)
    elif attack == "0644":
        path.chmod(0o644)
    elif attack == "directory":
        path.unlink()
        path.mkdir()
    else:
        store.directory.chmod(0o777)
    with pytest.raises(ConfigError, match=r"Mend it: (rm|chmod)"):
        store.load(KEY)
    if attack == "symlink":  # a write replaces the link, never its target
        before = victim.read_bytes()
        store.save(KEY, RECORD)
        assert victim.read_bytes() == before
        assert not path.is_symlink()


def test_a16_another_owner_is_refused(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    with pytest.raises(ConfigError, match="belongs to uid"):
        store.load(KEY)


def test_a16_a_linked_directory_is_refused(store: FileStore, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(store.directory)
    with pytest.raises(ConfigError):
        FileStore(link, lambda: Cipher(TOKEN_KEY)).load(KEY)


def test_a16_a_full_disk_keeps_the_old_record(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.save(KEY, TokenRecord("new"))
    monkeypatch.undo()
    assert store.load(KEY) == RECORD
    assert not list(store.directory.glob("*.new"))


@pytest.mark.parametrize("damage", ["swap", "bit", "other key", "half", "empty", "list", "no ciphertext"])
def test_a16_damaged_or_swapped_records_ask_for_sign_in(store: FileStore, damage: str) -> None:
    path, key = path_of(store), KEY
    envelope = json.loads(path.read_text())
    if damage == "swap":  # a record moved to another account
        key = KEY._replace(subject="eve")
        shutil.copy2(path, path_of(store, key))
    elif damage == "bit":
        raw = bytearray(base64.b64decode(envelope["ct"]))
        raw[3] ^= 1
        path.write_text(json.dumps(envelope | {"ct": base64.b64encode(raw).decode()}))
    elif damage == "other key":
        other = base64.b64encode(b"x" * 32).decode()
        store = FileStore(store.directory, lambda: Cipher(other))
    else:
        content = {"half": path.read_text()[:50], "empty": "", "list": "[1]", "no ciphertext": '{"kid":"x"}'}[damage]
        path.write_text(content)
    with pytest.raises(LoginRequired) as caught:
        store.load(key)
    assert str(caught.value)
    assert "SENTINEL" not in str(caught.value)


def test_key_ring_first_encrypts_all_decrypt(store: FileStore) -> None:
    new = base64.urlsafe_b64encode(b"n" * 32).decode().rstrip("=")
    both = FileStore(store.directory, lambda: Cipher(f"{new}, {TOKEN_KEY}"))
    assert both.load(KEY) == RECORD
    both.save(KEY, RECORD)
    assert FileStore(store.directory, lambda: Cipher(("n" * 32).encode().hex())).load(KEY) == RECORD


@pytest.mark.parametrize("text", ["short", "é" * 40, base64.b64encode(b"x" * 31).decode(), "not base64 at all!"])
def test_bad_token_keys_are_named_not_shown(text: str) -> None:
    with pytest.raises(ConfigError, match="openssl rand") as caught:
        Cipher(text)
    assert text not in str(caught.value)


def test_record_keys_cannot_be_confused() -> None:
    assert RecordKey("a|b", "c", "d").bound_to != RecordKey("a", "b|c", "d").bound_to


class MemoryKeychain:
    """A keyring, and the ways it may fail."""

    def __init__(self, how: str = "") -> None:
        self.how, self.kept = how, dict[str, str]()

    def get(self, name: str) -> str | None:
        return self.kept.get(name) if self.how != "locked" else None

    def keep(self, name: str, value: str) -> str:
        if self.how == "forgets":
            raise KeychainError("The OS keyring did not keep the value.")
        return self.kept.setdefault(name, value)

    def problem(self) -> str | None:
        return "No OS keyring on this machine." if self.how in {"absent", "locked"} else None


@pytest.fixture
def keychain(monkeypatch: pytest.MonkeyPatch) -> MemoryKeychain:
    """The only place where a key may be."""
    keychain = MemoryKeychain()
    monkeypatch.setattr(signin, "SOURCES", Sources({}, keychain=keychain))  # type: ignore[arg-type]
    return keychain


def test_keyring_makes_one_key_and_keeps_it(keychain: MemoryKeychain) -> None:
    assert signin.cipher() is None
    first, second = (signin.cipher(create=True) for _ in range(2))
    assert first
    assert second
    assert second.open(first.seal(b"x", b"y"), b"y") == b"x"
    assert (list(keychain.kept), second.source) == (["TOKEN_KEY"], "TOKEN_KEY from OS keyring")


@pytest.mark.parametrize("how", ["absent", "forgets"])
def test_a_keyring_that_cannot_be_used_gives_no_cipher(keychain: MemoryKeychain, how: str) -> None:
    keychain.how = how
    with pytest.raises(KeychainError):
        signin.cipher(create=True)


def test_the_key_in_a_locked_keyring_is_not_written_over(keychain: MemoryKeychain) -> None:
    keychain.how = "locked"
    keychain.kept["TOKEN_KEY"] = TOKEN_KEY
    with pytest.raises(KeychainError):
        signin.cipher(create=True)
    assert keychain.kept == {"TOKEN_KEY": TOKEN_KEY}


class LateBackend:
    """A keyring that somebody unlocks while the first read waits."""

    def __init__(self) -> None:
        self.kept, self.reads = {"TOKEN_KEY": TOKEN_KEY}, 0

    def get_password(self, service: str, name: str) -> str | None:
        self.reads += 1
        if self.reads == 1:
            raise RuntimeError("locked")
        return self.kept.get(name)

    def set_password(self, service: str, name: str, value: str) -> None:
        self.kept[name] = value

    def delete_password(self, service: str, name: str) -> None:
        del self.kept[name]


def test_the_key_in_a_keyring_that_was_unlocked_late_is_not_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LateBackend()
    monkeypatch.setattr(signin, "SOURCES", Sources({}, keychain=Keychain(lambda: backend)))
    assert signin.cipher(create=True)
    assert backend.kept == {"TOKEN_KEY": TOKEN_KEY}
