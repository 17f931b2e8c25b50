"""Sign-in to an upstream provider: PKCE, OAuth 2, storage, refresh.

Names resolve on first use, so importing this package loads neither an HTTP client, nor the keyring,
nor a cipher: a server that only answers `tools/list` pays for none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bearer import BearerAuth as BearerAuth
    from .commands import add_commands as add_commands
    from .config import OAuth2Config as OAuth2Config
    from .errors import (
        AuthError as AuthError,
    )
    from .errors import (
        ConfigError as ConfigError,
    )
    from .errors import (
        LoginRequired as LoginRequired,
    )
    from .errors import (
        ProtocolError as ProtocolError,
    )
    from .errors import (
        TransientAuthError as TransientAuthError,
    )
    from .oauth2 import OAuth2Flow as OAuth2Flow
    from .pkce import PKCECodeVerifier as PKCECodeVerifier
    from .providers import (
        AzureADOAuth as AzureADOAuth,
    )
    from .providers import (
        CustomOAuth as CustomOAuth,
    )
    from .providers import (
        GitHubOAuth as GitHubOAuth,
    )
    from .providers import (
        GoogleOAuth as GoogleOAuth,
    )
    from .responses import OAuth2Token as OAuth2Token
    from .settings import AuthSettings as AuthSettings
    from .token_manager import TokenManager as TokenManager

_HOME = {
    "bearer": "BearerAuth",
    "commands": "add_commands",
    "errors": "AuthError ConfigError LoginRequired ProtocolError TransientAuthError",
    "config": "OAuth2Config",
    "oauth2": "OAuth2Flow",
    "pkce": "PKCECodeVerifier",
    "providers": "AzureADOAuth CustomOAuth GitHubOAuth GoogleOAuth",
    "responses": "OAuth2Token",
    "settings": "AuthSettings",
    "token_manager": "TokenManager",
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names.split():
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
