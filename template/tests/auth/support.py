"""What the sign-in tests share: a flow to the fake provider, a store, and a sign-in in it."""

from __future__ import annotations

import base64
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .fake_provider import FakeProvider
from .package import Cipher, FileStore, OAuth2Config, OAuth2Flow, TokenManager, TokenRecord, key_of

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


def sign_in(p: FakeProvider, tmp_path: Path, left: float = 0.0, **more: Any) -> TokenRecord:
    """Store a sign-in as `login` would, with `left` seconds to live."""
    flow, store = flow_for(p), store_at(tmp_path)
    body = p.issue()
    record = TokenRecord(
        body["access_token"],
        body["refresh_token"],
        expires_at=time.time() + left,
        obtained_at=time.time() + left - 3600,
        token_url=flow.config.token_url,
    )
    record = TokenRecord(**record.__dict__ | more)
    with store.lock(key_of(flow)):
        store.save(key_of(flow), record)
    return record


def manager_for(p: FakeProvider, tmp_path: Path, **more: Any) -> TokenManager:
    of_the_flow = {name: more.pop(name) for name in ("send", "clock", "userinfo_url") if name in more}
    flow = more.pop("flow", None) or flow_for(p, **of_the_flow)
    return TokenManager(flow, store=store_at(tmp_path), command="demo", **more)


class Clock:
    """Running time and what time it is, which pass together unless one of them is moved alone."""

    def __init__(self) -> None:
        self.running = 1000.0
        self.wall = time.time()

    def passes(self, seconds: float) -> None:
        self.running += seconds
        self.wall += seconds

    @property
    def both(self) -> dict[str, Any]:
        """For `manager_for`."""
        return {"monotonic": lambda: self.running, "clock": lambda: self.wall, "jitter": lambda: 0.0}


def stored(p: FakeProvider, tmp_path: Path) -> TokenRecord:
    record = store_at(tmp_path).load(key_of(flow_for(p)))
    assert record is not None
    return record


CHILDREN: list[tuple[subprocess.Popen[str], threading.Timer]] = []


def started(process: subprocess.Popen[str], seconds: float = 60) -> subprocess.Popen[str]:
    """Give a child an end: after these seconds, so that nobody reads from it for ever, and when the test is over."""
    end = threading.Timer(seconds, process.kill)
    end.daemon = True
    end.start()
    CHILDREN.append((process, end))
    return process


def end_children() -> None:
    """Kill what a failed test left running."""
    while CHILDREN:
        process, end = CHILDREN.pop()
        end.cancel()
        process.kill()
        process.wait(timeout=10)
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            with suppress(OSError):
                pipe.close()
