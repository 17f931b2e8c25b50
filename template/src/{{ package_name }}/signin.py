"""Where `auth/` meets the rest of this server: the sign-in to the provider that was answered.

`auth/` itself knows nothing of this project, so that updates can replace it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import auth
from .answers import COMMAND, OAUTH_OPTIONS, OAUTH_PROVIDER
from .credentials import SOURCES
from .errors import ServerError

if TYPE_CHECKING:
    import httpx

    from .auth import AuthSettings, TokenManager


def settings() -> AuthSettings:
    """What `auth/` has to know: the provider, where its credentials are looked up, and where tokens are kept.

    Raises:
        CredentialError: a setting is set twice or cannot be read.
    """
    options = dict(OAUTH_OPTIONS)
    if OAUTH_PROVIDER != "custom" and (base := SOURCES.setting("OAUTH_BASE_URL")):
        options["base_url"] = base.value
    folder = SOURCES.setting("MCP_DATA_DIR")
    return auth.AuthSettings(
        app_name=COMMAND,
        command=COMMAND,
        provider=OAUTH_PROVIDER,
        lookup=_look_up,
        options=options,
        data_dir=Path(folder.value) if folder else None,
        keychain=SOURCES.keychain,
    )


@cache
def manager() -> TokenManager:
    """The one token manager of this process. It reads nothing before its first use."""
    return settings().manager()


def api_sign_in(base_url: str) -> httpx.Auth:
    """The signed-in person's token on requests below `base_url`, renewed as needed."""
    return auth.BearerAuth(manager(), base_url)


def add_commands(commands: Any) -> None:
    """Add login, status and logout to the command line."""
    auth.add_commands(commands, settings)


def sign_in_status() -> dict[str, Any]:
    """Who is signed in and for how long, never a token; `problems` says what keeps tools from acting as them."""
    try:
        status = manager().status()
    except ServerError as error:
        return {"configured": False, "signed_in": False, "problems": [str(error)]}
    return {**status, "problems": [] if status["signed_in"] else [f"Not signed in. Run: {COMMAND} login"]}


def _look_up(name: str) -> str | None:
    found = SOURCES.credential(name, multiline=True)
    return found.value if found else None
