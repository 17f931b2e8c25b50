"""`secrets files`: writes the files in `secrets/` that `docker-compose.yml` hands to the container.

Compose mounts each file as it is, owner and mode included. Root gives them to the container's user (0400). Nobody else
may, so the folder is closed to other users (0700) and its files can be read (0644): the container sees the files only.
"""

from __future__ import annotations

import base64
import getpass
import os
import secrets
import shlex
import stat
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..answers import MAY_BE_EMPTY, SECRET_FILES
from ..credentials import SOURCES, TOKENS_NAME, bearer_tokens
from ..errors import ServerError, UsageError
from ..sources import Found, Sources, check

CONTAINER_UID = 10001  # USER in the Dockerfile

GENERATED = {
    TOKENS_NAME: lambda: secrets.token_urlsafe(32),
    "TOKEN_KEY": lambda: base64.b64encode(secrets.token_bytes(32)).decode(),
}


def write(names: Sequence[str], folder: str | None, *, from_env: bool, generate: bool, force: bool) -> int:
    """Write what is missing, or with `force` everything of `names`, and list what is there; 1 if any of it cannot work.

    Nothing is written unless there is a value for all of it.

    Raises:
        UsageError: there is no value for one of them, or an unusable one.
        ServerError: a file cannot be written.
    """
    if not set(names) <= set(SECRET_FILES):
        # Without what was typed: it may be NAME=value.
        raise UsageError(f"There is no such file in secrets/. There are: {', '.join(SECRET_FILES)}")
    place = Path(folder) if folder else _default_folder()
    try:
        wanted = [name for name in names or SECRET_FILES if force or not _is_there(place, name)]
        _check_targets(place, wanted)
        values = _values(wanted, from_env=from_env, generate=generate)
        if values:
            _close_folder(place)
        for name, value in values.items():
            _write(place / name.lower(), value)
        return _show(place, set(values))
    except OSError as error:
        raise ServerError(
            f"{error.filename or place}: {error.strerror}. Run this as the owner of {shlex.quote(str(place))}, or with sudo."
        ) from None


def _default_folder() -> Path:
    project = SOURCES.project_dir
    if project is None:
        raise UsageError("This server does not run from its project. Say where secrets/ is: --folder /path/to/secrets")
    # Relative where it can be: so it reads as people type it.
    return Path("secrets") if project == Path.cwd() else project / "secrets"


def _is_there(folder: Path, name: str) -> bool:
    path = folder / name.lower()
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(
            f"{path} is a directory (Docker makes one where a file is missing). Run: rmdir {shlex.quote(str(path))}"
        )
    return found.st_size > 0 or name in MAY_BE_EMPTY


def _values(names: Sequence[str], *, from_env: bool, generate: bool) -> dict[str, str]:
    values: dict[str, str] = {}
    missing = []
    for name in names:
        if from_env and os.environ.get(name):
            values[name] = _checked(name, os.environ[name].removesuffix("\n"))
        elif generate and name in GENERATED:
            values[name] = GENERATED[name]()
        elif sys.stdin.isatty():
            values[name] = _checked(name, _ask(name))
        elif from_env and name in MAY_BE_EMPTY:
            values[name] = ""
        else:
            missing.append(name)
    if missing:
        could = " and --generate" if any(name in GENERATED for name in missing) and not generate else ""
        raise UsageError(
            f"No value for {', '.join(missing)}, and no terminal to ask in; nothing was written. Set "
            f"{'it' if len(missing) == 1 else 'them'} in the environment and use --from-env{could}."
        )
    return values


def _ask(name: str) -> str:
    hint = "; empty for a public client" if name in MAY_BE_EMPTY else ""
    hint = "; empty makes one up" if name in GENERATED else hint
    try:
        value = getpass.getpass(f"{name} (not shown{hint}): ", stream=sys.stderr)
    except EOFError:
        value = ""
    return value or (GENERATED[name]() if name in GENERATED else "")


def _checked(name: str, value: str) -> str:
    """`value`, unless the server would refuse it: empty, with control characters, a weak bearer token."""
    if not value and name not in MAY_BE_EMPTY:
        raise UsageError(f"No value was given for {name}; nothing was written.")
    if name == TOKENS_NAME:
        bearer_tokens(Sources({name: value}))
    elif value:
        check(name, Found(value, "as given"))
    return value


def _check_targets(folder: Path, names: Sequence[str]) -> None:
    """Refuse a folder or a file that leads elsewhere: root would write to it, wherever that is."""
    if names and folder.is_symlink():
        raise UsageError(f"{folder} is a symbolic link. Remove it, or give the folder itself with --folder.")
    for name in names:
        path = folder / name.lower()
        if os.path.lexists(path):
            _check_plain(path, path.lstat())


def _check_plain(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise UsageError(f"{path} is a link, a pipe or a device, so it is left alone. Run: rm {shlex.quote(str(path))}")


def _close_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if _uid() != 0 and folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def _write(path: Path, value: str) -> None:
    """A new file appears whole. One that exists is written in place: a container that runs has that very file mounted,
    and would never see another that is renamed over it."""
    content = f"{value}\n".encode() if value else b""
    if os.path.lexists(path):
        # What is checked is what was opened: it may be another by now.
        careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        handle, temporary = os.open(path, os.O_WRONLY | careful), ""
    else:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with open(handle, "wb", buffering=0) as file:
            _check_plain(path, os.fstat(handle))
            if _uid() == 0:
                os.fchown(handle, CONTAINER_UID, CONTAINER_UID)
            if hasattr(os, "fchmod"):
                os.fchmod(handle, 0o400 if _uid() in (0, CONTAINER_UID) else 0o644)
            file.write(content)
            file.truncate()
            os.fsync(handle)
        if temporary:
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _show(folder: Path, written: set[str]) -> int:
    """A line for each file, never its value."""
    width, worst, shared = max(map(len, SECRET_FILES)), 0, []
    for name in SECRET_FILES:
        path = folder / name.lower()
        if not _is_there(folder, name):
            print(f"{name:{width}}  missing")
            worst = 1
            continue
        found = path.stat()
        state = f"{path}, {'written' if name in written else 'kept'}"
        if _uid() != -1:
            state += f" (mode {stat.S_IMODE(found.st_mode):04o}, uid {found.st_uid})"
        if not found.st_size:
            state += ", empty: a public client has no secret"
        if not _container_reads(found):
            state += f": the container cannot read it. Run: {_hand_over([path])}"
            worst = 1
        elif found.st_mode & stat.S_IROTH:
            shared.append(path)
        print(f"{name:{width}}  {state}")
    if shared and folder.stat().st_mode & 0o077:
        print(f"Others on this machine can read them. Run: chmod 700 {shlex.quote(str(folder))}", file=sys.stderr)
        return 1
    if shared and _uid() != -1:
        print(
            f"{folder} is closed to other users of this machine. To leave them to the container's user alone, run: "
            f"{_hand_over(shared)}",
            file=sys.stderr,
        )
    return worst


def _hand_over(paths: Sequence[Path]) -> str:
    files = shlex.join(map(str, paths))
    return f"sudo chown {CONTAINER_UID} {files} && sudo chmod 400 {files}"


def _container_reads(found: os.stat_result) -> bool:
    if _uid() == -1:
        return True
    mine, group = found.st_uid == CONTAINER_UID, found.st_gid == CONTAINER_UID
    return bool(found.st_mode & (stat.S_IRUSR if mine else stat.S_IRGRP if group else stat.S_IROTH))


def _uid() -> int:
    """Who runs this; -1 on Windows, where Docker Desktop shares files with any user of a container."""
    return os.geteuid() if hasattr(os, "geteuid") else -1
