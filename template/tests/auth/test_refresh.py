"""One renewal: ahead of expiry, refused, spoilt, saved; what is stored then, and what the caller hears."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from .fake_provider import FakeProvider
from .package import (
    ConfigError,
    CustomOAuth,
    LoginRequired,
    ProtocolError,
    TokenManager,
    TokenRecord,
    TransientAuthError,
    key_of,
)
from .support import flow_for, manager_for, sign_in, store_at, stored

pytestmark = pytest.mark.anyio


async def test_refreshes_ahead_without_making_anyone_wait(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path, left=200)
    provider.delay = 0.3
    manager = manager_for(provider, tmp_path)
    manager._adopt(old, manager._store.stamp(manager._key))
    began = time.monotonic()
    assert await manager.get_token() == old.access_token
    assert time.monotonic() - began < 0.2
    while manager._inflight:
        await asyncio.sleep(0.02)
    assert await manager.get_token() == stored(provider, tmp_path).access_token != old.access_token


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_a_failing_provider_leaves_a_valid_token_in_use(
    provider: FakeProvider, tmp_path: Path, status: int
) -> None:
    old = sign_in(provider, tmp_path, left=200)
    provider.faults = [(status, {"Retry-After": "120"}, b"")] * 9
    manager = manager_for(provider, tmp_path)
    assert [await manager.get_token() for _ in range(5)] == [old.access_token] * 5
    assert len(provider.posts) == 1
    assert manager.status()["last_error"] == f"http_{status}"
    assert stored(provider, tmp_path).refresh_token == old.refresh_token


async def test_a_failing_provider_keeps_an_expired_sign_in(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path)
    provider.faults = [(503, {}, b"")] * 2
    slept: list[float] = []
    manager = manager_for(provider, tmp_path, sleep=slept.append)
    with pytest.raises(TransientAuthError):  # an unanswered refresh token is sent twice, no oftener
        await manager.get_token()
    assert len(provider.posts) == 2
    assert stored(provider, tmp_path).refresh_token == old.refresh_token
    assert await manager.get_token() != old.access_token


async def test_429_waits_as_told(provider: FakeProvider, tmp_path: Path) -> None:
    sign_in(provider, tmp_path)
    provider.faults = [(429, {"Retry-After": "3"}, b"")] * 2
    slept: list[float] = []
    assert await manager_for(provider, tmp_path, sleep=slept.append).get_token()
    assert slept == [3.0, 3.0]


async def test_invalid_grant_marks_and_keeps_then_a_new_sign_in_is_seen(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path)
    provider.live.clear()
    manager = manager_for(provider, tmp_path)
    for _ in range(3):
        with pytest.raises(LoginRequired, match=r"invalid_grant.*Run: demo login"):
            await manager.get_token()
    assert len(provider.posts) == 1
    kept = stored(provider, tmp_path)
    assert (kept.state, kept.refresh_token) == ("needs_login", old.refresh_token)
    assert manager.status()["signed_in"] is False
    new = sign_in(provider, tmp_path, left=3600)
    assert await manager.get_token() == new.access_token


async def test_invalid_grant_reads_the_store_again_first(provider: FakeProvider, tmp_path: Path) -> None:
    sign_in(provider, tmp_path)
    flow = flow_for(provider)
    winner: list[TokenRecord] = []

    async def lose(refresh_token: str | None, token_url: str = "", auth_method: str = "") -> Any:
        body = provider.issue()
        winner.append(TokenRecord(body["access_token"], body["refresh_token"], time.time() + 3600, time.time()))
        store_at(tmp_path).save(key_of(flow), winner[0])
        raise LoginRequired("refused", code="invalid_grant")

    flow.refresh_token = lose  # type: ignore[method-assign]
    assert await TokenManager(flow, store=store_at(tmp_path)).get_token() == winner[0].access_token
    assert stored(provider, tmp_path) == winner[0]


async def test_a_new_sign_in_replaces_a_token_that_is_still_good(provider: FakeProvider, tmp_path: Path) -> None:
    sign_in(provider, tmp_path, left=3600)
    now = [0.0]
    manager = manager_for(provider, tmp_path, monotonic=lambda: now[0])
    first = await manager.get_token()
    second = sign_in(provider, tmp_path, left=3600).access_token
    assert await manager.get_token() == first
    now[0] += 6
    assert await manager.get_token() == second


async def test_invalid_client_is_a_setting_and_touches_nothing(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path)
    manager = manager_for(provider, tmp_path)
    provider.client_secret = "another"
    with pytest.raises(ConfigError):
        await manager.get_token()
    provider.client_secret = "s3cret"
    assert stored(provider, tmp_path) == old


async def test_unknown_expiry_lasts_until_401(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path, expires_at=None)
    manager = manager_for(provider, tmp_path)
    assert await manager.get_token() == old.access_token
    assert provider.refreshes == 0
    assert await manager.renew(old.access_token) != old.access_token
    assert provider.refreshes == 1


async def test_a_kept_refresh_token_is_kept(provider: FakeProvider, tmp_path: Path) -> None:
    provider.rotate = False
    old = sign_in(provider, tmp_path)
    await manager_for(provider, tmp_path).get_token()
    assert stored(provider, tmp_path).refresh_token == old.refresh_token


async def test_no_refresh_token_asks_for_sign_in_when_rejected(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path, expires_at=None, refresh_token=None)
    manager = manager_for(provider, tmp_path)
    assert await manager.get_token() == old.access_token
    with pytest.raises(LoginRequired, match="Invalid token"):
        await manager.renew(old.access_token)
    assert await manager.get_token() == old.access_token  # one odd 401 does not end the sign-in
    assert manager.status()["signed_in"]
    with pytest.raises(LoginRequired, match=r"Invalid token.*Run: demo login"):
        await manager.renew(old.access_token)  # a second does, and `status` says so
    assert (manager.status()["signed_in"], manager.status()["last_error"]) == (False, "token_rejected")
    with pytest.raises(LoginRequired, match="no longer accepts"):
        await manager.get_token()


async def test_a_full_disk_does_not_lose_the_rotated_token(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(provider, tmp_path)
    now = [0.0]
    manager = manager_for(provider, tmp_path, monotonic=lambda: now[0])
    real, calls = manager._store.save, []

    def save(key: Any, record: TokenRecord) -> None:
        calls.append(record)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(key, record)

    monkeypatch.setattr(manager._store, "save", save)
    token = await manager.get_token()
    assert manager.status()["last_error"] == "store_write_failed"
    now[0] += 6
    assert await manager.get_token() == token
    while manager._inflight:
        await asyncio.sleep(0.02)
    assert stored(provider, tmp_path).access_token == token
    assert manager.status()["last_error"] == ""


async def test_environment_tokens_and_the_guides_form(provider: FakeProvider, caplog: pytest.LogCaptureFixture) -> None:
    refresh = provider.issue()["refresh_token"]
    manager = TokenManager(flow_for(provider), refresh)
    first = await manager.get_token()
    assert first in provider.access
    assert "REFRESH_TOKEN will not work again" in caplog.text
    assert await manager.get_token() == first
    assert provider.refreshes == 1


async def test_a8_a_changed_token_endpoint_gets_nothing(provider: FakeProvider, tmp_path: Path) -> None:
    sign_in(provider, tmp_path, token_url="https://elsewhere.example/token")
    with pytest.raises(LoginRequired, match="changed since the sign-in"):
        await manager_for(provider, tmp_path).get_token()
    assert provider.posts == []


async def test_a_renewal_after_a_restart_needs_no_discovery(provider: FakeProvider, tmp_path: Path) -> None:
    """A rotated token must not depend on another answer of the provider before it is on disk."""
    flow = CustomOAuth(provider.client_id, provider.client_secret, name="Fake", issuer=provider.base)
    sign_in(provider, tmp_path)
    provider.metadata = {"issuer": "https://evil.example"}
    assert await TokenManager(flow, store=store_at(tmp_path)).get_token() == stored(provider, tmp_path).access_token
    assert provider.requests == ["/token"]


async def test_nothing_stored_names_the_command(provider: FakeProvider, tmp_path: Path) -> None:
    with pytest.raises(LoginRequired, match=r"Not signed in. Run: demo login"):
        await manager_for(provider, tmp_path).get_token()


async def test_a_garbled_answer_is_not_a_lost_sign_in(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path)
    provider.faults = [(200, {"Content-Type": "application/json"}, b"{}")]
    with pytest.raises(ProtocolError):
        await manager_for(provider, tmp_path).get_token()
    assert stored(provider, tmp_path).refresh_token == old.refresh_token
