"""Where `auth/` meets the rest of this server: whose sign-in it is, where its secrets are looked up, where tokens are kept.

`auth/` itself knows nothing of this project, so that updates can replace it. It is imported when a sign-in is first
needed, not at start-up.
"""

from __future__ import annotations

import base64
import secrets
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .answers import COMMAND, OAUTH_OPTIONS, OAUTH_PROVIDER
from .credentials import SOURCES
from .errors import ServerError, UsageError
from .keychain import KeychainError
from .settings import Settings, is_loopback

if TYPE_CHECKING:
    import httpx

    from .auth.keys import Cipher
    from .auth.oauth2 import OAuth2Flow
    from .auth.storage import FileStore
    from .auth.token_manager import TokenManager


def flow() -> OAuth2Flow:
    """The exchanges with the provider that was answered.

    Raises:
        ServerError: the client id is missing, or a setting is set twice, unreadable or unusable.
    """
    from .auth.providers import PROVIDERS

    options = dict(OAUTH_OPTIONS)
    if OAUTH_PROVIDER != "custom" and (base := SOURCES.setting("OAUTH_BASE_URL")):
        options["base_url"] = base.value
    client_id, secret = _look_up("OAUTH_CLIENT_ID") or "", _look_up("OAUTH_CLIENT_SECRET")
    return PROVIDERS[OAUTH_PROVIDER](client_id=client_id, client_secret=secret, **options)


def store(*, plaintext: bool = False) -> FileStore:
    """Where tokens are kept. `plaintext` is the person's explicit wish not to encrypt.

    Raises:
        UsageError: `MCP_DATA_DIR` is not a whole path.
    """
    from .auth.storage import FileStore

    if found := SOURCES.setting("MCP_DATA_DIR"):
        folder = Path(found.value)
        if not folder.is_absolute():
            raise UsageError(f"MCP_DATA_DIR={folder} ({found.source}) is not a whole path. Write it from / on.")
    else:
        import platformdirs

        folder = platformdirs.user_data_path(COMMAND, appauthor=False)
    return FileStore(folder / "sign-in", cipher, plaintext=plaintext)


def cipher(*, create: bool = False) -> Cipher | None:
    """The store's key: `TOKEN_KEY`, looked up like every credential. None where there is none.

    With `create`, a new one is put into the OS keyring. Only this key goes there, once: tokens would hit Windows' size
    limit and, on macOS, ask the person again at every renewal.

    Raises:
        ServerError: it is set twice, unreadable or not a key; with `create`, there is no keyring to put it into.
    """
    from .auth.keys import Cipher

    if found := SOURCES.credential("TOKEN_KEY", multiline=True):
        return Cipher(found.value, f"TOKEN_KEY from {found.source}")
    if not create:
        return None
    keychain = SOURCES.keychain
    problem = keychain.problem() if keychain else "The OS keyring is switched off (MCP_KEYRING)."
    if keychain is None or problem:
        raise KeychainError(problem)
    # One that was unlocked only just now may hold a key: `keep` looks once more.
    kept = keychain.keep("TOKEN_KEY", base64.b64encode(secrets.token_bytes(32)).decode())
    return Cipher(kept, "TOKEN_KEY from OS keyring")


def given() -> tuple[str | None, str | None]:
    """Refresh and access token in the environment. They are the sign-in then; nothing is stored."""
    return _look_up("REFRESH_TOKEN"), _look_up("ACCESS_TOKEN")


@cache
def manager() -> TokenManager:
    """The one token manager of this process. It reads nothing before its first use."""
    from .auth.token_manager import TokenManager

    refresh_token, access_token = given()
    if refresh_token or access_token:
        return TokenManager(flow(), refresh_token, access_token=access_token, command=COMMAND)
    return TokenManager(flow(), store=store(), command=COMMAND)


def api_sign_in(base_url: str) -> httpx.Auth:
    """The signed-in person's token on requests below `base_url`, renewed as needed."""
    from .auth.bearer import BearerAuth

    return BearerAuth(manager(), base_url)


def sign_in_status() -> dict[str, Any]:
    """Who is signed in and for how long, never a token; `problems` says what keeps tools from acting as them."""
    try:
        status = manager().status()
    except ServerError as error:
        return {"configured": False, "signed_in": False, "problems": [str(error)]}
    problem = status["problem"]
    if not problem and not status["signed_in"]:
        problem = "Not signed in."
    problems = [f"{problem} Run: {COMMAND} login"] if problem else []
    return {"configured": True, **status, "problems": problems}


def check_shared(settings: Settings) -> None:
    """Refuse to serve other machines with one person's sign-in unless that is said to be meant.

    Raises:
        UsageError: says which setting says so.
    """
    meant = SOURCES.setting("MCP_SHARED_SIGN_IN")
    if not is_loopback(settings.host) and not (meant and meant.value.lower() == "on"):
        raise UsageError(
            f"Binding {settings.host} lets every caller with a bearer token act as the one person who signed in. "
            "If that is meant, set MCP_SHARED_SIGN_IN=on; otherwise bind 127.0.0.1."
        )


def _look_up(name: str) -> str | None:
    found = SOURCES.credential(name, multiline=True)
    return found.value if found else None
