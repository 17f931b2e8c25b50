"""Where a sign-in lives: one encrypted file per provider, issuer, client and subject; or memory."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from .errors import ConfigError, LoginRequired, TransientAuthError
from .keys import Cipher
from .records import RecordKey, TokenRecord
from .renewal import LONGEST

_LOCK_WAIT = LONGEST + 10.0  # seconds; who waits for a renewal has to see its end
# Neither a symlink is followed nor a fifo waited for.
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class FileStore:
    """Keeps each record in a file of mode 0600 in a directory of mode 0700, replaced atomically.

    `cipher` is asked at first need. Without one, `plaintext` has to be given to save; a plain-text record is read back
    only where no cipher is configured. Raises ConfigError for a store other people could touch.
    """

    durable = True

    def __init__(self, directory: Path, cipher: Callable[[], Cipher | None], *, plaintext: bool = False) -> None:
        self.directory = directory
        self._get_cipher = cipher
        self._cipher: Cipher | None = None
        self._plaintext = plaintext

    @property
    def description(self) -> str:
        """The backend in use, for `status`."""
        how = "PLAIN TEXT" if self._plaintext else f"AES-256-GCM, key: {self._cipher.source if self._cipher else '?'}"
        return f"file in {self.directory} ({how})"

    def load(self, key: RecordKey) -> TokenRecord | None:
        """Return the record; None if there is none; LoginRequired if it cannot be read or decrypted."""
        content = self._read(self._path(key))
        if content is None:
            return None
        try:
            envelope = json.loads(content)
            plain = envelope.get("plain")
            data = plain if plain is not None else json.loads(self._need_cipher().open(envelope, key.bound_to))
            known = {f.name for f in fields(TokenRecord)}
            record = TokenRecord(**{k: v for k, v in data.items() if k in known} | {"scopes": tuple(data["scopes"])})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise LoginRequired("The stored sign-in is damaged. Sign in again.", code="damaged") from None
        if plain is not None and not self._plaintext:
            if self._find_cipher() is not None:  # stops a planted plain-text file where encryption is in use
                raise LoginRequired("The stored sign-in is not encrypted although a key is set.", code="not_encrypted")
            self._plaintext = True
        return record

    def save(self, key: RecordKey, record: TokenRecord) -> None:
        """Write the record: once this returns it is on the disk, whole. OSError if it cannot be."""
        envelope: dict[str, Any] = {"v": 1, "plain": asdict(record)}
        if not self._plaintext:
            envelope = {"v": 1, **self._need_cipher().seal(json.dumps(asdict(record)).encode(), key.bound_to)}
        self._ready_directory()
        temporary = self._path(key).with_suffix(".new")
        with suppress(FileNotFoundError):  # left by a writer that was killed; the lock says it is nobody else's
            os.unlink(temporary)
        try:
            with open(os.open(temporary, _WRITE, 0o600), "w", encoding="ascii") as file:
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), 0o600)  # a strange umask may have made it narrower
                json.dump(envelope, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path(key))  # replaces a symlink itself, never its target
        finally:
            with suppress(OSError):
                os.unlink(temporary)
        self._sync_directory()

    def delete(self, key: RecordKey) -> bool:
        """Remove the record; whether there was one. The lock file stays: without it there are two locks."""
        there = self.stamp(key) is not None
        if there:
            os.unlink(self._path(key))
            self._sync_directory()
        return there

    def stamp(self, key: RecordKey) -> object:
        """Something that differs once the record was replaced, by any process; None without a record."""
        try:
            found = os.stat(self._path(key), follow_symlinks=False)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    @contextmanager
    def lock(self, key: RecordKey, wait: float = _LOCK_WAIT) -> Iterator[None]:
        """Exclude every other holder on this machine; TransientAuthError after `wait` seconds.

        The lock is on a file of its own: one on the record would be lost with the inode at each replace.
        """
        from filelock import FileLock, Timeout

        self._ready_directory()
        lock = FileLock(self.directory / f"{key.file_name}.lock", timeout=wait, mode=0o600, poll_interval=0.02)
        try:
            held = lock.acquire()
        except Timeout:
            message = "Another process is renewing the sign-in and does not finish. Try again later."
            raise TransientAuthError(message, code="lock_timeout") from None
        with held:
            yield

    def _path(self, key: RecordKey) -> Path:
        return self.directory / f"{key.file_name}.json"

    def _find_cipher(self) -> Cipher | None:
        self._cipher = self._cipher or self._get_cipher()
        return self._cipher

    def _need_cipher(self) -> Cipher:
        if cipher := self._find_cipher():
            return cipher
        message = "No key for the stored sign-in: no TOKEN_KEY is set and no system keyring is usable."
        raise ConfigError(message, code="no_token_key")

    def _read(self, path: Path) -> bytes | None:
        if not self.directory.exists():
            return None
        _check(os.stat(self.directory, follow_symlinks=False), self.directory, stat.S_ISDIR, "700")
        try:
            handle = os.open(path, _READ)
        except FileNotFoundError:
            return None
        except OSError:
            raise _unsafe(f"{path} cannot be opened or is a link", f"rm {path}") from None
        try:
            found = os.fstat(handle)  # what is checked is what was opened
            _check(found, path, stat.S_ISREG, "600")
            if found.st_nlink > 1:  # a second name lets somebody keep what we replace
                raise _unsafe(f"{path} has another hard link", f"rm {path}")
            return os.read(handle, 1024 * 1024)
        finally:
            os.close(handle)

    def _ready_directory(self) -> None:
        for part in (*reversed(self.directory.parents), self.directory):  # makedirs gives only the leaf its mode
            if not part.exists():
                with suppress(FileExistsError):
                    part.mkdir(mode=0o700)
        _check(os.stat(self.directory, follow_symlinks=False), self.directory, stat.S_ISDIR, "700")

    def _sync_directory(self) -> None:
        if hasattr(os, "O_DIRECTORY"):
            handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


class MemoryStore(dict[RecordKey, TokenRecord]):
    """Keeps the records of one token manager until the process ends. The methods are those of `FileStore`."""

    durable = False
    description = "memory only (lost when the server stops)"
    load = dict.get
    save = dict.__setitem__

    def stamp(self, key: RecordKey) -> object:
        return id(self.get(key))

    def lock(self, key: RecordKey, wait: float = _LOCK_WAIT) -> AbstractContextManager[None]:
        return nullcontext()  # the manager does one thing at a time


Store = FileStore | MemoryStore


def _check(found: os.stat_result, path: Path, kind: Callable[[int], bool], mode: str) -> None:
    if not kind(found.st_mode):
        raise _unsafe(f"{path} is not what it should be", f"rm {path}")
    if not hasattr(os, "geteuid"):
        return  # Windows: the profile directory's inherited access list keeps others out
    if found.st_uid != os.geteuid():
        raise _unsafe(f"{path} belongs to uid {found.st_uid}", f"chown {os.geteuid()} {path}")
    if found.st_mode & 0o077:
        raise _unsafe(f"Others may access {path}", f"chmod {mode} {path}")


def _unsafe(what: str, mend: str) -> ConfigError:
    return ConfigError(f"{what}. Mend it: {mend}", code="unsafe_store")
