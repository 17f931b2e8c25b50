"""Where the machine refuses a thread, or the process forks while one renews: nobody waits for ever."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from .fake_provider import FakeProvider
from .package import LoginRequired, TokenManager, TransientAuthError
from .support import Clock, manager_for, sign_in, stored

pytestmark = pytest.mark.anyio
AT_MOST = 20.0  # seconds; far more than anything here takes


class NoThreads:
    """The process limit: no thread starts while `on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        self.on = True
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if self.on and thread.name == "token-renewal":
                raise error
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError(), OSError(11, "again")])
async def test_a_thread_that_cannot_start_is_a_transient_error(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    sign_in(provider, tmp_path)
    manager = manager_for(provider, tmp_path)
    limit = NoThreads(monkeypatch, error)
    for _ in range(3):
        for call in (manager.get_token(), manager.renew("at-other"), manager.after_401("at-other")):
            with pytest.raises(TransientAuthError, match="Try again later"):
                await asyncio.wait_for(call, AT_MOST)
    limit.on = False
    assert await asyncio.wait_for(manager.get_token(), AT_MOST) == stored(provider, tmp_path).access_token


async def test_without_a_thread_a_token_that_is_good_goes_out(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = sign_in(provider, tmp_path, left=3600)
    clock = Clock()
    manager = manager_for(provider, tmp_path, **clock.both)
    assert await manager.get_token() == old.access_token
    clock.passes(3400)
    limit = NoThreads(monkeypatch, RuntimeError("can't start new thread"))
    assert await asyncio.wait_for(manager.get_token(), AT_MOST) == old.access_token
    limit.on = False
    clock.passes(31)
    assert await manager.get_token() == old.access_token
    while manager._inflight:
        await asyncio.sleep(0.01)
    assert await manager.get_token() != old.access_token


async def test_ctrl_c_while_the_thread_starts_leaves_no_renewal_behind(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(provider, tmp_path)
    manager = manager_for(provider, tmp_path)
    limit = NoThreads(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        manager._start()
    limit.on = False
    assert await asyncio.wait_for(manager.get_token(), AT_MOST) in provider.access


async def test_ctrl_c_just_after_the_thread_started_confuses_nobody(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.late = 0.2
    sign_in(provider, tmp_path)
    manager = manager_for(provider, tmp_path)
    start, unheard = threading.Thread.start, list[Any]()

    def start_then_ctrl_c(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "token-renewal" and not unheard:
            unheard.append("ctrl-c")
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start_then_ctrl_c)
    monkeypatch.setattr(threading, "excepthook", unheard.append)
    with pytest.raises(KeyboardInterrupt):
        manager._start()
    assert await asyncio.wait_for(manager.get_token(), AT_MOST) in provider.access
    assert (unheard, provider.refreshes, provider.reuses) == (["ctrl-c"], 1, 0)


@pytest.mark.parametrize("question", [TokenManager.renew, TokenManager.after_401])
async def test_a_renewal_that_knew_nothing_of_the_401_is_no_answer_to_it(
    provider: FakeProvider, tmp_path: Path, question: Any
) -> None:
    old = sign_in(provider, tmp_path, left=3600)
    manager = manager_for(provider, tmp_path)
    load, go = manager._store.load, threading.Event()

    def slow(key: Any) -> Any:
        assert go.wait(AT_MOST)
        return load(key)

    manager._store.load = slow  # type: ignore[method-assign]
    first = asyncio.ensure_future(manager.get_token())
    await asyncio.sleep(0.02)
    answer = asyncio.ensure_future(question(manager, old.access_token))
    await asyncio.sleep(0.02)
    go.set()
    assert await asyncio.wait_for(first, AT_MOST) == old.access_token
    assert await asyncio.wait_for(answer, AT_MOST) != old.access_token
    assert provider.refreshes == 1


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(3), asyncio.CancelledError(), OSError(5, "disk")])
async def test_whatever_ends_the_renewal_those_who_wait_hear_of_it(
    provider: FakeProvider, tmp_path: Path, error: BaseException
) -> None:
    sign_in(provider, tmp_path)
    manager = manager_for(provider, tmp_path)
    load = manager._store.load

    def fails(*_: Any) -> Any:
        raise error

    manager._store.load = fails  # type: ignore[method-assign]
    waiting = [asyncio.ensure_future(manager.get_token()) for _ in range(5)]
    for outcome in await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), AT_MOST):
        assert isinstance(outcome, TransientAuthError)
        assert type(error).__name__ in str(outcome)
        assert (outcome.__context__, outcome.__cause__) == (None, None)
    manager._store.load = load  # type: ignore[method-assign]
    assert await asyncio.wait_for(manager.get_token(), AT_MOST) in provider.access


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("guarded", [False, True])
def test_a_child_of_a_fork_does_not_wait_for_its_parents_renewal(
    provider: FakeProvider, tmp_path: Path, guarded: bool
) -> None:
    provider.late = 0.3
    sign_in(provider, tmp_path)
    manager = manager_for(provider, tmp_path)
    future = manager._start()
    while not provider.refreshes:
        time.sleep(0.01)
    if guarded:  # another thread may hold it in the moment of the fork
        manager._guard.acquire()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if asyncio.run(manager.get_token()) == stored(provider, tmp_path).access_token else 2
        finally:
            os._exit(code)
    if guarded:
        manager._guard.release()
    end = time.monotonic() + AT_MOST
    found = 0
    while not found and time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.02)
    if not found:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert found, "the child waits for ever"
    assert os.waitstatus_to_exitcode(status) == 0
    assert future.result(AT_MOST) == stored(provider, tmp_path).access_token
    assert (provider.refreshes, provider.reuses) == (1, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_of_a_fork_ends_without_its_parents_renewal(provider: FakeProvider, tmp_path: Path) -> None:
    provider.late = 1.0
    sign_in(provider, tmp_path)
    manager = manager_for(provider, tmp_path)
    future = manager._start()
    while not provider.refreshes:
        time.sleep(0.01)
    child = os.fork()
    if child == 0:
        began = time.monotonic()
        manager._start()  # waits for the lock, which the parent holds
        manager.finish(10)
        os._exit(0 if time.monotonic() - began < 0.5 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert future.result(AT_MOST) in provider.access


async def test_managers_are_not_kept_by_what_watches_them(provider: FakeProvider, tmp_path: Path) -> None:
    import gc
    import weakref

    def of_a_moment() -> weakref.ref[TokenManager]:
        return weakref.ref(manager_for(provider, tmp_path))

    gone = of_a_moment()
    gc.collect()
    assert gone() is None
    with pytest.raises(LoginRequired):
        await manager_for(provider, tmp_path).get_token()
