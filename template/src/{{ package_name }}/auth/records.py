"""A stored sign-in, and whose it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote

from ..logs import hide


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

    `state` is "ok" or "needs_login" with `reason`, a code. `attempt` marks a refresh that was started with this refresh
    token and whose answer is not stored: a process that finds it knows what happened. `renewed` tells a token of a
    renewal from one of a sign-in. `trouble` is why it cannot be renewed at present, a code; the sign-in is kept. Logs
    hide both tokens from now on.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    obtained_at: float = 0.0
    scopes: tuple[str, ...] = ()
    account: str = ""
    token_url: str = ""
    revocation_url: str = ""
    token_auth: str = ""  # how the client proves itself at these two
    revocation_auth: str = ""
    state: str = "ok"
    reason: str = ""
    attempt: float | None = None
    renewed: bool = False
    trouble: str = ""
    userinfo_url: str = ""

    def __post_init__(self) -> None:
        hide(self.access_token)
        hide(self.refresh_token or "")
