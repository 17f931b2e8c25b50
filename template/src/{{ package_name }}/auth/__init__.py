"""Sign-in to an upstream provider: PKCE, OAuth 2, storage, refresh.

Names resolve on first use, so importing this package loads neither an HTTP client nor a cipher: a server that only
answers `tools/list` pays for none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bearer import BearerAuth
    from .config import OAuth2Config
    from .oauth2 import OAuth2Flow
    from .pkce import PKCECodeVerifier
    from .responses import OAuth2Token
    from .token_manager import TokenManager

_MODULES = {
    "BearerAuth": "bearer",
    "OAuth2Config": "config",
    "OAuth2Flow": "oauth2",
    "OAuth2Token": "responses",
    "PKCECodeVerifier": "pkce",
    "TokenManager": "token_manager",
}
__all__ = ["BearerAuth", "OAuth2Config", "OAuth2Flow", "OAuth2Token", "PKCECodeVerifier", "TokenManager"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
