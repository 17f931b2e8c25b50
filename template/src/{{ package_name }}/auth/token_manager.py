"""A valid access token at any time: renewed ahead of expiry, once, whoever asks and from wherever.

One renewal at a time runs in this process, in a thread of its own that saves before it hands out. A caller that is
cancelled leaves nothing half done, and the program does not end before an answer that is on its way is saved.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any

from .errors import AuthError, LoginRequired, ProtocolError, TransientAuthError
from .held_token import Clocks, HeldToken, window_of
from .oauth2 import OAuth2Flow
from .records import RecordKey, TokenRecord
from .renewal import LONGEST_TO_END, REASONS, TROUBLES, Renewal
from .storage import MemoryStore, Store

log = logging.getLogger(__name__)

_LOOK = 0.5  # seconds between looks at the store for a newer sign-in
_STANDS = 60.0  # seconds for which the answer to a 401 is remembered: the token is not at fault
_NOTHING_FRESH = ("", float("-inf"), float("-inf"))


def key_of(flow: OAuth2Flow, subject: str = "default") -> RecordKey:
    """Return the key of a flow's record."""
    return RecordKey(flow.config.name, flow.config.issuer, flow.config.client_id, subject)


class TokenManager:
    """Hands out the access token of one sign-in. One instance serves every task, thread and event loop.

    With `refresh_token` (and `access_token`) given, they are the sign-in, kept in memory; otherwise it is looked for in
    `store`. `command` is what a person types before `login`. `monotonic` is seconds of running time, `jitter` a number
    from 0 to 1; what time it is says the flow's clock.
    """

    def __init__(
        self,
        flow: OAuth2Flow,
        refresh_token: str | None = None,
        *,
        access_token: str | None = None,
        store: Store | None = None,
        subject: str = "default",
        command: str = "",
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._flow = flow
        self._key = key_of(flow, subject)
        self._store: Store = MemoryStore() if store is None else store
        if refresh_token or access_token:
            # Without an access token the record starts out as long expired.
            expired = None if access_token else 0.0
            record = TokenRecord(access_token or "", refresh_token, expired, scopes=tuple(flow.config.scopes))
            self._store = MemoryStore({self._key: record})
        self._login = f"{command} login".strip()
        self._monotonic = monotonic
        self._clock = flow.clock
        self._renewal = Renewal(flow, self._store, self._key, self._now, sleep, jitter)
        self._guard = threading.Lock()  # held for a moment only: never across an await or I/O
        self._inflight: Future[str] | None = None
        # A token, and until when it goes out unlooked at: running time, and what time it is.
        self._fresh: tuple[str, float, float] = _NOTHING_FRESH
        self._quiet_until = float("-inf")  # running time; after a failure, no renewal ahead of expiry before
        self._stands: tuple[str, float] = ("", float("-inf"))  # a token the API refused wrongly; until when
        _managers.add(self)

    async def get_token(self) -> str:
        """Return a valid access token. Raises LoginRequired, TransientAuthError or another AuthError."""
        token, until, wall_until = self._fresh
        running = self._monotonic()
        if running < until and self._clock() < wall_until:  # the cached path: two comparisons, no lock
            return token
        now = self._now()
        held = self._renewal.held
        left = held.left(now)
        failed_lately = now.running < self._quiet_until
        if self._store.stamp(self._key) != held.stamp or left <= (0.0 if failed_lately else held.margin):
            # The future is running, so cancelling this await cannot cancel it.
            return await asyncio.wrap_future(self._start())
        if self._keep_fresh(held, now) or failed_lately:
            return held.access_token
        self._start()  # ahead of expiry: nobody has to wait for it
        return held.access_token

    async def renew(self, rejected: str) -> str:
        """Return another token than `rejected`, renewed if need be."""
        token = await asyncio.wrap_future(self._start(rejected))
        # A renewal that was already under way may not have known of the rejection.
        return token if token != rejected else await asyncio.wrap_future(self._start(rejected))

    async def after_401(self, token: str) -> str:
        """Return what to repeat a request with that the API answered with 401; `token` itself if it is not at fault.

        One answer of an API may be about one path. It costs one renewal at most, none for a token that was just
        renewed; and what cannot be renewed is lost only when the provider's user endpoint refuses it, too.
        """
        for _ in range(2):  # a renewal that was already under way may not have known of the question
            if self._stands[0] == token and self._monotonic() < self._stands[1]:
                break
            answer = await asyncio.wrap_future(self._start(token, questioned=True))
            if answer != token:
                return answer
        return token

    def status(self) -> dict[str, Any]:
        """Tell about the sign-in, never a token. Reads the store, which may take 3 seconds (blocking).

        `expires_in` is in seconds, None if unknown. `last_error` is a code or "", `problem` a sentence about it or "".
        """
        record = None
        error = self._renewal.last_error
        try:
            record = self._store.load(self._key)
        except (AuthError, OSError) as unreadable:
            error = getattr(unreadable, "code", "") or "io"
        shown = record or TokenRecord("", state="needs_login")
        left = None if shown.expires_at is None else int(shown.expires_at - self._clock())
        expired = left is not None and left <= 0 and not shown.refresh_token
        stuck = left is not None and left <= window_of(shown) and shown.trouble in TROUBLES
        return {
            "provider": self._flow.config.name,
            "signed_in": shown.state == "ok" and not expired and not stuck,
            "account": shown.account,
            "scopes": list(shown.scopes),
            "expires_in": left,
            "refreshable": bool(shown.refresh_token),
            "stored_in": self._store.description,
            "last_error": shown.trouble or error or shown.reason or ("expired" if expired else ""),
            "problem": REASONS[shown.trouble] if shown.trouble in TROUBLES else "",
        }

    def finish(self, seconds: float = LONGEST_TO_END) -> None:
        """Let an answer that is on its way arrive and be saved, and ask for no more. Blocks for `seconds` at most."""
        self._renewal.ending.set()
        end = time.monotonic() + seconds
        with self._guard:
            under_way = self._inflight
        while under_way and self._renewal.asking and not under_way.done() and time.monotonic() < end:
            with suppress(KeyboardInterrupt):  # a person who is impatient would lose the sign-in
                wait([under_way], timeout=end - time.monotonic())
        with suppress(AuthError, OSError):
            self._renewal.save_late(wait=1.0)

    def _keep_fresh(self, held: HeldToken, now: Clocks) -> bool:
        """Let the token go out unlooked at for a moment; False if something is to be done about it already."""
        calm = min(_LOOK, held.left(now) - held.window)
        if calm <= 0 or self._renewal.unsaved is not None:
            return False
        self._fresh = (held.access_token, now.running + calm, now.wall + calm)
        return True

    # -- one renewal at a time in this process

    def _now(self) -> Clocks:
        return Clocks(self._monotonic(), self._clock())

    def _start(self, rejected: str | None = None, *, questioned: bool = False) -> Future[str]:
        with self._guard:
            if self._inflight is not None:
                return self._inflight
            future: Future[str] = Future()
            future.set_running_or_notify_cancel()
            self._inflight = future
        # A daemon, for its end is awaited by `finish`, which knows a bound.
        task = (future, rejected, questioned)
        thread = threading.Thread(target=self._run, args=task, name="token-renewal", daemon=True)
        try:
            thread.start()
        except BaseException as error:  # no more threads or memory, or Ctrl-C: whoever waits has to hear of it
            self._settle(future, self._failed(error, rejected))
            if not isinstance(error, Exception):
                raise
        return future

    def _run(self, future: Future[str], rejected: str | None, questioned: bool) -> None:
        outcome: str | AuthError = _not_renewed("internal")
        try:
            outcome = self._renewal.run(rejected, questioned=questioned)
            self._quiet_until = float("-inf")
            if questioned and outcome == rejected:
                self._stands = (outcome, self._monotonic() + _STANDS)
        except BaseException as error:  # a bug or the disk, too: the waiting callers have to hear of it
            outcome = self._failed(error, rejected)
        finally:
            self._settle(future, outcome)

    def _settle(self, future: Future[str], outcome: str | AuthError) -> None:
        """Give the outcome to those who wait, once; the next call starts anew."""
        with self._guard:
            if self._inflight is not future:
                return
            self._inflight = None
            self._fresh = _NOTHING_FRESH
        held = self._renewal.held
        if outcome == held.access_token:
            self._keep_fresh(held, self._now())
        if isinstance(outcome, str):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    def _failed(self, error: BaseException, rejected: str | None) -> str | AuthError:
        """Note a failed renewal. Return the old token where it can be used in the meantime, else what to raise."""
        if not isinstance(error, AuthError):
            error = _not_renewed(type(error).__name__)
        log.warning("token renewal failed: %s", error.code)
        self._renewal.last_error = error.code
        now = self._now()
        held = self._renewal.held
        if held.access_token not in ("", rejected) and held.left(now) > 0:
            self._quiet_until = now.running + max(30.0, error.retry_after or 0.0)
            return held.access_token
        if isinstance(error, LoginRequired):
            return LoginRequired(f"{error} Run: {self._login}", code=error.code)
        if isinstance(error, ProtocolError):
            return ProtocolError(f"{error} If this lasts, run: {self._login}", code=error.code)
        error.__context__ = None  # it and the frames hold the refresh token and the client secret
        return error.with_traceback(None)

    def _after_fork(self) -> None:
        """In a child of `fork` no thread runs but the one that forked: what was under way is so in the parent only."""
        self._guard = threading.Lock()
        self._inflight = None
        self._renewal.asking = False


def _not_renewed(why: str) -> TransientAuthError:
    return TransientAuthError(f"The sign-in cannot be read or renewed ({why}). Try again later.", code="io")


_managers: weakref.WeakSet[TokenManager] = weakref.WeakSet()


@atexit.register
def _finish_all() -> None:
    end = time.monotonic() + LONGEST_TO_END
    for manager in tuple(_managers):
        manager.finish(end - time.monotonic())


def _forget_after_fork() -> None:
    for manager in tuple(_managers):
        manager._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
