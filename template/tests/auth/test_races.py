"""A18: renewals by tasks, threads and processes at once, cancelled, and killed at any instant."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from .fake_provider import FakeProvider
from .package import LoginRequired, TokenManager, TokenRecord
from .support import manager_for, sign_in, stored

ROUNDS = int(os.environ.get("AUTH_ROUNDS", "3"))
KILLS = int(os.environ.get("AUTH_KILLS", "20"))
TESTS = Path(__file__).parent.parent
pytestmark = pytest.mark.anyio


async def test_a18_fifty_tasks_make_one_refresh(provider: FakeProvider, tmp_path: Path) -> None:
    for number in range(ROUNDS):
        sign_in(provider, tmp_path)
        manager = manager_for(provider, tmp_path)
        tokens = await asyncio.gather(*(manager.get_token() for _ in range(50)))
        assert len(set(tokens)) == 1
        assert provider.refreshes == number + 1
    assert provider.reuses == 0


def test_a18_eight_threads_with_their_own_loops(provider: FakeProvider, tmp_path: Path) -> None:
    for number in range(ROUNDS):
        sign_in(provider, tmp_path)
        manager, barrier = manager_for(provider, tmp_path), threading.Barrier(8)
        tokens: list[str] = []

        def ask(manager: TokenManager = manager, barrier: threading.Barrier = barrier, out: list[str] = tokens) -> None:
            barrier.wait()
            out.append(asyncio.run(manager.get_token()))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(tokens) == 8
        assert len(set(tokens)) == 1
        assert provider.refreshes == number + 1


def start_worker(p: FakeProvider, tmp_path: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    worker = subprocess.Popen(
        [sys.executable, "-m", "auth.worker", p.base, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert worker.stdout
    assert worker.stdout.readline() == "ready\n"
    return worker


def ask(worker: subprocess.Popen[str], rejected: str = "") -> None:
    assert worker.stdin
    worker.stdin.write(rejected + "\n")
    worker.stdin.flush()


def stop(worker: subprocess.Popen[str]) -> None:
    worker.communicate(timeout=60)


def test_a18_eight_processes_make_one_refresh(provider: FakeProvider, tmp_path: Path) -> None:
    record = sign_in(provider, tmp_path, left=3600)
    workers = [start_worker(provider, tmp_path) for _ in range(8)]
    rejected = record.access_token
    for number in range(ROUNDS):
        for worker in workers:
            ask(worker, rejected)
        tokens = {worker.stdout.readline().strip() for worker in workers if worker.stdout}
        assert len(tokens) == 1
        assert provider.refreshes == number + 1
        rejected = tokens.pop()
    assert provider.reuses == 0
    for worker in workers:
        stop(worker)


async def test_a18_a_cancelled_caller_loses_nothing(provider: FakeProvider, tmp_path: Path) -> None:
    provider.delay = 0.03
    for _ in range(max(ROUNDS, 5)):
        sign_in(provider, tmp_path)
        manager = manager_for(provider, tmp_path)
        caller = asyncio.ensure_future(manager.get_token())
        await asyncio.sleep(random.uniform(0, 0.05))
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert await manager.get_token() == stored(provider, tmp_path).access_token
        assert stored(provider, tmp_path).refresh_token in provider.live
    assert provider.reuses == 0


def test_a18_sigkill_at_any_instant(provider: FakeProvider, tmp_path: Path) -> None:
    """The store always reads back whole; the next start works, or asks for sign-in and says why."""
    provider.delay = 0.02
    worked = asked = 0
    for number in range(KILLS):
        before = sign_in(provider, tmp_path)
        worker = start_worker(provider, tmp_path)
        ask(worker)
        time.sleep(random.uniform(0, 0.2))
        worker.send_signal(signal.SIGKILL)
        stop(worker)
        time.sleep(0.05)  # what the provider was doing is done
        after = stored(provider, tmp_path)
        if after.refresh_token == before.refresh_token:
            assert after in (before, TokenRecord(**before.__dict__ | {"attempt": after.attempt}))
        else:
            assert after.refresh_token in provider.live
        reuses = provider.reuses
        try:
            asyncio.run(manager_for(provider, tmp_path).get_token())
            worked, reason = worked + 1, None
        except LoginRequired as error:
            asked, reason = asked + 1, error
        if reason:
            assert reason.code == "refresh_interrupted"
            assert "demo login" in str(reason)
            assert (provider.reuses, after.attempt is None) == (reuses + 1, False), number
    print(f"kills={KILLS} worked={worked} asked={asked}")
    assert worked + asked == KILLS
