"""What a server says once about its sign-in, and the parts that are built from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .keys import Cipher, Keychain, cipher_from_keychain, cipher_from_text
from .oauth2 import OAuth2Flow
from .storage import FileStore
from .token_manager import TokenManager

Lookup = Callable[[str], str | None]


@dataclass(frozen=True)
class AuthSettings:
    """Everything the package has to be told.

    `app_name` names the data directory, `command` is what a person types, `provider` is
    github, google, azure or custom, `options` go to its class (`scopes`, `tenant_id`, `issuer`, ...), and
    `lookup` finds OAUTH_CLIENT_ID, OAUTH_CLIENT_SECRET, TOKEN_KEY, ACCESS_TOKEN and REFRESH_TOKEN. `data_dir`
    overrides the user's data directory, such as with a container's volume; `keychain` is the OS keyring.
    """

    app_name: str
    command: str
    provider: str
    lookup: Lookup = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    data_dir: Path | None = None
    keychain: Keychain | None = None

    def flow(self) -> OAuth2Flow:
        """Build the provider's flow; ConfigError if a setting or the client id is missing."""
        from .providers import PROVIDERS

        if self.provider not in PROVIDERS:
            raise ConfigError(f"The OAuth provider has to be one of: {', '.join(PROVIDERS)}.", code="bad_provider")
        client_id = self.lookup("OAUTH_CLIENT_ID") or ""
        secret = self.lookup("OAUTH_CLIENT_SECRET")
        return PROVIDERS[self.provider](client_id=client_id, client_secret=secret, **self.options)  # type: ignore[call-arg]

    def cipher(self, *, create: bool = False) -> Cipher | None:
        """Return the store's cipher: TOKEN_KEY, else the keyring; None without either."""
        if text := self.lookup("TOKEN_KEY"):
            return cipher_from_text(text)
        return cipher_from_keychain(self.keychain, create=create) if self.keychain else None

    def store(self, *, plaintext: bool = False) -> FileStore:
        """Return the file store. `plaintext` is the person's explicit wish not to encrypt."""
        directory = self.data_dir
        if directory is None:
            import platformdirs

            directory = platformdirs.user_data_path(self.app_name, appauthor=False)
        return FileStore(directory / "sign-in", self.cipher, plaintext=plaintext)

    def given(self) -> tuple[str | None, str | None]:
        """Refresh and access token given in the environment. They are the sign-in then; nothing is stored."""
        return self.lookup("REFRESH_TOKEN"), self.lookup("ACCESS_TOKEN")

    def manager(self) -> TokenManager:
        """Return the server's token manager. Nothing is read, decrypted or fetched before the first use."""
        flow, (refresh_token, access_token) = self.flow(), self.given()
        if refresh_token or access_token:
            return TokenManager(flow, refresh_token, access_token=access_token, command=self.command)
        return TokenManager(flow, store=self.store(), command=self.command)
