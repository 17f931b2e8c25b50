"""A token in memory, and how long it lasts. Frozen, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from .records import TokenRecord


@dataclass(frozen=True)
class Clocks:
    """What two clocks say at one moment, in seconds: running time, and what time it is (since the epoch).

    Neither is enough. Running time stands still while a laptop sleeps; what time it is jumps when the clock is set.
    """

    running: float
    wall: float


@dataclass(frozen=True)
class HeldToken:
    """An access token and its end on both clocks. It is over when either of them says so.

    `stamp` is the store's for the record that it comes from. `window` is how many seconds before the end it is renewed.
    """

    access_token: str = field(default="", repr=False)
    expires_at: float | None = None
    stamp: object = None
    end: Clocks = Clocks(float("-inf"), float("-inf"))
    window: float = 0.0

    @classmethod
    def of(cls, record: TokenRecord, stamp: object, now: Clocks, jitter: float) -> HeldToken:
        """Take a record into memory. `jitter`, from 0 to 1, keeps replicas from all renewing in the same second."""
        left = seconds_left(record, now.wall)
        end = Clocks(now.running + left, now.wall + left)
        window = window_of(record) * (1 - 0.1 * jitter)
        return cls(record.access_token, record.expires_at, stamp, end, window)

    def is_of(self, record: TokenRecord) -> bool:
        """Whether it came from this record, whatever else of the record changed since."""
        return (self.access_token, self.expires_at) == (record.access_token, record.expires_at)

    @property
    def margin(self) -> float:
        """Seconds before the end from which on it is not given to a new request."""
        return min(60.0, self.window / 2)

    def left(self, now: Clocks) -> float:
        """Seconds until its end; 0 or less when it is over."""
        return min(self.end.running - now.running, self.end.wall - now.wall)


NO_TOKEN = HeldToken()


def seconds_left(record: TokenRecord, wall: float) -> float:
    """Seconds until the record's token ends: infinite where nobody said, never more than its whole life."""
    if record.expires_at is None:
        return float("inf")
    left = record.expires_at - wall
    if record.obtained_at:  # a clock that was set back must not make it younger than new
        left = min(left, record.expires_at - record.obtained_at)
    return left


def window_of(record: TokenRecord) -> float:
    """Seconds before its end at which renewal begins: 5 minutes, or a fifth of a short life."""
    lifetime = 0.0 if record.expires_at is None else record.expires_at - record.obtained_at
    return min(300.0, max(0.0, lifetime) / 5)
