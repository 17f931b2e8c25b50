"""What can go wrong with a sign-in, told apart by what a person has to do about it.

No message ever carries a token, a code, a secret or a provider's free text (`error_description` is written by whoever
answered): only the provider's name and its short error code and, of its metadata, the issuer and the methods it names.
"""

from __future__ import annotations

from ..errors import ServerError, UsageError


class AuthError(ServerError):
    """Any failure of this package. `code` is a short machine-readable reason, safe to log."""

    def __init__(
        self, message: str, *, code: str = "", retry_after: float | None = None, ambiguous: bool = False
    ) -> None:
        super().__init__(message)
        self.code, self.retry_after, self.ambiguous = code, retry_after, ambiguous


class LoginRequired(AuthError):
    """Nobody is signed in, or the provider no longer honours the sign-in: a person has to act."""


class ConfigError(AuthError, UsageError):
    """A setting or a credential is wrong or missing. Trying again will not help."""


class TransientAuthError(AuthError):
    """The provider is slow, busy or down. Nothing was lost; a later call may succeed.

    `retry_after` is in seconds, where the provider named it. `ambiguous`: no answer came, so it may have been processed.
    """


class ProtocolError(AuthError):
    """An answer breaks the protocol: a broken provider, or somebody in between. It was not believed."""
