"""A valid access token at any time: renewed ahead of expiry, once, whoever asks and from wherever.

The renewal runs in a thread of its own and saves before it hands out. A caller that is cancelled leaves nothing half
done, and at exit the interpreter waits for the thread: once a provider has rotated a refresh token, the answer on the
wire is the only copy of it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from .errors import AuthError, ConfigError, LoginRequired, TransientAuthError
from .oauth2 import OAuth2Flow
from .records import RecordKey, TokenRecord
from .responses import OAuth2Token
from .storage import MemoryStore, Store

log = logging.getLogger(__name__)

_LOOK = 5.0  # seconds between looks at the store for a newer sign-in
_REASONS = {
    "not_signed_in": "Not signed in.",
    "refresh_interrupted": "The sign-in was lost: an earlier renewal was interrupted before its answer could be saved.",
    "endpoints_changed": "The provider's endpoints changed since the sign-in.",
}


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
        self._flow, self._key = flow, key_of(flow, subject)
        self._store: Store = MemoryStore() if store is None else store
        if refresh_token or access_token:
            # Without an access token the record starts out as long expired.
            expired = None if access_token else 0.0
            record = TokenRecord(access_token or "", refresh_token, expired, scopes=tuple(flow.config.scopes))
            self._store = MemoryStore({self._key: record})
        self._command = command
        self._clock, self._monotonic, self._sleep, self._jitter = flow.clock, monotonic, sleep, jitter
        self._guard = threading.Lock()  # held for a moment only: never across an await or I/O
        self._inflight: Future[str] | None = None
        self._token = ""
        self._fresh_until = float("-inf")  # monotonic; until then the token goes out unlooked at
        self._renew_at = self._dies_at = self._expires_at = float("-inf")  # monotonic
        self._stamp: object = self
        self._unsaved: tuple[TokenRecord, TokenRecord] | None = None
        self._warned = False
        self._last_error = ""

    async def get_token(self) -> str:
        """Return a valid access token. Raises LoginRequired, TransientAuthError or another AuthError."""
        now = self._monotonic()
        if now < self._fresh_until:  # the cached path: one comparison, no lock
            return self._token
        if self._store.stamp(self._key) != self._stamp or now >= self._dies_at:
            # The future is running, so cancelling this await cannot cancel it.
            return await asyncio.wrap_future(self._start(None))
        if now >= self._renew_at or self._unsaved:
            self._start(None)  # ahead of expiry: nobody has to wait for it
        else:
            self._fresh_until = min(now + _LOOK, self._renew_at)
        return self._token

    async def renew(self, rejected: str) -> str:
        """Return another token than `rejected`, which the API answered with 401."""
        token = await asyncio.wrap_future(self._start(rejected))
        # A renewal that was already under way may not have known of the rejection.
        return token if token != rejected else await asyncio.wrap_future(self._start(rejected))

    def status(self) -> dict[str, Any]:
        """Tell about the sign-in, never a token. Reads the store, which may take 3 seconds (blocking).

        `expires_in` is in seconds, None if unknown. `last_error` is a code or "".
        """
        record, error = None, self._last_error
        try:
            record = self._store.load(self._key)
        except (AuthError, OSError) as problem:
            error = getattr(problem, "code", "") or "io"
        shown = record or TokenRecord("", state="needs_login")
        left = None if shown.expires_at is None else int(shown.expires_at - self._clock())
        expired = left is not None and left <= 0 and not shown.refresh_token
        return {
            "provider": self._flow.config.name,
            "signed_in": shown.state == "ok" and not expired,
            "account": shown.account,
            "scopes": list(shown.scopes),
            "expires_in": left,
            "refreshable": bool(shown.refresh_token),
            "stored_in": self._store.description,
            "last_error": error or shown.reason or ("expired" if expired else ""),
        }

    # -- one renewal at a time in this process

    def _start(self, rejected: str | None) -> Future[str]:
        with self._guard:
            if self._inflight is not None:
                return self._inflight
            future: Future[str] = Future()
            future.set_running_or_notify_cancel()
            self._inflight = future
        # Not a daemon: a rotated token has to be saved even if the program is about to end.
        threading.Thread(target=self._run, args=(future, rejected), name="token-renewal").start()
        return future

    def _run(self, future: Future[str], rejected: str | None) -> None:
        outcome: str | AuthError
        try:
            outcome = self._renewed(rejected)
        except Exception as error:  # a bug or the disk, too: the waiting callers have to hear of it
            outcome = self._failed(error, rejected)
        with self._guard:
            self._inflight = None
        if isinstance(outcome, str):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    def _failed(self, error: Exception, rejected: str | None) -> str | AuthError:
        """Note a failed renewal. Return the old token where it can be used in the meantime, else what to raise."""
        if not isinstance(error, AuthError):
            message = f"The sign-in cannot be read or renewed ({type(error).__name__})."
            error = TransientAuthError(message, code="io")
        log.warning("token renewal failed: %s", error.code)
        self._last_error, now = error.code, self._monotonic()
        if isinstance(error, LoginRequired):
            return LoginRequired(f"{error} Run: {f'{self._command} login'.strip()}", code=error.code)
        if self._token in ("", rejected) or now >= self._expires_at:
            error.__context__ = None  # it and the frames hold the refresh token and the client secret
            return error.with_traceback(None)
        self._renew_at, self._dies_at = now + max(30.0, min(error.retry_after or 0.0, 600.0)), self._expires_at
        self._stamp = self._store.stamp(self._key)  # our own marks in the store are no news
        return self._token

    # -- one renewal at a time on this machine

    def _renewed(self, rejected: str | None) -> str:
        stamp = self._store.stamp(self._key)
        record = self._signed_in(stamp)
        if not self._unsaved and self._good(record, rejected):
            self._last_error = ""
            return self._adopt(record, stamp)
        with self._store.lock(self._key):
            if self._unsaved:
                self._save_late(*self._unsaved)
            stamp = self._store.stamp(self._key)
            record = self._signed_in(stamp)  # another process may have renewed it while this one waited
            if self._good(record, rejected):
                return self._adopt(record, stamp)
            if record.expires_at is not None and record.access_token != rejected:
                self._adopt(record, stamp)  # what remains of it bridges a failing provider
            return self._refresh(record, rejected)

    def _signed_in(self, stamp: object) -> TokenRecord:
        record = self._store.load(self._key)
        if record and record.state == "ok":
            return record
        raise self._gone(record.reason if record else "not_signed_in", stamp)

    def _good(self, record: TokenRecord, rejected: str | None) -> bool:
        if record.state != "ok" or not record.access_token or record.access_token == rejected:
            return False
        return record.expires_at is None or record.expires_at - self._clock() > _window(record)

    def _refresh(self, record: TokenRecord, rejected: str | None) -> str:
        """Renew under the lock. The record is marked first: a killed process leaves a trace."""
        now, interrupted = self._clock(), record.attempt is not None
        marked = replace(record, attempt=now)
        if not record.refresh_token:
            reason = "token_rejected" if record.access_token == rejected else "expired"
            if reason == "token_rejected":  # one odd 401 ends no sign-in; a second within an hour does
                again = record.attempt is not None and now - record.attempt < 3600
                ended = replace(record, state="needs_login", reason=reason)
                self._store.save(self._key, ended if again else marked)
                self._fresh_until = float("-inf")
            raise LoginRequired("Invalid token: it was rejected or has expired, and cannot be renewed.", code=reason)
        self._store.save(self._key, marked)
        usable = record.access_token != rejected and (record.expires_at or 0) > now
        try:
            token = self._request(record, tries=1 if usable else 3)
        except LoginRequired as error:
            found = self._store.load(self._key)  # a writer that did not honour the lock may have won
            if found and found.refresh_token != record.refresh_token and self._good(found, rejected):
                return self._adopt(found, self._store.stamp(self._key))
            reason = "refresh_interrupted" if interrupted else error.code
            self._store.save(self._key, replace(record, state="needs_login", reason=reason))
            raise self._gone(reason, self._store.stamp(self._key)) from None
        except AuthError as error:
            if isinstance(error, ConfigError) or (isinstance(error, TransientAuthError) and not error.ambiguous):
                self._store.save(self._key, record)  # certainly not used: take the mark off
            raise
        renewed = ("access_token", "refresh_token", "expires_at", "scopes")
        fresh: dict[str, Any] = {name: getattr(token, name) for name in renewed}
        return self._keep(marked, replace(record, **fresh, obtained_at=self._clock(), attempt=None))

    def _request(self, record: TokenRecord, tries: int) -> OAuth2Token:
        attempt, ambiguous = 1, False
        while True:
            try:
                return asyncio.run(self._flow.refresh_token(record.refresh_token, record.token_url, record.token_auth))
            except TransientAuthError as error:
                # An unanswered request may have rotated the token: it is sent once more, no oftener.
                wait = error.retry_after if error.retry_after is not None else 2.0**attempt * self._jitter() / 2
                if attempt == tries or wait > 5 or (ambiguous and error.ambiguous):
                    raise
                attempt, ambiguous = attempt + 1, ambiguous or error.ambiguous
                self._sleep(wait)

    def _keep(self, before: TokenRecord, fresh: TokenRecord) -> str:
        """Save, then hand out. If the disk refuses, the new token lives on in memory, to be saved later."""
        if not self._store.durable and fresh.refresh_token != before.refresh_token and not self._warned:
            self._warned = True
            log.warning("the provider replaced the refresh token; REFRESH_TOKEN will not work again after a restart")
        self._last_error = ""
        try:
            self._store.save(self._key, fresh)
        except OSError:
            self._unsaved, self._last_error = (before, fresh), "store_write_failed"
            log.error("the renewed sign-in cannot be saved; it is kept in memory and tried again")
        return self._adopt(fresh, self._store.stamp(self._key))

    def _save_late(self, before: TokenRecord, fresh: TokenRecord) -> None:
        if self._store.load(self._key) == before:  # nobody signed in or out meanwhile
            self._store.save(self._key, fresh)
        self._unsaved, self._last_error = None, ""

    def _adopt(self, record: TokenRecord, stamp: object) -> str:
        """Take a record into memory. Within the process its expiry is running time: wall clocks jump."""
        now = self._monotonic()
        left = float("inf") if record.expires_at is None else record.expires_at - self._clock()
        window = _window(record) * (1 + 0.1 * self._jitter())  # replicas do not all renew in the same second
        self._expires_at = now + left
        self._dies_at = now + left - min(60.0, window / 2)
        self._renew_at = now + left - window
        self._token, self._stamp = record.access_token, stamp
        self._fresh_until = min(now + _LOOK, self._renew_at)
        return record.access_token

    def _gone(self, reason: str, stamp: object) -> LoginRequired:
        """Forget the token in memory, and say why there is none."""
        self._stamp, self._fresh_until, self._dies_at = stamp, float("-inf"), float("-inf")
        message = _REASONS.get(reason, f"The provider no longer accepts the sign-in ({reason}).")
        return LoginRequired(message, code=reason)


def _window(record: TokenRecord) -> float:
    """Seconds before expiry at which renewal begins: 5 minutes, or a fifth of a short life."""
    lifetime = 0.0 if record.expires_at is None else record.expires_at - record.obtained_at
    return min(300.0, max(0.0, lifetime) / 5)
