"""The operating system's keyring: macOS Keychain, Windows Credential Locker, Secret Service and KWallet.

Only those: other `keyring` backends keep plain text, drop values silently or ask for a password on stdin, which on
stdio belongs to the protocol. The backend is taken directly, so that no configuration file or plugin chooses another.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar, cast

from .answers import COMMAND
from .errors import ServerError

BACKENDS = {
    "darwin": ("keyring.backends.macOS:Keyring",),
    "win32": ("keyring.backends.Windows:WinVaultKeyring",),
}
LINUX_BACKENDS = (
    "keyring.backends.SecretService:Keyring",
    "keyring.backends.libsecret:Keyring",
    "keyring.backends.kwallet:DBusKeyring",
)

READ_SECONDS = 3.0  # a running server does not wait for somebody to unlock a keyring
WRITE_SECONDS = 60.0  # `secrets set` may: the desktop asks for the password in a window of its own
CACHE_SECONDS = 5.0
RETRY_SECONDS = 60.0

T = TypeVar("T")


class KeychainError(ServerError):
    """There is no keyring on this machine, or it did not answer."""


class Backend(Protocol):
    """The part of `keyring.backend.KeyringBackend` that is used."""

    def get_password(self, service: str, username: str) -> str | None: ...
    def set_password(self, service: str, username: str, password: str) -> None: ...
    def delete_password(self, service: str, username: str) -> None: ...


class Keychain:
    """Credentials under this server's name in the OS keyring.

    Args:
        backend: called once, at the first use; raises if this machine has none.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        backend: Callable[[], Backend] | None = None,
        *,
        read_seconds: float = READ_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = backend or _os_backend
        self._backend: Backend | None = None
        self._failure = ""
        self._retry_at = 0.0
        self._read_seconds = read_seconds
        self._clock = clock
        self._cache: dict[str, tuple[float, str | None]] = {}
        self._reading = threading.Lock()
        self._hanging: threading.Thread | None = None

    def get(self, name: str) -> str | None:
        """The value kept under `name`; None where there is none or no keyring.

        Waits 3 s at most, then not for a minute, and not while an earlier call hangs, which holds a thread.
        """
        with self._reading:  # whoever waits here finds the answer in the cache, or knows that there is none
            now = self._clock()
            read_at, value = self._cache.get(name, (float("-inf"), None))
            if now - read_at < CACHE_SECONDS:
                return value
            if now < self._retry_at or self._hangs():
                return None
            try:
                value = self._bounded(lambda backend: backend.get_password(COMMAND, name), self._read_seconds)
            except KeychainError:
                self._retry_at = self._clock() + RETRY_SECONDS
                return None
            self._cache[name] = now, value
            return value

    def set(self, name: str, value: str) -> None:
        """Keep `value` under `name`, and make sure that it is there (one backend in the field drops it silently).

        Raises:
            KeychainError: no keyring, it stayed locked for 60 s, or it did not keep the value.
        """
        if self._put(name, value, replace=True) != value:
            raise KeychainError("The OS keyring did not keep the value.")

    def keep(self, name: str, value: str) -> str:
        """What is under `name`, or where there is nothing `value`, from now on: it never replaces.

        Raises:
            KeychainError: as for `set`.
        """
        if kept := self._put(name, value, replace=False):
            return kept
        raise KeychainError("The OS keyring did not keep the value.")

    def _put(self, name: str, value: str, *, replace: bool) -> str | None:
        """What is under `name` afterwards, read back."""

        def put(backend: Backend) -> str | None:
            if not replace and (found := backend.get_password(COMMAND, name)):
                return found
            backend.set_password(COMMAND, name, value)
            return backend.get_password(COMMAND, name)

        self._cache.pop(name, None)
        return self._bounded(put, WRITE_SECONDS)

    def delete(self, name: str) -> bool:
        """Remove `name`. False where it was not there.

        Raises:
            KeychainError: no keyring, or it stayed locked for 60 s.
        """

        def remove(backend: Backend) -> bool:
            if backend.get_password(COMMAND, name) is None:
                return False
            backend.delete_password(COMMAND, name)
            return True

        self._cache.pop(name, None)
        return self._bounded(remove, WRITE_SECONDS)

    def problem(self) -> str | None:
        """Why there is no keyring here, in one phrase; None where there is one."""
        try:
            self._bounded(lambda backend: backend.get_password(COMMAND, "probe"), self._read_seconds)
        except KeychainError as error:
            return str(error)
        return None

    def _bounded(self, call: Callable[[Backend], T], seconds: float) -> T:
        """Run `call` in a thread of its own. A daemon: a keyring that hangs must not keep the process from ending."""
        outcome: SimpleQueue[tuple[bool, object]] = SimpleQueue()

        def run() -> None:
            try:
                self._backend = self._backend or self._open()
                outcome.put((True, call(self._backend)))
            except BaseException as error:  # not all of the backends' errors derive from KeyringError
                outcome.put((False, error))

        if self._hangs():
            raise KeychainError("The OS keyring still does not answer (is it locked?).")
        thread = threading.Thread(target=run, name="keyring", daemon=True)
        thread.start()
        try:
            succeeded, result = outcome.get(timeout=seconds)
        except Empty:
            self._hanging = thread
            raise KeychainError(f"The OS keyring did not answer within {seconds:g} s (is it locked?).") from None
        if succeeded:
            return cast(T, result)
        if isinstance(result, KeychainError):
            raise result
        raise KeychainError(f"The OS keyring failed ({type(result).__name__}).") from None

    def _hangs(self) -> bool:
        return self._hanging is not None and self._hanging.is_alive()


def _os_backend() -> Backend:
    _find_session_bus()
    for spec in BACKENDS.get(sys.platform, LINUX_BACKENDS):
        module, _, name = spec.partition(":")
        try:
            backend = getattr(import_module(module), name)
            # `viable` tells whether the service behind the backend is there.
            if backend.viable:
                return cast(Backend, backend())
        except Exception:  # noqa: S112 - whatever it was, this backend is not to be had
            continue
    raise KeychainError("No OS keyring on this machine.")


def _find_session_bus() -> None:
    """Point D-Bus at the user's session: MCP clients start a server with hardly any environment, without this address."""
    if sys.platform in BACKENDS or os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return
    bus = Path(f"/run/user/{os.getuid()}/bus")
    if bus.exists() and bus.stat().st_uid == os.getuid():
        os.environ["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={bus}"
