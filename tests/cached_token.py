"""Times `get_token()` on the cached path in turn with an awaited no-op: a line of both nanoseconds for each round.

For figures.py, with a rendered server `signed_in` on the path. With the argument `sign-in` it stores a sign-in instead.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from importlib import import_module

ROUNDS, CALLS = 25, 20_000
signin = import_module("signed_in.signin")


def sign_in() -> None:
    """Store what `login` would have stored."""
    record = import_module("signed_in.auth.records").TokenRecord
    flow, store = signin.flow(), signin.store()
    key = import_module("signed_in.auth.token_manager").key_of(flow)
    with store.lock(key):
        store.save(key, record("a-made-up-token", "another", time.time() + 3600, time.time()))


async def no_op() -> str:
    return ""


async def timed(call: Callable[[], Awaitable[str]]) -> float:
    began = time.perf_counter_ns()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter_ns() - began) / CALLS


async def main() -> None:
    get_token = signin.manager().get_token
    assert await get_token() == "a-made-up-token"
    for _ in range(ROUNDS):
        print(await timed(no_op), await timed(get_token))


if __name__ == "__main__":
    sign_in() if sys.argv[1:] == ["sign-in"] else asyncio.run(main())
