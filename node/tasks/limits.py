"""How many tasks of a queue may run at once and how fast they may start, in all and for each key.

A task without a key (the empty one) is subject to the limits of the queue only.
"""

from __future__ import annotations

from typing import Final

from node.tasks.reasons import Reason
from taskraft.v1.queue_pb2 import RateLimit, Scheduling

_NS: Final = 1_000_000  # in a millisecond
_SWEEP_KEYS_MIN: Final = 1_024


class Concurrency:
    """Counts what runs. Limits of 0 are none; lowering one stops nothing, it is kept from then on."""

    __slots__ = ("_by_key", "_running", "limit", "per_key")

    def __init__(self, limit: int, per_key: int) -> None:
        """At most `limit` tasks at once, and `per_key` of each key."""
        self.limit, self.per_key = limit, per_key
        self._running = 0
        self._by_key: dict[str, int] = {}

    @property
    def room(self) -> bool:
        """True if the queue may start a task, of some key."""
        return not self.limit or self._running < self.limit

    def may_start(self, key: str) -> Reason | None:
        """None if a task of this key may start, else which limit stands in the way."""
        if self.limit and self._running >= self.limit:
            return Reason.CONCURRENCY_LIMIT
        if self.per_key and key and self._by_key.get(key, 0) >= self.per_key:
            return Reason.CONCURRENCY_LIMIT_KEY
        return None

    def started(self, key: str) -> None:
        """A task runs."""
        self._running += 1
        if key:
            self._by_key[key] = self._by_key.get(key, 0) + 1

    def ended(self, key: str) -> None:
        """A task that was started runs no more."""
        assert self._running > 0
        self._running -= 1
        if key:
            left = self._by_key[key] - 1
            if left:
                self._by_key[key] = left
            else:
                del self._by_key[key]


class Rate:
    """The generic cell rate algorithm, as virtual scheduling: ITU-T I.371 (03/2004), annex A.

    `_due_ns` is its theoretical arrival time: when the next task would start if they came evenly. The clock has whole
    milliseconds, so what is due within one may start at its beginning; lost to that is nothing. In any n successive
    milliseconds at most burst + n * per_second / 1000 tasks start.
    """

    __slots__ = ("_burst_ns", "_due_ns", "_step_ns")

    def __init__(self, per_second: float, burst: int, *, due_ns: int = 0) -> None:
        """Tasks per second above 0; `burst` of 0 is 1. `due_ns` is what another rate had come to."""
        assert per_second > 0
        self._step_ns = max(1, round(1_000 * _NS / per_second))
        self._burst_ns = (max(burst, 1) - 1) * self._step_ns
        self._due_ns = due_ns

    def delay_ms(self, now_ms: int) -> int:
        """How long until a task may start; 0: now."""
        return max(0, (self._due(now_ms) - self._burst_ns) // _NS - now_ms)

    def delay_after_ms(self, tasks: int, now_ms: int) -> int:
        """How long until a task may start before which so many others start as soon as they may."""
        ahead_ns = max(self._due(now_ms), now_ms * _NS) + tasks * self._step_ns
        return max(0, (ahead_ns - self._burst_ns) // _NS - now_ms)

    def take(self, now_ms: int) -> None:
        """A task starts, whether it may or not."""
        self._due_ns = max(self._due(now_ms), now_ms * _NS) + self._step_ns

    def is_recovered(self, now_ms: int) -> bool:
        """True if it is as good as new."""
        return self._due_ns <= now_ms * _NS

    def changed(self, per_second: float, burst: int) -> Rate:
        """With other settings from now on; what was used stays used, as far as they count it."""
        return Rate(per_second, burst, due_ns=self._due_ns)

    def _due(self, now_ms: int) -> int:
        """Not later than after a whole burst: only other settings, or tasks that might not start, lead beyond that."""
        return min(self._due_ns, (now_ms + 1) * _NS + self._burst_ns + self._step_ns)


class Rates:
    """The rate of a queue and those of its keys. Keys that have recovered are forgotten."""

    def __init__(self, settings: Scheduling) -> None:
        """By `rate` and `rate_per_key`; unset ones are no limits."""
        self._settings = settings
        self._rate = _rate(settings.rate)
        self._by_key: dict[str, Rate] = {}
        self._sweep_at = _SWEEP_KEYS_MIN

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._by_key)

    def delay_ms(self, now_ms: int) -> int:
        """How long until the queue may start a task; 0: now."""
        return self._rate.delay_ms(now_ms) if self._rate else 0

    def delay_after_ms(self, tasks: int, now_ms: int) -> int:
        """How long until the queue may start a task before which so many others start as soon as they may."""
        return self._rate.delay_after_ms(tasks, now_ms) if self._rate else 0

    def key_delay_ms(self, key: str, now_ms: int) -> int:
        """How long until a task of this key may start, as far as the key is concerned; 0: now."""
        rate = self._by_key.get(key)
        return rate.delay_ms(now_ms) if rate else 0

    def take(self, key: str, now_ms: int) -> None:
        """A task of this key starts."""
        if self._rate:
            self._rate.take(now_ms)
        if not key or not self._settings.rate_per_key.per_second:
            return
        rate = self._by_key.get(key)
        if rate is None:
            if len(self._by_key) >= self._sweep_at:
                self._sweep(now_ms)
            limit = self._settings.rate_per_key
            rate = self._by_key[key] = Rate(limit.per_second, limit.burst)
        rate.take(now_ms)

    def changed(self, settings: Scheduling) -> Rates:
        """With other settings from now on; what was used stays used."""
        other = Rates(settings)
        if self._rate and other._rate:
            other._rate = self._rate.changed(settings.rate.per_second, settings.rate.burst)
        limit = settings.rate_per_key
        if limit.per_second:
            other._by_key = {
                key: rate.changed(limit.per_second, limit.burst) for key, rate in self._by_key.items()
            }
        return other

    def _sweep(self, now_ms: int) -> None:
        self._by_key = {key: rate for key, rate in self._by_key.items() if not rate.is_recovered(now_ms)}
        self._sweep_at = max(_SWEEP_KEYS_MIN, 2 * len(self._by_key))


def _rate(limit: RateLimit) -> Rate | None:
    return Rate(limit.per_second, limit.burst) if limit.per_second else None
