"""Sign-in to an upstream provider: PKCE, OAuth 2, storage, refresh. HTTP client and cipher are loaded at first use."""

from .config import OAuth2Config
from .oauth2 import OAuth2Flow
from .pkce import PKCECodeVerifier
from .responses import OAuth2Token
from .token_manager import TokenManager

__all__ = ["OAuth2Config", "OAuth2Flow", "OAuth2Token", "PKCECodeVerifier", "TokenManager"]
