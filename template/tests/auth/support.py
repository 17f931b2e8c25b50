"""What the sign-in tests share: a flow to the fake provider, and a store."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from .fake_provider import FakeProvider
from .package import Cipher, FileStore, OAuth2Config, OAuth2Flow

TOKEN_KEY = base64.b64encode(bytes(range(32))).decode()


def flow_for(p: FakeProvider, **more: Any) -> OAuth2Flow:
    options = {k: more.pop(k) for k in ("send", "clock") if k in more}
    settings: dict[str, Any] = {
        "client_id": p.client_id,
        "client_secret": p.client_secret,
        "authorization_url": f"{p.base}/authorize",
        "token_url": f"{p.base}/token",
        "device_url": f"{p.base}/device/code",
        "revocation_url": f"{p.base}/revoke",
        "issuer": p.base,
        "iss": "required",
        "scopes": ["read", "write"],
        "name": "Fake",
    }
    return OAuth2Flow(OAuth2Config(**settings | more), **options)


def store_at(path: Path) -> FileStore:
    return FileStore(path / "sign-in", lambda: Cipher(TOKEN_KEY))
