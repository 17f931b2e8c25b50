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
    FileStore,
    LoginRequired,
    ProtocolError,
    TokenManager,
    TokenRecord,
    TransientAuthError,
    key_of,
)
from .support import Clock, flow_for, manager_for, sign_in, store_at, stored

pytestmark = pytest.mark.anyio


async def test_refreshes_ahead_without_making_anyone_wait(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path, left=3600)
    clock = Clock()
    manager = manager_for(provider, tmp_path, **clock.both)
    assert await manager.get_token() == old.access_token
    clock.passes(3290)
    assert await manager.get_token() == old.access_token
    assert (manager._inflight, provider.posts) == (None, [])  # 310 seconds are left: not yet
    clock.passes(15)
    provider.delay = 0.3
    assert await manager.get_token() == old.access_token
    assert manager._inflight  # 295 seconds are left: renewed while nobody waits
    assert not manager._inflight.done()
    await renewed(manager)
    assert await manager.get_token() == stored(provider, tmp_path).access_token != old.access_token


@pytest.mark.parametrize(("lifetime", "early"), [(3600, 300), (1500, 300), (600, 120), (100, 20)])
async def test_renewal_begins_five_minutes_or_a_fifth_of_a_life_before_the_end(
    provider: FakeProvider, tmp_path: Path, lifetime: int, early: int
) -> None:
    for jitter in (0.0, 1.0):  # replicas spread over the first tenth of that
        clock = Clock()
        old = sign_in(provider, tmp_path, expires_at=clock.wall + lifetime, obtained_at=clock.wall)
        manager = manager_for(provider, tmp_path, **clock.both | {"jitter": lambda jitter=jitter: jitter})
        assert await manager.get_token() == old.access_token
        clock.passes(lifetime - early + 0.1 * early * jitter - 1)
        await manager.get_token()
        assert manager._inflight is None
        clock.passes(2)
        await manager.get_token()
        await renewed(manager)
        assert await manager.get_token() != old.access_token


async def test_a_token_in_its_last_minute_is_given_to_nobody(provider: FakeProvider, tmp_path: Path) -> None:
    """It might be over when the request arrives."""
    for left, given in ((62, True), (58, False)):
        old = sign_in(provider, tmp_path, left=3600)
        clock = Clock()
        manager = manager_for(provider, tmp_path, **clock.both)
        assert await manager.get_token() == old.access_token
        clock.passes(3600 - left)
        assert (await manager.get_token() == old.access_token) is given
        await renewed(manager)


async def test_a_failing_provider_is_not_asked_with_each_call_of_the_last_minute(
    provider: FakeProvider, tmp_path: Path
) -> None:
    old = sign_in(provider, tmp_path, left=3600)
    clock = Clock()
    manager = manager_for(provider, tmp_path, **clock.both)
    assert await manager.get_token() == old.access_token
    provider.faults = [(503, {}, b"")] * 9
    clock.passes(3600 - 50)
    for _ in range(20):
        assert await manager.get_token() == old.access_token
        clock.passes(1)
    assert len(provider.posts) == 1


async def test_a_failure_is_forgotten_with_the_next_success(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path, left=3600)
    clock = Clock()
    manager = manager_for(provider, tmp_path, **clock.both)
    assert await manager.get_token() == old.access_token
    provider.faults = [(503, {"Retry-After": "999"}, b"")]
    clock.passes(3600 - 50)
    assert await manager.get_token() == old.access_token
    new = sign_in(provider, tmp_path, expires_at=clock.wall + 100, obtained_at=clock.wall)
    assert await manager.get_token() == new.access_token
    clock.passes(95)
    assert await manager.get_token() != new.access_token


async def renewed(manager: TokenManager) -> None:
    """Wait until no renewal is under way."""
    while manager._inflight:
        await asyncio.sleep(0.01)


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
    now[0] += 0.4
    assert await manager.get_token() == first
    now[0] += 0.1
    assert await manager.get_token() == second
    store_at(tmp_path).delete(manager._key)
    now[0] += 0.5
    with pytest.raises(LoginRequired, match="Not signed in"):
        await manager.get_token()


async def test_what_cannot_be_read_is_no_reason_to_act_as_somebody_else(provider: FakeProvider, tmp_path: Path) -> None:
    """The token in memory is that of the sign-in before. Where the store is unchanged, it bridges."""
    first = sign_in(provider, tmp_path, left=3600)
    clock = Clock()
    manager = manager_for(provider, tmp_path, **clock.both)
    assert await manager.get_token() == first.access_token
    sign_in(provider, tmp_path, left=3600)
    (file,) = (tmp_path / "sign-in").glob("*.json")
    file.chmod(0o640)
    clock.passes(1)
    for _ in range(2):
        with pytest.raises(ConfigError, match="Others may access"):
            await manager.get_token()
    file.chmod(0o600)
    assert await manager.get_token() == stored(provider, tmp_path).access_token != first.access_token


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


async def test_what_cannot_be_renewed_asks_for_sign_in_and_is_kept(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path, expires_at=None, refresh_token=None)
    manager = manager_for(provider, tmp_path)
    assert await manager.get_token() == old.access_token
    for _ in range(3):
        with pytest.raises(LoginRequired, match=r"Invalid token.*Run: demo login"):
            await manager.renew(old.access_token)
        assert await manager.get_token() == old.access_token
    assert manager.status()["signed_in"]
    assert stored(provider, tmp_path) == old


async def test_what_cannot_be_renewed_lasts_to_its_end(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path, left=3600, refresh_token=None)
    clock = Clock()
    manager = manager_for(provider, tmp_path, **clock.both)
    for seconds in (0, 3400, 150, 45):
        clock.passes(seconds)
        assert await manager.get_token() == old.access_token
        await renewed(manager)
    clock.passes(10)
    with pytest.raises(LoginRequired, match=r"has expired.*Run: demo login"):
        await manager.get_token()
    assert (manager.status()["signed_in"], manager.status()["last_error"]) == (False, "expired")
    assert stored(provider, tmp_path) == old


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
    now[0] += 0.5
    assert await manager.get_token() == token
    await renewed(manager)
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


class Disk:
    """Refuses every save of a store from the second on (the first is the mark), until it is mended."""

    def __init__(self, manager: TokenManager, error: Exception) -> None:
        self.error: Exception | None = error
        self.saves = 0
        self._save = manager._store.save
        manager._store.save = self.save  # type: ignore[method-assign]

    def save(self, key: Any, record: TokenRecord) -> None:
        self.saves += 1
        if self.error and self.saves > 1:
            raise self.error
        self._save(key, record)


NO_SPACE = OSError(28, "No space left on device")


@pytest.mark.parametrize("error", [NO_SPACE, PermissionError(13, "no"), ConfigError("open", code="unsafe_store")])
async def test_a_rotated_token_that_cannot_be_saved_is_saved_at_the_end(
    provider: FakeProvider, tmp_path: Path, error: Exception
) -> None:
    sign_in(provider, tmp_path)
    manager = manager_for(provider, tmp_path)
    disk = Disk(manager, error)
    token = await manager.get_token()
    assert stored(provider, tmp_path).access_token != token
    disk.error = None
    manager.finish()
    assert stored(provider, tmp_path).access_token == token
    assert stored(provider, tmp_path).refresh_token in provider.live


@pytest.mark.parametrize("meanwhile", ["logout", "login"])
async def test_a_late_save_undoes_nothing(provider: FakeProvider, tmp_path: Path, meanwhile: str) -> None:
    sign_in(provider, tmp_path)
    clock = Clock()
    manager = manager_for(provider, tmp_path, **clock.both)
    disk = Disk(manager, NO_SPACE)
    lost = await manager.get_token()
    disk.error = None
    if meanwhile == "logout":
        assert store_at(tmp_path).delete(manager._key)
        clock.passes(1)
        with pytest.raises(LoginRequired, match="Not signed in"):
            await manager.get_token()
        assert store_at(tmp_path).load(manager._key) is None
    else:
        new = sign_in(provider, tmp_path, left=3600)
        clock.passes(1)
        assert await manager.get_token() == new.access_token != lost
        assert stored(provider, tmp_path) == new
    assert manager._renewal.unsaved is None


async def test_a_disk_that_stays_full_is_tried_twice_a_minute(provider: FakeProvider, tmp_path: Path) -> None:
    sign_in(provider, tmp_path)
    clock = Clock()
    manager = manager_for(provider, tmp_path, **clock.both)
    disk = Disk(manager, NO_SPACE)
    token = await manager.get_token()
    for _ in range(60):
        clock.passes(1)
        assert await manager.get_token() == token
        await renewed(manager)
    assert 3 <= disk.saves <= 2 + 3
    assert provider.refreshes == 1


async def test_the_record_is_marked_while_the_provider_is_asked(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path)
    marks: list[TokenRecord] = []
    flow = flow_for(provider)
    ask = flow.refresh_token

    async def refresh_token(refresh_token: str | None, token_url: str = "", auth_method: str = "") -> Any:
        marks.append(stored(provider, tmp_path))
        with pytest.raises(TransientAuthError) as caught, store_at(tmp_path).lock(key_of(flow), 0.05):
            pass  # the lock is held: nobody else renews it now
        assert caught.value.code == "lock_timeout"
        return await ask(refresh_token, token_url, auth_method)

    flow.refresh_token = refresh_token  # type: ignore[method-assign]
    began = time.time()
    await TokenManager(flow, store=store_at(tmp_path)).get_token()
    (marked,) = marks
    assert marked.attempt is not None
    assert began <= marked.attempt <= time.time()
    assert TokenRecord(**marked.__dict__ | {"attempt": None}) == old
    fresh = stored(provider, tmp_path)
    assert (fresh.attempt, fresh.renewed, fresh.state) == (None, True, "ok")
    assert fresh.obtained_at >= began


@pytest.mark.parametrize(
    ("fault", "marked"),
    [
        ((429, {"Retry-After": "99"}, b""), False),
        ((401, {"Content-Type": "application/json"}, b'{"error":"invalid_client"}'), False),
        ((404, {}, b""), False),
        ((503, {}, b""), True),
        ((200, {"Content-Type": "application/json"}, b"{}"), True),
        ((200, {"Content-Length": "99"}, b"cut off"), True),
    ],
)
async def test_the_mark_stays_where_the_token_may_have_been_used(
    provider: FakeProvider, tmp_path: Path, fault: Any, marked: bool
) -> None:
    sign_in(provider, tmp_path)
    provider.faults = [fault] * 2
    with pytest.raises(Exception, match=r"."):
        await manager_for(provider, tmp_path, sleep=lambda _: None).get_token()
    assert (stored(provider, tmp_path).attempt is not None) is marked
    provider.live.clear()  # the provider had rotated it, and nobody heard
    provider.faults = []
    with pytest.raises(LoginRequired) as caught:
        await manager_for(provider, tmp_path).get_token()
    assert caught.value.code == ("refresh_interrupted" if marked else "invalid_grant")
    assert stored(provider, tmp_path).reason == caught.value.code


async def test_a_renewal_that_works_takes_away_what_earlier_ones_left(provider: FakeProvider, tmp_path: Path) -> None:
    sign_in(provider, tmp_path, attempt=1.0, trouble="http_404")
    await manager_for(provider, tmp_path).get_token()
    kept = stored(provider, tmp_path)
    assert (kept.attempt, kept.trouble, kept.state, kept.reason) == (None, "", "ok", "")


async def test_an_unanswered_token_is_sent_twice_and_an_unsent_one_three_times(
    provider: FakeProvider, tmp_path: Path
) -> None:
    for faults, tries in (
        ([TransientAuthError("no", code="no_answer", ambiguous=True)] * 3, 2),
        ([TransientAuthError("no", code="unreachable")] * 4, 3),
        ([TransientAuthError("no", code="http_429", retry_after=6)], 1),
        ([TransientAuthError("no", code="unreachable"), TransientAuthError("no", ambiguous=True)] * 2, 3),
    ):
        sign_in(provider, tmp_path)
        flow = flow_for(provider)
        left = list(faults)
        slept: list[float] = []

        async def fails(
            refresh_token: str | None, token_url: str = "", auth_method: str = "", left: list[Any] = left
        ) -> Any:
            raise left.pop(0)

        flow.refresh_token = fails  # type: ignore[method-assign]
        manager = TokenManager(flow, store=store_at(tmp_path), sleep=slept.append, jitter=lambda: 1.0)
        with pytest.raises(TransientAuthError):
            await manager.get_token()
        assert len(faults) - len(left) == tries
        assert slept == [1.0, 2.0][: tries - 1]


async def test_the_answer_survives_trouble_of_the_event_loop(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started, closing the loop fails, after the provider has rotated the token."""
    sign_in(provider, tmp_path)
    run = asyncio.run

    def fails_late(main: Any) -> Any:
        run(main)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(asyncio, "run", fails_late)
    assert await manager_for(provider, tmp_path).get_token() == stored(provider, tmp_path).access_token
    assert provider.refreshes == 1


async def test_a_failing_provider_is_left_alone_for_as_long_as_it_says(provider: FakeProvider, tmp_path: Path) -> None:
    for after, quiet in (("", 30), ("7", 30), ("120", 120), ("9999", 9999)):
        sign_in(provider, tmp_path, left=3600)
        clock = Clock()
        manager = manager_for(provider, tmp_path, **clock.both)
        token = await manager.get_token()
        clock.passes(3600 - 299)
        provider.posts.clear()
        provider.faults = [(503, {"Retry-After": after}, b"")] * 3
        assert await manager.get_token() == token
        await renewed(manager)
        assert len(provider.posts) == 1
        clock.passes(min(quiet, 290) - 1)
        assert await manager.get_token() == token
        assert manager._inflight is None
        clock.passes(2)
        assert await manager.get_token() == token
        assert (manager._inflight is not None) is (quiet < 290)
        await renewed(manager)
        provider.faults.clear()


def test_status_tells_of_a_disk_that_cannot_be_read(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(provider, tmp_path, left=3600)
    manager = manager_for(provider, tmp_path)

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(FileStore, "load", broken)
    status = manager.status()
    assert (status["signed_in"], status["last_error"]) == (False, "io")


async def test_a_failed_renewal_is_one_line_in_the_log(
    provider: FakeProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sign_in(provider, tmp_path)
    provider.faults = [(503, {}, b"")] * 3
    with pytest.raises(TransientAuthError):
        await manager_for(provider, tmp_path, sleep=lambda _: None).get_token()
    said = [record for record in caplog.records if "renewal" in record.message]
    assert [(it.message, it.exc_info) for it in said] == [("token renewal failed: http_503", None)]
