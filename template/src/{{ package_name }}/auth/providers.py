"""The built-in providers: a profile each, with what differs from the RFCs as data."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .config import OAuth2Config
from .errors import ConfigError
from .oauth2 import OAuth2Flow
from .urls import check_url

_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_GITHUB = "https://github.com"
_OPENID = ("openid", "email", "profile")
_ENTRA = "https://login.microsoftonline.com"
_CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"  # Entra's tenant of all personal accounts


class GitHubOAuth(OAuth2Flow):
    """GitHub OAuth Apps and GitHub Apps, on github.com or, with `base_url`, on your own GitHub or your tenant of ghe.com.

    Answers come as a form unless JSON is asked for; errors come with HTTP 200; granted scopes are comma-separated; the
    web flow needs the secret even with PKCE, the device flow does not. OAuth App tokens neither expire nor refresh;
    GitHub App tokens last 8 hours. `iss` is sent since April 2026.
    https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str | None = None,
        scopes: Sequence[str] = (),
        *,
        base_url: str = _GITHUB,
        redirect_uri: str | None = None,
    ) -> None:
        base = _plain(base_url)
        public = base == _GITHUB
        api = _github_api(base)
        config = OAuth2Config(
            client_id=client_id,
            client_secret=client_secret,
            scopes=scopes,
            redirect_uri=redirect_uri,
            name="GitHub",
            console=f"{base}/settings/developers",
            issuer=f"{base}/login/oauth",
            authorization_url=f"{base}/login/oauth/authorize",
            token_url=f"{base}/login/oauth/access_token",
            device_url=f"{base}/login/device/code",
            revocation_url=f"{api}/applications/{client_id}/token",
            revocation="github",
            userinfo_url=f"{api}/user",
            secret_required=True,
            iss="required" if public else "if_present",  # older GitHub Enterprise Servers send none
        )
        super().__init__(config)


class GoogleOAuth(OAuth2Flow):
    """Google, with a "Desktop app" client, or "TV and limited input" for the device flow.

    A refresh token comes only with `access_type=offline`, and again only with `prompt=consent`; refreshing does not
    repeat it, so the old one is kept. The secret is required even with PKCE, although a desktop client cannot keep
    one. `base_url` puts a stand-in in Google's place, for tests.
    https://developers.google.com/identity/protocols/oauth2/native-app
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str | None = None,
        scopes: Sequence[str] = _OPENID,
        *,
        base_url: str = "",
        redirect_uri: str | None = None,
    ) -> None:
        base_url = _plain(base_url) if base_url else ""
        accounts = base_url or "https://accounts.google.com"
        tokens = base_url or "https://oauth2.googleapis.com"
        config = OAuth2Config(
            client_id=client_id,
            client_secret=client_secret,
            scopes=scopes,
            redirect_uri=redirect_uri,
            name="Google",
            console="https://console.cloud.google.com/auth/clients as a desktop app",
            issuer=accounts,
            authorization_url=f"{accounts}/o/oauth2/v2/auth",
            token_url=f"{tokens}/token",
            device_url=f"{tokens}/device/code",
            revocation_url=f"{tokens}/revoke",
            userinfo_url=f"{base_url or 'https://openidconnect.googleapis.com/v1'}/userinfo",
            secret_required=True,
            iss="required",
            authorize_params={"access_type": "offline", "prompt": "consent"},
        )
        super().__init__(config)


class AzureADOAuth(OAuth2Flow):
    """Microsoft Entra ID v2.0. `tenant_id`: a GUID, a domain, `common`, `organizations` or `consumers`.

    `offline_access` is always asked for: no refresh token comes without it. A public client sends no secret
    (AADSTS700025) and no request carries `resource` (AADSTS9010010): scopes name the API. `common` answers for many
    tenants, so the issuer is a template; S256 is supported but not advertised, so nothing is discovered. The redirect
    is `http://localhost`, any port. There is no revocation of one token. `base_url` selects a national cloud.
    https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
    """

    def __init__(
        self,
        client_id: str,
        tenant_id: str = "common",
        scopes: Sequence[str] = ("User.Read",),
        client_secret: str | None = None,
        *,
        base_url: str = _ENTRA,
        redirect_uri: str | None = None,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,252}", tenant_id):
            raise ConfigError("The Azure tenant is a GUID, a domain, or common, organizations, consumers.")
        base_url = _plain(base_url)
        issuing = tenant_id.lower() if _GUID.fullmatch(tenant_id) else "{tenantid}"
        issuing = _CONSUMERS if tenant_id == "consumers" else issuing
        base = f"{base_url}/{tenant_id}/oauth2/v2.0"
        config = OAuth2Config(
            client_id=client_id,
            client_secret=client_secret,
            scopes=tuple(dict.fromkeys((*scopes, "offline_access"))),
            redirect_uri=redirect_uri,
            name="Azure AD",
            console="https://entra.microsoft.com/ under App registrations",
            issuer=f"{base_url}/{issuing}/v2.0",
            authorization_url=f"{base}/authorize",
            token_url=f"{base}/token",
            device_url=f"{base}/devicecode",
            userinfo_url="https://graph.microsoft.com/v1.0/me" if base_url == _ENTRA else "",
            redirect_host="localhost",
        )
        super().__init__(config)


class CustomOAuth(OAuth2Flow):
    """Any other provider: by `issuer` (its metadata is discovered), or by `authorization_url` and `token_url`.

    `more` are fields of `OAuth2Config`: those two, `name`, `iss="ignore"` for a provider known to send a wrong one,
    `token_endpoint_auth_method` for one without metadata that wants the secret in the Authorization header,
    `authorize_params` (`audience`, ...).
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str | None = None,
        scopes: Sequence[str] = (),
        *,
        issuer: str = "",
        **more: Any,
    ) -> None:
        discover = not more.get("token_url")
        if discover and not issuer:
            message = "A custom provider needs an issuer, or an authorization URL and a token URL."
            raise ConfigError(message, code="no_endpoints")
        given: dict[str, Any] = {"client_secret": client_secret, "scopes": scopes, "issuer": issuer}
        super().__init__(OAuth2Config(client_id, discover=discover, **given, **more))


def _plain(url: str) -> str:
    """Return a base URL as others write it: scheme and host in lower case, without the usual port and a last slash."""
    parts = check_url(url, "base URL (OAUTH_BASE_URL)")
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(':443')}{parts.path.rstrip('/')}"


def _github_api(base: str) -> str:
    """Where the REST API of a GitHub is: beside it on github.com and ghe.com, below it on your own server.

    https://docs.github.com/enterprise-cloud@latest/admin/data-residency/about-github-enterprise-cloud-with-data-residency
    """
    if base == _GITHUB or re.fullmatch(r"https://[a-z0-9-]+\.ghe\.com", base):
        return base.replace("https://", "https://api.")
    return f"{base}/api/v3"


PROVIDERS: dict[str, Callable[..., OAuth2Flow]] = {
    "github": GitHubOAuth,
    "google": GoogleOAuth,
    "azure": AzureADOAuth,
    "custom": CustomOAuth,
}
