"""A stored sign-in, whose it is, and what a place for it has to offer."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from urllib.parse import quote


class RecordKey(NamedTuple):
    """Whose sign-in a record is. The whole key is authenticated with the record."""

    provider: str
    issuer: str
    client_id: str
    subject: str = "default"

    @property
    def bound_to(self) -> bytes:
        """The associated data of the encryption: a record copied to another account does not decrypt."""
        return "|".join(quote(part, safe="") for part in self).encode("ascii")

    @property
    def file_name(self) -> str:
        """A name that tells nothing and is safe on every file system."""
        return hashlib.sha256(self.bound_to).hexdigest()[:32]


@dataclass(frozen=True)
class TokenRecord:
    """A stored sign-in. Times are seconds since the epoch; `repr` shows no token.

    `state` is "ok" or "needs_login" with `reason`, a code. `attempt` marks a refresh that was started with
    this refresh token and whose answer is not stored: a process that finds it knows what happened.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    obtained_at: float = 0.0
    scopes: tuple[str, ...] = ()
    account: str = ""
    token_url: str = ""
    revocation_url: str = ""
    state: str = "ok"
    reason: str = ""
    attempt: float | None = None


class Store(Protocol):
    """A place for records. Every write happens under `lock`, which excludes tasks, threads and processes."""

    durable: bool

    @property
    def description(self) -> str: ...
    def load(self, key: RecordKey) -> TokenRecord | None: ...
    def save(self, key: RecordKey, record: TokenRecord) -> None: ...
    def delete(self, key: RecordKey) -> bool: ...
    def stamp(self, key: RecordKey) -> object: ...
    def lock(self, key: RecordKey) -> AbstractContextManager[None]: ...


class MemoryStore:
    """Keeps records until the process ends."""

    durable = False
    description = "memory only (lost when the server stops)"

    def __init__(self, records: dict[RecordKey, TokenRecord] | None = None) -> None:
        self._records = dict(records or {})
        self._lock = threading.Lock()

    def load(self, key: RecordKey) -> TokenRecord | None:
        """Return the record, or None."""
        return self._records.get(key)

    def save(self, key: RecordKey, record: TokenRecord) -> None:
        """Replace the record."""
        self._records[key] = record

    def delete(self, key: RecordKey) -> bool:
        """Forget the record; whether there was one."""
        return self._records.pop(key, None) is not None

    def stamp(self, key: RecordKey) -> object:
        """Something that differs once the record was replaced."""
        return id(self._records.get(key))

    @contextmanager
    def lock(self, key: RecordKey) -> Iterator[None]:
        """Exclude other threads."""
        with self._lock:
            yield
