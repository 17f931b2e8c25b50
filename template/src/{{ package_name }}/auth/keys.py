"""The key that encrypts the store: from TOKEN_KEY, or kept in the operating system's keyring.

The keyring holds only this one small key, written once. Tokens themselves would hit Windows' size limit
and, on macOS, ask the person again at every refresh.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import secrets
from typing import Any, Protocol

from ..errors import ServerError
from .errors import ConfigError, LoginRequired

_ACCOUNT = "token-key"


class Cipher:
    """AES-256-GCM with a ring of keys: the first encrypts, all decrypt, so a key can be replaced."""

    def __init__(self, keys: tuple[bytes, ...], source: str) -> None:
        self._keys = {hashlib.sha256(key).hexdigest()[:8]: key for key in reversed(keys)}
        self._first = hashlib.sha256(keys[0]).hexdigest()[:8]
        self.source = source

    def seal(self, plain: bytes, bound_to: bytes) -> dict[str, str]:
        """Encrypt with a fresh 96-bit nonce; `bound_to` has to be the same to decrypt."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(12)
        sealed = AESGCM(self._keys[self._first]).encrypt(nonce, plain, bound_to)
        return {
            "kid": self._first,
            "n": base64.b64encode(nonce).decode(),
            "ct": base64.b64encode(sealed).decode(),
        }

    def open(self, envelope: dict[str, Any], bound_to: bytes) -> bytes:
        """Decrypt, or raise LoginRequired: another key, a changed byte, or a record of another account."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            key = self._keys[envelope["kid"]]
            nonce, sealed = base64.b64decode(envelope["n"]), base64.b64decode(envelope["ct"])
            return AESGCM(key).decrypt(nonce, sealed, bound_to)
        except (InvalidTag, KeyError, TypeError, ValueError):
            message = "The stored sign-in cannot be decrypted with the present key. Restore it, or sign in again."
            raise LoginRequired(message, code="undecryptable") from None


def cipher_from_text(text: str) -> Cipher:
    """Read TOKEN_KEY: one key or several, split by blanks or commas, each 32 bytes as Base64 or hex.

    Raises ConfigError, which does not repeat the text.
    """
    keys = tuple(_decode(part) for part in re.split(r"[\s,]+", text.strip()))
    return Cipher(keys, "TOKEN_KEY")


def _decode(part: str) -> bytes:
    try:
        if re.fullmatch(r"[0-9a-fA-F]{64}", part):
            return bytes.fromhex(part)
        key = base64.b64decode(part.replace("-", "+").replace("_", "/") + "=" * (-len(part) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        message = "TOKEN_KEY is not 32 bytes as Base64 or hex. Make one with: openssl rand -base64 32"
        raise ConfigError(message, code="bad_token_key")
    return key


class Keychain(Protocol):
    """The operating system's keyring, bounded in time and never asking on stdin. Not part of this package."""

    def get(self, name: str) -> str | None:
        """The value kept under `name`; None where there is none or no keyring."""

    def set(self, name: str, value: str) -> None:
        """Keep a value and read it back. Raises ServerError if that fails."""

    def problem(self) -> str | None:
        """Why there is no keyring here, or None where there is one."""


def cipher_from_keychain(keychain: Keychain, *, create: bool) -> Cipher | None:
    """Return the cipher whose key is in the keyring; with `create`, make the key if there is none.

    None if there is no keyring, it is locked, or it forgets what it is told.
    """
    stored = keychain.get(_ACCOUNT)
    # A keyring that does not answer may still hold the key: it must not be written over.
    if stored is None and create and keychain.problem() is None:
        fresh = base64.b64encode(secrets.token_bytes(32)).decode()
        try:
            keychain.set(_ACCOUNT, fresh)
        except ServerError:
            return None
        stored = fresh
    return Cipher((_decode(stored),), "system keyring") if stored else None
