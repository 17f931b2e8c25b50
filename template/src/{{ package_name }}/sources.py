"""Where a value comes from: environment, file, OS keyring or `.env`.

Looked up afresh each time, so that a rotated secret counts without a restart. In this order, and the first wins:

1. `NAME` in the environment
2. the file that `NAME_FILE` names
3. `/run/secrets/<name in lower case>`, where Docker and Podman put secrets (`MCP_SECRETS_DIR` names another folder)
4. the OS keyring, for credentials only (`secrets set NAME` puts them there; `MCP_KEYRING=off` leaves it out)
5. `.env` in this project's own folder, or the file that `ENV_FILE` names

A `.env` that merely lies in the working directory is never read: MCP clients start servers in folders that
strangers wrote. Nor is a relative path taken. A message names the variable, where it was found and the rule; what was set
it does not repeat, since that may be a key in the wrong place. A path is shown if something is there.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import logs
from .answers import API_AUTH, AUTH_KEYS, COMMAND, MAY_BE_EMPTY, MULTILINE
from .errors import CredentialError
from .keychain import Keychain

CONTAINER_SECRETS = "/run/secrets"
MAX_FILE_BYTES = 65536

_IN_HEADER = AUTH_KEYS[:1] if API_AUTH in ("header", "bearer") else ()
# Chosen by a person, and sent as they are, in Base64: a blank at an end may be meant.
_PASSWORDS = AUTH_KEYS[:2] if API_AUTH == "basic" else ()


@dataclass(frozen=True, slots=True)
class Found:
    """A value and, in words, where it was found. The value does not show in `repr`."""

    value: str = field(repr=False)
    source: str


class Sources:
    """Looks values up in the places above. Everything it reads is a parameter, so tests need no patching."""

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        keychain: Keychain | None = None,
        project_dir: Path | None = None,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._keychain = keychain or Keychain()
        self.project_dir = project_dir or _project_dir()
        self._env_file: tuple[str, dict[str, str]] | None = None

    def setting(self, name: str) -> Found | None:
        """The value of a setting, which is no secret. None where it is not set or empty.

        Raises:
            CredentialError: it is set twice, or its file cannot be read.
        """
        return self._from_environment(name) or self._from_secrets_dir(name) or self._from_env_file(name)

    def credential(self, name: str) -> Found | None:
        """The value of a credential, or None where it is nowhere. Logs hide it from now on.

        Raises:
            CredentialError: it is set twice, its file cannot be read, or it cannot be meant as it is.
        """
        found = (
            self._from_environment(name)
            or self._from_secrets_dir(name)
            or self._from_keyring(name)
            or self._from_env_file(name)
        )
        if found is None:
            return None
        for line in found.value.splitlines():
            logs.hide(line.strip())
        check(name, found)
        return found

    def _from_environment(self, name: str) -> Found | None:
        value = self._environ.get(name)
        path = self._environ.get(f"{name}_FILE")
        if value and path:
            raise CredentialError(f"{name} and {name}_FILE are both set. Unset one of them.")
        if value:
            return Found(value, "environment")
        if not path:
            return None
        return _read_secret_file(name, whole_path(f"{name}_FILE", path), must_exist=True)

    def _from_secrets_dir(self, name: str) -> Found | None:
        named = self._environ.get("MCP_SECRETS_DIR")
        folder = whole_path("MCP_SECRETS_DIR", named) if named else Path(CONTAINER_SECRETS)
        return _read_secret_file(name, folder / name.lower(), must_exist=False)

    def _from_keyring(self, name: str) -> Found | None:
        value = self.keychain.get(name) if self.keychain else None
        return Found(value, "OS keyring") if value else None

    @property
    def keychain(self) -> Keychain | None:
        """The OS keyring, unless it is switched off."""
        return None if self._environ.get("MCP_KEYRING", "").lower() == "off" else self._keychain

    def _from_env_file(self, name: str) -> Found | None:
        path = self.env_file()
        if path is None:
            return None
        value = self._parsed(path).get(name)
        return Found(value, str(path)) if value else None

    def env_file(self) -> Path | None:
        """The `.env` that counts, or None.

        Raises:
            CredentialError: `ENV_FILE` is not the whole path of a file.
        """
        named = self._environ.get("ENV_FILE")
        if named:
            path = whole_path("ENV_FILE", named)
            if not os.path.isfile(path):
                raise CredentialError("ENV_FILE names no file, or a pipe. Correct it, or unset ENV_FILE.")
            return path
        own = self.project_dir / ".env" if self.project_dir else None
        # Some keep a virtual environment by that name. A pipe is not passed over, but refused when it is read.
        return own if own and os.path.exists(own) and not os.path.isdir(own) else None

    def _parsed(self, path: Path) -> dict[str, str]:
        try:
            text = _read_text(path)
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(path, error, "it") from None
        if self._env_file is None or self._env_file[0] != text:
            from dotenv import dotenv_values

            # No interpolation: a `$` in a password is a `$`.
            values = dotenv_values(stream=io.StringIO(text), interpolate=False)
            self._env_file = text, {key: value for key, value in values.items() if value}
        return self._env_file[1]


def whole_path(name: str, value: str) -> Path:
    """`value` as a path, or a CredentialError: it is relative, and the working directory is a stranger's."""
    path = Path(value)
    if not path.is_absolute():
        raise CredentialError(f"{name} is not a whole path. Write it from / on, without ~.")
    return path


def check(name: str, found: Found) -> None:
    """Refuse what could not be sent, or cannot be meant: here, so that `secrets`, `/ready`, `health_check` and tools agree.

    Raises:
        CredentialError: says what is wrong with it.
    """
    lines = found.value.splitlines() if name in MULTILINE else [found.value]
    wrong = ""
    # A line break in a header is a second header (CWE-113), and the HTTP library's complaint would quote it.
    if not all(line.isprintable() for line in lines):
        wrong = "contains a line break or control character"
    elif name in _IN_HEADER and not found.value.isascii():
        wrong = "contains a character that cannot be in a header"
    elif name not in (*MULTILINE, *_PASSWORDS) and re.fullmatch(r" .*|.* |(['\"]).*\1", found.value):
        wrong = "begins or ends with a blank, or is in quotation marks"
    if wrong:
        raise CredentialError(f"{name} ({found.source}) {wrong}. Set it again.")


def _read_text(path: Path) -> str:
    """The text of a regular file, 64 KiB at most. A pipe is not waited for; links are followed: mounts are made of them."""
    at_once = getattr(os, "O_NONBLOCK", 0)
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | at_once)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "a pipe or a device, not a file")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise OSError(0, f"more than {MAX_FILE_BYTES} bytes")
    return content.decode("utf-8-sig")


def _read_secret_file(name: str, path: Path, *, must_exist: bool) -> Found | None:
    try:
        text = _read_text(path)
    except (FileNotFoundError, NotADirectoryError):
        if not must_exist:
            return None
        raise CredentialError(f"{name}_FILE names no file that exists. Create it, or unset {name}_FILE.") from None
    except IsADirectoryError:
        mend = "Put a file in its place."
        if _is_mounted(path):
            mend = f"Run on the host: rmdir secrets/{path.name} && {COMMAND} secrets files && docker compose up --force-recreate"
        raise CredentialError(f"{path} is a directory, so {name} cannot be read. {mend}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error, name) from None
    # Editors and `echo` end a file with a line break that is not part of the secret.
    value = text.removesuffix("\n").removesuffix("\r")
    if not value and name in MAY_BE_EMPTY and not must_exist:
        return None
    if not value:
        mend = f" Run on the host: {COMMAND} secrets files" if _is_mounted(path) else ""
        raise CredentialError(f"{path} is empty. Write {name} to it.{mend}")
    return Found(value, str(path))


def _unreadable(path: Path, error: Exception, content: str) -> CredentialError:
    """Says what is wrong, without the bytes that it went wrong on; or who may not read what, and what mends it."""
    if not isinstance(error, PermissionError):
        reason = (error.strerror or "input/output error") if isinstance(error, OSError) else "not UTF-8 text"
        where = path if os.path.lexists(path) else f"The file of {content}"
        return CredentialError(f"{where} cannot be read ({reason}). Write {content} anew, to a file of UTF-8 text.")
    uid = os.geteuid() if hasattr(os, "geteuid") else "this user"
    try:
        found = path.stat()
    except OSError:  # a folder is closed too: the last that can be seen
        folder = next(it for it in path.parents if os.path.lexists(it))
        return CredentialError(
            f"{folder} is a folder that uid {uid} may not enter. Run: chmod u+rx {shlex.quote(str(folder))}"
        )
    where, target = (" on the host", f"secrets/{path.name}") if _is_mounted(path) else ("", shlex.quote(str(path)))
    return CredentialError(
        f"{path} cannot be read by uid {uid} (it belongs to uid {found.st_uid}, mode {found.st_mode & 0o7777:04o}). "
        f"Run{where}: sudo chown {uid} {target} && sudo chmod 400 {target}"
    )


def _is_mounted(path: Path) -> bool:
    """Whether Docker put the file there, from `secrets/` in the project's folder: only the host can mend it."""
    return path.parent == Path(CONTAINER_SECRETS)


def _project_dir() -> Path | None:
    """This project's folder, where the server runs from its source tree; None where it is installed elsewhere."""
    source = Path(__file__).resolve().parent.parent
    project = source.parent
    # os.path: to it, a folder that may not be entered has no such file; to pathlib, it is an error.
    return project if source.name == "src" and os.path.isfile(project / "pyproject.toml") else None
