"""A16: the store against other people, bad luck and its own past. The keyring, too."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
    TransientAuthError,
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


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o610, 0o601, 0o660, 0o606, 0o677])
@pytest.mark.parametrize("what", ["file", "directory"])
def test_a16_whoever_else_may_touch_it_is_refused(store: FileStore, mode: int, what: str) -> None:
    path = path_of(store) if what == "file" else store.directory
    path.chmod(mode if what == "file" else mode | 0o100)
    with pytest.raises(ConfigError, match=f"Others may access .*chmod {'600' if what == 'file' else '700'}"):
        store.load(KEY)
    if what == "directory":
        with pytest.raises(ConfigError, match="Others may access"):
            store.save(KEY, RECORD)
        with pytest.raises(ConfigError, match="Others may access"), store.lock(KEY):
            pass
        path.chmod(0o700)
    else:
        path.chmod(0o400)
    assert store.load(KEY) == RECORD


def test_a16_the_directories_are_this_persons_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = FileStore(tmp_path / "a" / "b" / "sign-in", lambda: Cipher(TOKEN_KEY))
        with store.lock(KEY):
            store.save(KEY, RECORD)
    finally:
        os.umask(old)
    for folder in ("a", "a/b", "a/b/sign-in"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in store.directory.iterdir()} == {0o600}
    assert sorted(file.suffix for file in store.directory.iterdir()) == [".json", ".lock"]


def test_a16_what_is_planted_for_the_writer_is_not_written_to(store: FileStore, tmp_path: Path) -> None:
    """A link or another name at the place of the temporary file, put back as often as it is removed."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    temporary = path_of(store).with_suffix(".new")
    for plant in (os.symlink, os.link, shutil.copy):
        plant(victim, temporary)
        store.save(KEY, RECORD)
        assert (victim.read_text(), store.load(KEY), path_of(store).stat().st_nlink) == ("precious", RECORD, 1)
    real = os.unlink
    planted: list[int] = []

    def races(path: Path, **more: object) -> None:
        real(path)
        if path == temporary and not planted:
            planted.append(1)
            temporary.symlink_to(victim)

    temporary.touch()
    os.unlink = races  # type: ignore[assignment]
    try:
        with pytest.raises(FileExistsError):
            store.save(KEY, RECORD)
    finally:
        os.unlink = real
    assert victim.read_text() == "precious"
    assert not temporary.is_symlink()


def test_a16_what_is_saved_is_on_the_disk_before_it_counts(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        found = os.fstat(handle)
        whole = "the file" if found.st_size > 100 else "nothing"
        done.append(f"fsync of {'the directory' if stat.S_ISDIR(found.st_mode) else whole}")
        fsync(handle)

    def note_replace(*names: Any) -> None:
        done.append("replace")
        replace(*names)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    store.save(KEY, RECORD)
    assert done == ["fsync of the file", "replace", "fsync of the directory"]
    done.clear()
    store.delete(KEY)
    assert done == ["fsync of the directory"]


def test_a16_a_file_that_is_too_large_is_not_read_whole(store: FileStore) -> None:
    path_of(store).write_bytes(b" " * 1024 * 1024 + path_of(store).read_bytes())
    with pytest.raises(LoginRequired, match="damaged"):
        store.load(KEY)


def test_the_stamp_differs_with_each_record(store: FileStore, tmp_path: Path) -> None:
    seen = {store.stamp(KEY)}
    for number in range(20):
        store.save(KEY, RECORD)
        store.save(KEY, TokenRecord("other" * number))
        seen.add(store.stamp(KEY))
    assert len(seen) == 21
    assert store.stamp(KEY._replace(subject="eve")) is None
    store.delete(KEY)
    assert store.stamp(KEY) is None
    path_of(store).symlink_to(tmp_path / "nowhere")
    assert store.stamp(KEY) is not None  # so that it is looked at, and refused
    with pytest.raises(ConfigError):
        store.load(KEY)


def test_the_lock_holds_between_processes_and_outlives_the_record(store: FileStore) -> None:
    with store.lock(KEY):
        store.delete(KEY)
        store.save(KEY, RECORD)
        other = FileStore(store.directory, lambda: None)
        with pytest.raises(TransientAuthError) as caught, other.lock(KEY, 0.05):
            pass
        assert caught.value.code == "lock_timeout"
        with other.lock(KEY._replace(subject="eve"), 0.05):
            pass  # somebody else's sign-in is not held up
    with other.lock(KEY, 0.05):
        pass


def test_each_record_has_a_nonce_of_its_own(store: FileStore) -> None:
    """AES-GCM with a nonce that comes twice gives away what is encrypted, and its own key for forgeries."""
    envelopes = []
    for _ in range(50):
        store.save(KEY, RECORD)
        envelopes.append(json.loads(path_of(store).read_text()))
    nonces = {it["n"] for it in envelopes}
    assert len(nonces) == len({it["ct"] for it in envelopes}) == 50
    raw = [base64.b64decode(it) for it in nonces]
    assert {len(it) for it in raw} == {12}
    columns = [bytes(it[place] for it in raw) for place in range(12)]
    assert all(len(set(column)) > 25 for column in columns)  # random in each of its bytes
    assert len(set(columns)) == 12  # and in each anew
    assert {it["kid"] for it in envelopes} == {hashlib.sha256(bytes(range(32))).hexdigest()[:8]}


@pytest.mark.parametrize("part", RecordKey._fields)
@pytest.mark.parametrize("other", ["", "Fake", "ada", "client", "https://id.example", "https://id.example/", "ADA"])
def test_a_record_is_bound_to_every_part_of_its_key(store: FileStore, part: str, other: str) -> None:
    key = KEY._replace(**{part: other})
    if key == KEY:
        return
    assert key.file_name != KEY.file_name
    shutil.copy2(path_of(store), path_of(store, key))
    with pytest.raises(LoginRequired) as caught:
        store.load(key)
    assert caught.value.code == "undecryptable"


@pytest.mark.parametrize("part", ["n", "ct"])
def test_each_byte_is_authenticated(store: FileStore, part: str) -> None:
    envelope = json.loads(path_of(store).read_text())
    raw = base64.b64decode(envelope[part])
    for place in {0, len(raw) // 2, len(raw) - 1}:
        changed = bytearray(raw)
        changed[place] ^= 0x80
        path_of(store).write_text(json.dumps(envelope | {part: base64.b64encode(changed).decode()}))
        with pytest.raises(LoginRequired, match="cannot be decrypted"):
            store.load(KEY)


def test_without_a_key_nothing_is_saved(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "sign-in", lambda: None)
    with store.lock(KEY), pytest.raises(ConfigError, match="no TOKEN_KEY is set") as caught:
        store.save(KEY, RECORD)
    assert caught.value.code == "no_token_key"
    assert [file.suffix for file in store.directory.iterdir()] == [".lock"]


def test_plain_text_is_written_only_when_asked_for_and_read_only_without_a_key(tmp_path: Path) -> None:
    keys: list[Cipher] = []
    directory = tmp_path / "sign-in"
    plain = FileStore(directory, lambda: None, plaintext=True)
    with plain.lock(KEY):
        plain.save(KEY, RECORD)
    assert "PLAIN TEXT" in plain.description
    assert json.loads(path_of(plain).read_text())["plain"]["access_token"] == RECORD.access_token
    assert FileStore(directory, lambda: None).load(KEY) == RECORD
    late = FileStore(directory, lambda: keys[0] if keys else None)
    keys.append(Cipher(TOKEN_KEY))
    with pytest.raises(LoginRequired) as caught:  # planted, perhaps, where encryption is in use
        late.load(KEY)
    assert caught.value.code == "not_encrypted"
    late.save(KEY, RECORD)
    assert b"SENTINEL" not in path_of(late).read_bytes()
    assert late.load(KEY) == RECORD


def test_a_renewal_of_a_plain_text_sign_in_stays_plain(tmp_path: Path) -> None:
    directory = tmp_path / "sign-in"
    with FileStore(directory, lambda: None).lock(KEY):
        FileStore(directory, lambda: None, plaintext=True).save(KEY, RECORD)
    store = FileStore(directory, lambda: None)
    assert store.load(KEY) == RECORD
    store.save(KEY, TokenRecord("at-new"))
    assert store.load(KEY) == TokenRecord("at-new")


def test_what_a_newer_version_wrote_is_read_and_what_an_older_one_wrote_too(store: FileStore) -> None:
    cipher = Cipher(TOKEN_KEY)
    for data in (asdict(RECORD) | {"new": 1}, {"access_token": "at-1", "scopes": ["a"]}):
        sealed = cipher.seal(json.dumps(data).encode(), KEY.bound_to)
        path_of(store).write_text(json.dumps({"v": 1, **sealed}))
        assert store.load(KEY) in (RECORD, TokenRecord("at-1", scopes=("a",)))


def test_the_key_is_asked_for_once_and_when_it_is_needed(tmp_path: Path) -> None:
    asked: list[int] = []

    def cipher() -> Cipher:
        asked.append(1)
        return Cipher(TOKEN_KEY)

    store = FileStore(tmp_path / "sign-in", cipher)
    assert (store.load(KEY), store.stamp(KEY), asked) == (None, None, [])
    with store.lock(KEY):
        store.save(KEY, RECORD)
        assert store.load(KEY) == RECORD
    assert len(asked) == 1
    assert not (tmp_path / "sign-in" / "nothing").exists()


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33, 64])
@pytest.mark.parametrize("form", ["hex", "base64"])
def test_a_key_has_32_bytes(size: int, form: str) -> None:
    raw = os.urandom(size)
    with pytest.raises(ConfigError, match="not 32 bytes"):
        Cipher(raw.hex() if form == "hex" and size else base64.b64encode(raw).decode())


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


def test_a16_the_old_record_is_there_until_the_new_one_is(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that holds no lock, and a process that is killed there, find one of the two."""

    def stopped(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(OSError, match="Input"):
        store.save(KEY, TokenRecord("new"))
    assert store.load(KEY) == RECORD


def test_a16_what_is_checked_is_what_was_opened(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that others may write to, which is replaced by a good one between the opening and the look at it."""
    path = path_of(store)
    good = path.with_suffix(".good")
    good.touch(mode=0o600)
    good.write_bytes(path.read_bytes())
    path.chmod(0o666)
    real = os.open

    def swapping(name: Any, *more: Any) -> int:
        handle = real(name, *more)
        if name == path:
            good.replace(path)
        return handle

    monkeypatch.setattr(os, "open", swapping)
    with pytest.raises(ConfigError, match="Others may access"):
        store.load(KEY)


def test_no_descriptor_stays_open(store: FileStore) -> None:
    def lowest() -> int:
        handle = os.open(os.devnull, os.O_RDONLY)
        os.close(handle)
        return handle

    before = lowest()
    for _ in range(3):
        store.save(KEY, RECORD)
        store.load(KEY)
        store.delete(KEY)
    assert lowest() == before


def test_a_server_that_reads_plain_text_goes_on_when_a_key_appears(tmp_path: Path) -> None:
    """What the person asked for, or what this process has read so far, is not refused in the middle."""
    keys: list[Cipher] = []
    store = FileStore(tmp_path / "sign-in", lambda: keys[0] if keys else None, plaintext=True)
    with store.lock(KEY):
        store.save(KEY, RECORD)
    keys.append(Cipher(TOKEN_KEY))
    assert store.load(KEY) == RECORD


@pytest.mark.parametrize(
    "change",
    [
        {"kid": "00000000"},
        {"kid": []},
        {"kid": None},
        {"n": "AAAA"},
        {"n": 1},
        {"n": "é"},
        {"n": ""},
        {"ct": None},
        {"ct": "A"},
    ],
)
def test_an_odd_envelope_is_one_that_cannot_be_decrypted(change: dict[str, Any]) -> None:
    cipher = Cipher(TOKEN_KEY)
    envelope = {**cipher.seal(b"plain", b"key"), **change}
    with pytest.raises(LoginRequired) as caught:
        cipher.open(envelope, b"key")
    assert caught.value.code == "undecryptable"


def test_a_damaged_record_is_not_quoted(tmp_path: Path) -> None:
    """A JSON error holds the whole text that it could not read, which is what was decrypted."""
    store = store_at(tmp_path)
    cipher = Cipher(TOKEN_KEY)
    with store.lock(KEY):
        store.save(KEY, RECORD)
    for text in (b'{"access_token": "at-SENTINEL"', b"[]", b"{}"):
        path_of(store).write_text(json.dumps({"v": 1, **cipher.seal(text, KEY.bound_to)}))
        with pytest.raises(LoginRequired, match="damaged") as caught:
            store.load(KEY)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


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


def test_each_machine_gets_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = set()
    for _ in range(20):
        keychain = MemoryKeychain()
        monkeypatch.setattr(signin, "SOURCES", Sources({}, keychain=keychain))  # type: ignore[arg-type]
        assert signin.cipher(create=True)
        made.add(base64.b64decode(keychain.kept["TOKEN_KEY"]))
    assert (len(made), {len(key) for key in made}) == (20, {32})
    assert len({key[place] for key in made for place in range(32)}) > 100


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
