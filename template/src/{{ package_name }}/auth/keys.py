"""The key ring that encrypts the store: TOKEN_KEY, 32 random bytes or several of them."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import Any

from .errors import ConfigError, LoginRequired


class Cipher:
    """AES-256-GCM with a ring of keys: the first encrypts, all decrypt, so a key can be replaced.

    `text` is one key or several, split by blanks or commas, each 32 bytes as Base64 or hex; `source` says where it was
    found, for `status`. Raises ConfigError, which does not repeat the text.
    """

    def __init__(self, text: str, source: str = "TOKEN_KEY") -> None:
        keys = [_decode(part) for part in re.split(r"[\s,]+", text.strip())]
        names = [hashlib.sha256(key).hexdigest()[:8] for key in keys]
        self._keys, self._first = dict(zip(names, keys, strict=True)), names[0]
        self.source = source

    def seal(self, plain: bytes, bound_to: bytes) -> dict[str, str]:
        """Encrypt with a fresh 96-bit nonce; `bound_to` has to be the same to decrypt."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(12)
        sealed = AESGCM(self._keys[self._first]).encrypt(nonce, plain, bound_to)
        return {"kid": self._first, "n": base64.b64encode(nonce).decode(), "ct": base64.b64encode(sealed).decode()}

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


def _decode(part: str) -> bytes:
    try:
        if re.fullmatch(r"[0-9a-fA-F]{64}", part):
            return bytes.fromhex(part)
        key = base64.b64decode(part.replace("-", "+").replace("_", "/") + "=" * (-len(part) % 4), validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        message = "TOKEN_KEY is not 32 bytes as Base64 or hex. Make one with: openssl rand -base64 32"
        raise ConfigError(message, code="bad_token_key")
    return key
