"""The errors whose text may be shown, to the person at the terminal and to the model.

Each message is one line that says what to do, and holds no secret.
"""

from __future__ import annotations


class ServerError(Exception):
    """What failed while running. Exit code 1 at the command line."""

    exit_code = 1


class UsageError(ServerError):
    """A setting or an argument is wrong or missing; nothing was attempted. Exit code 2."""

    exit_code = 2


class CredentialError(UsageError, ValueError):
    """A credential is missing or cannot be read."""


class UpstreamError(ServerError):
    """The upstream API refused, failed or could not be reached."""
