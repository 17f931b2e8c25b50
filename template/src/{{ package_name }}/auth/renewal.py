"""One renewal under the store's lock: look, mark, ask, save. Blocks; starts no thread.

Once a provider has rotated a refresh token, the answer on the wire is the only copy of it: it is saved before anything
else is done with it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from .errors import AuthError, ConfigError, LoginRequired, ProtocolError, TransientAuthError
from .held_token import NO_TOKEN, Clocks, HeldToken, seconds_left, window_of
from .oauth2 import OAuth2Flow
from .records import RecordKey, TokenRecord
from .responses import OAuth2Token
from .transport import DEADLINE

if TYPE_CHECKING:
    from .storage import Store

log = logging.getLogger(__name__)

_TRIES = 3
_LONGEST_PAUSE = 5.0  # seconds between two tries; a provider that asks for more is asked later
# How long a renewal may hold the lock, in seconds: its tries, the pauses between them, one look at the metadata.
LONGEST = _TRIES * DEADLINE + (_TRIES - 1) * _LONGEST_PAUSE + DEADLINE
# How long one that has asked may take to its end when no other try follows: the answer, and saving it.
LONGEST_TO_END = DEADLINE + 5.0

_JUST = 300.0  # seconds for which a renewed token is not renewed again because the API answers 401
_NOT_RENEWABLE = "Invalid token: it was rejected or has expired, and cannot be renewed."
REASONS = {
    "not_signed_in": "Not signed in.",
    "refresh_interrupted": "The sign-in was lost: an earlier renewal was interrupted before its answer could be saved.",
    "endpoints_changed": "The provider's token endpoint changed since the sign-in.",
    "endpoint_gone": "The provider's token endpoint no longer answers as one; it may have moved since the sign-in.",
}
# They last as long as the provider's trouble does. The sign-in itself is kept, and tried again.
TROUBLES = ("endpoints_changed", "endpoint_gone")


class Renewal:
    """Renews one record. `held` is the token in memory, `unsaved` what the disk refused: the old and the new record.

    `now` reads both clocks, `sleep` takes seconds, `jitter` gives a number from 0 to 1. Once `ending` is set, nothing
    more is asked of the provider; while `asking`, an answer may be on its way that must not be lost.
    """

    def __init__(
        self,
        flow: OAuth2Flow,
        store: Store,
        key: RecordKey,
        now: Callable[[], Clocks],
        sleep: Callable[[float], None],
        jitter: Callable[[], float],
    ) -> None:
        self._flow = flow
        self._store = store
        self._key = key
        self._now = now
        self._sleep = sleep
        self._jitter = jitter
        self._warned = False
        self.held: HeldToken = NO_TOKEN
        self.unsaved: tuple[TokenRecord, TokenRecord] | None = None
        self.last_error = ""
        self.ending = threading.Event()
        self.asking = False

    def run(self, rejected: str | None = None, *, questioned: bool = False) -> str:
        """Return a good token other than `rejected`.

        With `questioned`, the API's 401 is a question and not a verdict: `rejected` itself is returned where a renewal
        would not help. Raises LoginRequired, TransientAuthError or another AuthError, or OSError.
        """
        if self.unsaved is None:
            record, stamp = self._look()
            if self._good(record, rejected):
                return self._adopt(record, stamp)
            if questioned and record.access_token == rejected and not record.refresh_token:
                return self._ask_about(record)
        with self._store.lock(self._key):
            self._save_late()
            record, stamp = self._look()  # another process may have renewed it while this one waited
            if self._good(record, rejected):
                return self._adopt(record, stamp)
            if questioned and record.access_token == rejected and self._just_renewed(record):
                return rejected
            if record.expires_at is not None and record.access_token != rejected:
                self._adopt(record, stamp)  # what remains of it bridges a failing provider
            return self._renew(record, rejected)

    def save_late(self, wait: float) -> None:
        """Try once more to save what the disk refused. Waits at most `wait` seconds for the lock."""
        if self.unsaved is not None:
            with self._store.lock(self._key, wait):
                self._save_late()

    # -- what is stored

    def _look(self) -> tuple[TokenRecord, object]:
        stamp = self._store.stamp(self._key)
        try:
            record = self._store.load(self._key)
        except Exception:
            if stamp != self.held.stamp:  # perhaps somebody else's by now: what is held says nothing of it
                self.held = NO_TOKEN
            raise
        if record is None:
            raise self._gone("not_signed_in")
        if record.state != "ok":
            raise self._gone(record.reason)
        return record, stamp

    def _good(self, record: TokenRecord, rejected: str | None) -> bool:
        if not record.access_token or record.access_token == rejected:
            return False
        return self._left(record) > window_of(record)

    def _left(self, record: TokenRecord) -> float:
        """Seconds of the record's token. Of one that this process holds, running time tells, too."""
        now = self._now()
        left = seconds_left(record, now.wall)
        return min(left, self.held.left(now)) if self.held.is_of(record) else left

    def _just_renewed(self, record: TokenRecord) -> bool:
        age = self._now().wall - record.obtained_at
        return record.renewed and 0 <= age < _JUST and self._left(record) > 0

    def _adopt(self, record: TokenRecord, stamp: object) -> str:
        """Take a record into memory. One that is held already gets no younger."""
        if self.held.is_of(record):
            self.held = replace(self.held, stamp=stamp)
        else:
            self.held = HeldToken.of(record, stamp, self._now(), self._jitter())
        if not record.trouble and self.unsaved is None:
            self.last_error = ""
        return record.access_token

    def _save(self, record: TokenRecord) -> None:
        """Save under the lock. Our own marks are no news to us."""
        self._store.save(self._key, record)
        if self.held.is_of(record):
            self.held = replace(self.held, stamp=self._store.stamp(self._key))

    def _save_late(self) -> None:
        if self.unsaved is None:
            return
        before, fresh = self.unsaved
        if self._store.load(self._key) == before:  # nobody signed in or out meanwhile
            self._store.save(self._key, fresh)
        self.unsaved = None

    def _gone(self, reason: str) -> LoginRequired:
        """Forget the token in memory, and say why there is none."""
        self.held = NO_TOKEN
        message = REASONS.get(reason, f"The provider no longer accepts the sign-in ({reason}).")
        return LoginRequired(message, code=reason)

    # -- what the provider says

    def _ask_about(self, record: TokenRecord) -> str:
        """Believe the API's 401 only if the provider says the same: this token cannot be renewed."""
        if not asyncio.run(self._flow.rejects(record.access_token, record.userinfo_url, record.token_url)):
            return record.access_token
        with self._store.lock(self._key):
            if self._store.load(self._key) == record:
                self._store.save(self._key, replace(record, state="needs_login", reason="token_rejected"))
                self.held = NO_TOKEN
                raise LoginRequired(_NOT_RENEWABLE, code="token_rejected")
        return self.run(record.access_token)  # somebody signed in or out meanwhile

    def _renew(self, record: TokenRecord, rejected: str | None) -> str:
        """Renew under the lock. The record is marked first: a killed process leaves a trace."""
        if not record.refresh_token:
            reason = "token_rejected" if record.access_token == rejected else "expired"
            raise LoginRequired(_NOT_RENEWABLE, code=reason)
        now = self._now().wall
        marked = replace(record, attempt=now)
        usable = record.access_token != rejected and self._left(record) > 0
        self.asking = True
        try:
            if self.ending.is_set():
                raise TransientAuthError("The server is stopping. Try again later.", code="stopping")
            self._save(marked)
            try:
                token = self._ask(record, tries=1 if usable and record.expires_at is not None else _TRIES)
            except LoginRequired as error:
                return self._refused(record, rejected, error)
            except AuthError as error:
                self._unanswered(record, marked, error)
                raise
            fresh = replace(
                record,
                access_token=token.access_token,
                refresh_token=token.refresh_token,
                expires_at=token.expires_at,
                scopes=token.scopes,
                obtained_at=self._now().wall,
                renewed=True,
                attempt=None,
                trouble="",
            )
            return self._keep(marked, fresh)
        finally:
            self.asking = False

    def _ask(self, record: TokenRecord, tries: int) -> OAuth2Token:
        attempt = 1
        ambiguous = False
        while True:
            try:
                return self._exchange(record)
            except TransientAuthError as error:
                # An unanswered request may have rotated the token: it is sent once more, no oftener.
                wait = error.retry_after if error.retry_after is not None else 2.0**attempt * self._jitter() / 2
                if attempt == tries or wait > _LONGEST_PAUSE or (ambiguous and error.ambiguous):
                    raise
                self._sleep(wait)
                if self.ending.is_set():
                    raise
                attempt += 1
                ambiguous = ambiguous or error.ambiguous

    def _exchange(self, record: TokenRecord) -> OAuth2Token:
        answers: list[OAuth2Token] = []

        async def ask() -> None:
            answers.append(await self._flow.refresh_token(record.refresh_token, record.token_url, record.token_auth))

        try:
            asyncio.run(ask())
        except Exception:
            if not answers:  # trouble of the event loop while it closes must not cost the answer
                raise
        return answers[0]

    def _refused(self, record: TokenRecord, rejected: str | None, error: LoginRequired) -> str:
        if error.code == "endpoints_changed":  # nothing was asked
            self._save(replace(record, trouble=error.code))
            raise LoginRequired(REASONS[error.code], code=error.code) from None
        found = self._store.load(self._key)  # a writer that did not honour the lock may have won
        if found and found.refresh_token != record.refresh_token and self._good(found, rejected):
            return self._adopt(found, self._store.stamp(self._key))
        reason = error.code if record.attempt is None else "refresh_interrupted"
        self._store.save(self._key, replace(record, state="needs_login", reason=reason))
        raise self._gone(reason) from None

    def _unanswered(self, record: TokenRecord, marked: TokenRecord, error: AuthError) -> None:
        """Note what a failed exchange left behind. Raises LoginRequired where a new sign-in is the way out."""
        unused = isinstance(error, ConfigError) or (isinstance(error, TransientAuthError) and not error.ambiguous)
        unused = unused or error.code.startswith(("http_3", "http_4"))
        trouble = record.trouble
        if isinstance(error, ConfigError):
            trouble = ""  # it answers as a token endpoint does
        elif self._moved(record):
            trouble = "endpoints_changed"
        elif isinstance(error, ProtocolError):
            trouble = "endpoint_gone" if trouble else error.code
        after = replace(record if unused else marked, trouble=trouble)
        if after != marked:
            self._save(after)
        if trouble in TROUBLES and (trouble == "endpoints_changed" or isinstance(error, ProtocolError)):
            log.warning("token renewal failed: %s", error.code)  # what is raised tells the outcome only
            raise LoginRequired(REASONS[trouble], code=trouble) from None

    def _moved(self, record: TokenRecord) -> bool:
        """Whether the issuer names another token endpoint by now. The token itself never goes there without a sign-in."""
        if self.ending.is_set() or not record.token_url:
            return False
        return asyncio.run(self._flow.moved_from(record.token_url))

    def _keep(self, before: TokenRecord, fresh: TokenRecord) -> str:
        """Save, then hand out. If the disk refuses, the new token lives on in memory, to be saved later."""
        if not self._store.durable and fresh.refresh_token != before.refresh_token and not self._warned:
            self._warned = True
            log.warning("the provider replaced the refresh token; REFRESH_TOKEN will not work again after a restart")
        try:
            self._store.save(self._key, fresh)
        except (AuthError, OSError):  # a full disk, or a folder that others may open by now
            self.unsaved = (before, fresh)
            self.last_error = "store_write_failed"
            log.error("the renewed sign-in cannot be saved; it is kept in memory and tried again")
        return self._adopt(fresh, self._store.stamp(self._key))
