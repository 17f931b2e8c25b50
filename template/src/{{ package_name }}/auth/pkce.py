"""Proof Key for Code Exchange, RFC 7636: a stolen authorization code is useless without the verifier."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


@dataclass(frozen=True)
class PKCECodeVerifier:
    """One verifier, for one authorization request. Its challenge method is always S256.

    Raises ValueError unless the verifier is 43 to 128 unreserved characters (RFC 7636 section 4.1).
    """

    verifier: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _VERIFIER.fullmatch(self.verifier):
            raise ValueError("a PKCE verifier is 43 to 128 characters of A-Z a-z 0-9 - . _ ~")

    @classmethod
    def generate(cls, random: Callable[[int], str] = secrets.token_urlsafe) -> PKCECodeVerifier:
        """Return a new verifier of 86 characters from 512 random bits (section 7.1 asks for 256)."""
        return cls(random(64))

    @property
    def challenge(self) -> str:
        """What travels in the authorization URL: BASE64URL(SHA256(verifier)) without padding (section 4.2)."""
        digest = hashlib.sha256(self.verifier.encode("ascii")).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")

    @property
    def method(self) -> str:
        """`S256`. The method `plain` would send the verifier itself through the browser."""
        return "S256"
