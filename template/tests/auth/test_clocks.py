"""A laptop sleeps, a clock is set: what time it is is believed where it says "expired", running time where it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from .fake_provider import FakeProvider
from .package import TokenRecord
from .support import Clock, manager_for, sign_in, stored

pytestmark = pytest.mark.anyio
DAY = 86400.0


@pytest.mark.parametrize(
    ("case", "running", "wall", "good"),
    [
        ("a moment", 0.1, 0.1, True),
        ("half an hour", 1800, 1800, True),
        ("an hour", 3600, 3600, False),
        ("a day of sleep: running time stood still", 0.0, DAY, False),
        ("an hour of sleep", 1.0, 3600, False),
        ("five minutes of sleep", 0.2, 300, True),
        ("the clock was set back by a day, and an hour passed", 3600, 3600 - DAY, False),
        ("the clock was set back by a day just now", 0.1, -DAY, True),
        ("the clock was set back by an hour, and an hour passed", 3600, 0, False),
        ("the clock was set on by a day", 0.1, DAY, False),
    ],
)
async def test_a_token_is_over_when_either_clock_says_so(
    provider: FakeProvider, tmp_path: Path, case: str, running: float, wall: float, good: bool
) -> None:
    old = sign_in(provider, tmp_path, left=3600)
    clock = Clock()
    manager = manager_for(provider, tmp_path, **clock.both)
    assert await manager.get_token() == old.access_token
    assert await manager.get_token() == old.access_token  # from memory, unlooked at
    clock.running += running
    clock.wall += wall
    assert (await manager.get_token() == old.access_token) is good, case
    assert provider.refreshes == (0 if good else 1)
    if not good:  # the new one counts from now on, on both clocks
        new = await manager.get_token()
        clock.passes(1800)
        assert await manager.get_token() == new


async def test_an_expired_token_is_not_taken_up_again_from_the_store(provider: FakeProvider, tmp_path: Path) -> None:
    """The store knows what time it is only; this process knows better."""
    old = sign_in(provider, tmp_path, left=3600)
    clock = Clock()
    manager = manager_for(provider, tmp_path, **clock.both)
    assert await manager.get_token() == old.access_token
    clock.running += 3500
    clock.wall -= DAY
    assert stored(provider, tmp_path).expires_at
    provider.faults = [(503, {}, b"")]
    assert await manager.get_token() == old.access_token  # 100 seconds are left
    while manager._inflight:
        pass
    clock.running += 101
    assert await manager.get_token() != old.access_token


async def test_a_clock_that_was_set_back_makes_no_token_younger_than_new(
    provider: FakeProvider, tmp_path: Path
) -> None:
    """A program that starts afterwards has no running time to go by: the token gets its whole life, no more."""
    clock = Clock()
    old = sign_in(provider, tmp_path, expires_at=clock.wall + 3600, obtained_at=clock.wall)
    clock.wall -= DAY
    manager = manager_for(provider, tmp_path, **clock.both)
    assert await manager.get_token() == old.access_token
    clock.passes(3000)
    assert await manager.get_token() == old.access_token
    clock.passes(600)
    assert await manager.get_token() != old.access_token


async def test_an_answer_with_the_same_token_and_a_later_end_is_believed(
    provider: FakeProvider, tmp_path: Path
) -> None:
    """Some providers prolong a token instead of replacing it."""
    clock = Clock()
    old = sign_in(provider, tmp_path, expires_at=clock.wall + 3600, obtained_at=clock.wall)
    manager = manager_for(provider, tmp_path, **clock.both)
    assert await manager.get_token() == old.access_token
    clock.passes(3590)
    prolonged = TokenRecord(**old.__dict__ | {"expires_at": clock.wall + 3600, "obtained_at": clock.wall})
    with manager._store.lock(manager._key):
        manager._store.save(manager._key, prolonged)
    for _ in range(5):
        assert await manager.get_token() == old.access_token
        clock.passes(500)
    assert provider.posts == []
