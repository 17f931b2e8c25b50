"""`secrets`: which credentials are there, and the OS keyring as a place to keep them.

MCP clients give a stdio server almost none of the user's environment, and a key in the client's configuration is a key
in a file that gets synced and pasted. The keyring is neither.
"""

from __future__ import annotations

import getpass
import sys

from ..answers import AUTH_KEYS, OTHER_KEYS
from ..credentials import SOURCES, TOKENS_NAME, credential_status
from ..errors import UsageError
from ..keychain import Keychain, KeychainError
from ..sources import Found, check

NAMES = (*AUTH_KEYS, *OTHER_KEYS, TOKENS_NAME)


def show() -> int:
    """Print each credential with where it comes from, or what is wrong; never its value."""
    width = max(map(len, NAMES))
    for name in NAMES:
        status = credential_status(name, SOURCES)
        text = status.source or status.problem
        if name not in AUTH_KEYS and status.problem == "missing":
            text = "not set (needed for HTTP beyond this machine)" if name == TOKENS_NAME else "not set"
        print(f"{name:{width}}  {text}")
    return 0


def store(name: str) -> int:
    """Ask for a value without echo, or read it from a pipe, and keep it in the OS keyring."""
    _known(name)
    value = _ask(name)
    if not value:
        raise UsageError(f"No value was given, so {name} is unchanged.")
    check(name, Found(value, "as given"))
    try:
        Keychain().set(name, value)
    except KeychainError as error:
        raise KeychainError(
            f"{error} Other ways: the variable {name}, a file that {name}_FILE names, /run/secrets/{name.lower()}, "
            "or a line in .env."
        ) from None
    print(f"{name} is in the OS keyring. A server that is running uses it within seconds.", file=sys.stderr)
    return 0


def delete(name: str) -> int:
    """Remove a value from the OS keyring."""
    _known(name)
    removed = Keychain().delete(name)
    print(f"{name} {'is no longer' if removed else 'was not'} in the OS keyring.", file=sys.stderr)
    return 0


def _known(name: str) -> None:
    if name not in NAMES:
        # Without what was typed: it may be NAME=value.
        raise UsageError(f"That is not a credential of this server. Give one of these names alone: {', '.join(NAMES)}")


def _ask(name: str) -> str:
    if not sys.stdin.isatty():  # a password manager's output, say
        try:
            return sys.stdin.read().rstrip("\r\n")
        except UnicodeDecodeError:
            raise UsageError(f"What was given for {name} is not UTF-8 text.") from None
    try:
        return getpass.getpass(f"{name} (not shown): ", stream=sys.stderr)
    except EOFError:
        return ""
