"""The program ends while a renewed sign-in is on its way: the answer is the only copy of it, and is saved first."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from .fake_provider import FakeProvider
from .package import TokenManager
from .support import manager_for, sign_in, stored
from .test_commands import Cli

ROUNDS = int(os.environ.get("AUTH_ROUNDS", "3"))
LATE = 1.0  # seconds for which the answer is on its way
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows clients end a server outright")

INITIALIZE: dict[str, object] = {
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "ends", "version": "1"}},
}
FETCH: dict[str, object] = {"method": "tools/call", "params": {"name": "probe_fetch", "arguments": {"path": "/user"}}}


@pytest.fixture
def start(provider: FakeProvider, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a program of a person whose sign-in has expired; none of them outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        sign_in(provider, tmp_path / "data")
        process = Cli(provider, tmp_path, API_BASE_URL=provider.base).start(*arguments, stdin=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)


def send(process: subprocess.Popen[str], number: int, message: dict[str, object]) -> None:
    assert process.stdin
    process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": number, **message}) + "\n")
    process.stdin.flush()


def initialized(process: subprocess.Popen[str]) -> None:
    send(process, 1, INITIALIZE)
    assert process.stdout
    assert json.loads(process.stdout.readline())["id"] == 1


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def renewed(provider: FakeProvider, times: int) -> bool:
    return provider.refreshes == times


def close_stdin(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.close()
    process.stdin = None


def end(process: subprocess.Popen[str], how: str) -> None:
    if how == "stdin, then SIGTERM":
        close_stdin(process)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
    elif how == "stdin only":
        close_stdin(process)
    else:
        for name in how.split():
            process.send_signal(getattr(signal, name))
            time.sleep(0.2)


@pytest.mark.parametrize(
    "how", ["SIGTERM", "SIGINT", "SIGHUP", "SIGTERM SIGTERM SIGINT", "stdin, then SIGTERM", "stdin only"]
)
def test_a_stdio_server_saves_the_renewal_first(
    provider: FakeProvider, tmp_path: Path, start: Callable[..., subprocess.Popen[str]], how: str
) -> None:
    provider.late = LATE
    for number in range(min(ROUNDS, 12) if how in ("SIGTERM", "stdin, then SIGTERM") else 1):
        process = start("serve")
        initialized(process)
        send(process, 2, FETCH)
        until(partial(renewed, provider, number + 1))
        end(process, how)
        assert process.wait(timeout=20) == 0
        assert stored(provider, tmp_path / "data").refresh_token in provider.live, f"{how}, round {number}"
    assert provider.reuses == 0


def test_an_idle_stdio_server_ends_at_once(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("serve")
    initialized(process)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert time.monotonic() - began < 1.0  # about 0.02 s; the machine may be busy


@pytest.mark.parametrize("how", ["SIGINT SIGINT SIGTERM", "SIGHUP"])  # a second Ctrl-C makes uvicorn drop its calls
def test_an_http_server_saves_the_renewal_first(
    provider: FakeProvider, tmp_path: Path, start: Callable[..., subprocess.Popen[str]], how: str
) -> None:
    from mcp import Client

    provider.late = LATE
    process = start("serve", "--http", "--port", "0")
    url = ""
    assert process.stderr
    for line in process.stderr:
        if found := re.search(r"Serving (http://\S+/mcp)", line):
            url = found[1]
        if "startup complete" in line:
            break

    def fetch() -> None:
        import asyncio
        from contextlib import suppress

        async def call() -> None:
            async with Client(url) as client:
                await client.call_tool("probe_fetch", {"path": "/user"})

        with suppress(BaseException):  # the server ends meanwhile
            asyncio.run(call())

    caller = threading.Thread(target=fetch, daemon=True)
    caller.start()
    until(lambda: provider.refreshes == 1)
    end(process, how)
    assert process.wait(timeout=30) == 0
    assert stored(provider, tmp_path / "data").refresh_token in provider.live
    caller.join(timeout=10)


def test_a_command_that_is_interrupted_twice_saves_the_renewal_first(
    provider: FakeProvider, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    provider.late = LATE
    process = start("token-works")
    until(lambda: provider.refreshes == 1)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    process.wait(timeout=20)
    assert stored(provider, tmp_path / "data").refresh_token in provider.live


def test_a_command_that_only_waits_for_the_lock_ends_at_once(
    provider: FakeProvider, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start("token-works")
    manager = manager_for(provider, tmp_path / "data")
    with manager._store.lock(manager._key):
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=15)
    assert provider.posts == []


async def waiting(manager: TokenManager) -> None:
    import asyncio

    caller = asyncio.ensure_future(manager.get_token())
    await asyncio.sleep(0.05)
    caller.cancel()


@pytest.mark.anyio
async def test_the_wait_is_bounded(provider: FakeProvider, tmp_path: Path) -> None:
    provider.late = 1.0
    sign_in(provider, tmp_path)
    manager = manager_for(provider, tmp_path)
    await waiting(manager)
    began = time.monotonic()
    manager.finish(0.2)
    assert time.monotonic() - began < 0.8
    manager.finish(10)
    assert stored(provider, tmp_path).refresh_token in provider.live


@pytest.mark.anyio
async def test_no_more_is_asked_once_the_end_has_begun(provider: FakeProvider, tmp_path: Path) -> None:
    """A second try could not come to its end within the bound, and would be cut off in the middle."""
    provider.late = 0.3
    provider.faults = [(503, {}, b"")]
    sign_in(provider, tmp_path)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        manager.finish(0)

    manager = manager_for(provider, tmp_path, sleep=sleep)
    with pytest.raises(Exception, match="503"):
        await manager.get_token()
    assert (len(provider.posts), len(pauses)) == (1, 1)
    with pytest.raises(Exception, match="stopping"):
        await manager.get_token()
    assert len(provider.posts) == 1


@pytest.mark.anyio
async def test_one_that_only_waits_for_the_lock_is_not_waited_for(provider: FakeProvider, tmp_path: Path) -> None:
    sign_in(provider, tmp_path)
    manager = manager_for(provider, tmp_path)
    assert await manager.get_token() in provider.access
    provider.posts.clear()
    sign_in(provider, tmp_path)
    manager._fresh = ("", 0.0, 0.0)
    with manager._store.lock(manager._key):
        await waiting(manager)
        began = time.monotonic()
        manager.finish(10)
        assert time.monotonic() - began < 5
    until(lambda: manager._inflight is None)
    assert provider.posts == []


def test_the_bounds_follow_from_the_exchange() -> None:
    from .package import renewal, storage, transport

    assert transport.DEADLINE < renewal.LONGEST_TO_END <= 25
    assert renewal.LONGEST >= 3 * transport.DEADLINE
    assert storage._LOCK_WAIT > renewal.LONGEST
    assert transport.DEADLINE in (transport.send.__defaults__ or ())
