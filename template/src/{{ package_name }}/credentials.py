"""The API's credentials: `AUTH_CONFIG` and `require_auth`.

    api_key = require_auth("WEATHER_API_KEY")

Where they are looked up, and in which order, is in `sources.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .answers import AUTH_KEYS, COMMAND
from .errors import CredentialError, UsageError
from .sources import Sources

SOURCES = Sources()

# Credentials of this server's own callers over HTTP (see `inbound.py`), one a line.
TOKENS_NAME = "MCP_BEARER_TOKENS"
MIN_TOKEN_LENGTH = 16


class AuthConfig(Mapping[str, str | None]):
    """The credentials this server uses, by name: the value, or None where it is missing.

    A value is looked up when it is asked for, not at import, and does not show in `repr`.
    """

    def __init__(self, names: tuple[str, ...], sources: Sources) -> None:
        self._names = names
        self._sources = sources

    def __getitem__(self, name: str) -> str | None:
        if name not in self._names:
            raise KeyError(name)
        try:
            found = self._sources.credential(name)
        except CredentialError:
            return None
        return found.value if found else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"AuthConfig({', '.join(self._names)})"

    def require(self, name: str) -> str:
        """See `require_auth`."""
        if name not in self._names:
            names = ",".join((*self._names, name))
            raise CredentialError(
                f"Missing required auth: {name}. It is not among this server's credentials; "
                f"to add it, run: copier update --trust -r :current: -d auth_keys={names}"
            )
        found = self._sources.credential(name)
        if found is None:
            raise CredentialError(
                f"Missing required auth: {name}. Set {name} environment variable. "
                f"Or keep it in the OS keyring: {COMMAND} secrets set {name}"
            )
        return found.value

    def status(self) -> list[CredentialStatus]:
        """Each credential with where it comes from, or what is wrong; never its value."""
        return [credential_status(name, self._sources) for name in self._names]


@dataclass(frozen=True, slots=True)
class CredentialStatus:
    """`source` where the credential was found, `problem` where it was not."""

    name: str
    source: str | None
    problem: str | None

    @property
    def kind(self) -> str | None:
        """The problem in a word, for those who may not see paths."""
        return "unreadable" if self.problem and self.problem != "missing" else self.problem


def credential_status(name: str, sources: Sources) -> CredentialStatus:
    """Where `name` comes from, or what is wrong with it."""
    try:
        found = sources.credential(name)
        if name == TOKENS_NAME:
            bearer_tokens(sources)  # one that is too weak lets nobody in
    except UsageError as error:
        return CredentialStatus(name, None, str(error))
    return CredentialStatus(name, found.source, None) if found else CredentialStatus(name, None, "missing")


AUTH_CONFIG = AuthConfig(AUTH_KEYS, SOURCES)


def require_auth(key_name: str) -> str:
    """Get a credential.

    Args:
        key_name: its name, one of those in `AUTH_CONFIG`

    Raises:
        CredentialError: it is missing or cannot be read; a `ValueError` whose message says what to do. Raised in a
            tool, the model sees that message.
    """
    return AUTH_CONFIG.require(key_name)


def bearer_tokens(sources: Sources) -> tuple[str, ...]:
    """The tokens in `MCP_BEARER_TOKENS`, one a line, so that a new one can be handed out before the old one is dropped.

    Raises:
        UsageError: one is too short to withstand guessing, or has characters that no bearer token has (RFC 6750, 2.1).
        CredentialError: they are set twice or cannot be read.
    """
    found = sources.credential(TOKENS_NAME)
    tokens = tuple(line.strip() for line in found.value.splitlines() if line.strip()) if found else ()
    for number, token in enumerate(tokens, start=1):
        if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or " " in token:
            raise UsageError(
                f"{TOKENS_NAME}, token {number}: at least {MIN_TOKEN_LENGTH} ASCII characters without blanks. "
                "Make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
    return tokens
