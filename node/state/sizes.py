"""How long tasks run, learned from those that succeeded: per type and for a queue as a whole.

Mean and mean absolute deviation, as TCP estimates round-trip times (Jacobson, Congestion Avoidance and Control, 1988):
plain means of the first 8, then each new one weighs an eighth. The first deviation is half of the first length, as in
RFC 6298.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from node import limits
from node.state.store import Store
from node.state.task_rows import Size

UNKNOWN_MS: Final = 1_000
"""The expected run time of a task of which nothing is known."""

_GAIN_OF: Final = 8
_ALL: Final = ""  # no type has this name
_EVICTED_OF: Final = 4  # this part of the types makes room at once


@dataclass(slots=True)
class _Learned:
    """A Size that changes, and when it last did."""

    count: int
    mean_ms: float
    deviation_ms: float
    time_ms: int

    def learn(self, runs_ms: Iterable[int], time_ms: int) -> None:
        count, mean_ms, deviation_ms = self.count, self.mean_ms, self.deviation_ms
        for run_ms in runs_ms:
            count += 1
            weight = 1 / count if count < _GAIN_OF else 1 / _GAIN_OF
            error_ms = run_ms - mean_ms
            mean_ms += weight * error_ms
            deviation_ms += weight * (abs(error_ms) - deviation_ms)
        self.count, self.mean_ms, self.deviation_ms, self.time_ms = count, mean_ms, deviation_ms, time_ms


@dataclass(slots=True)
class Sizes:
    """The sizes of the queues that the batch in hand has asked for; those it has changed are written at its end."""

    store: Store
    _queues: dict[int, dict[str, _Learned]] = field(default_factory=dict)
    _changed: set[tuple[int, str]] = field(default_factory=set)

    def expected_ms(self, queue_id: int, kind: str) -> int:
        """How long a task of that type is expected to run."""
        known = self._of(queue_id)
        found = known.get(kind) or known.get(_ALL)
        return max(1, round(found.mean_ms)) if found else UNKNOWN_MS

    def of_queue(self, queue_id: int) -> dict[str, Size]:
        """What is known, by type; the empty one stands for all types."""
        return {
            kind: Size(one.count, one.mean_ms, one.deviation_ms) for kind, one in self._of(queue_id).items()
        }

    def learn(self, queue_id: int, kind: str, runs_ms: Sequence[int], time_ms: int) -> None:
        """Tasks of that type, at least one, have run for so long."""
        known = self._of(queue_id)
        for name in (kind, _ALL):
            one = known.get(name)
            if one is None:
                if len(known) > limits.TASK_TYPES_LEARNED_MAX:
                    self._evict(queue_id, known)
                one = known[name] = _Learned(1, float(runs_ms[0]), runs_ms[0] / 2, time_ms)
                one.learn(runs_ms[1:], time_ms)
            else:
                one.learn(runs_ms, time_ms)
            self._changed.add((queue_id, name))

    def _evict(self, queue_id: int, known: dict[str, _Learned]) -> None:
        """Forget the types that were seen longest ago."""
        oldest = sorted((one.time_ms, kind) for kind, one in known.items() if kind != _ALL)
        for _, kind in oldest[: len(oldest) // _EVICTED_OF]:
            del known[kind]
            self._changed.discard((queue_id, kind))
            self.store.execute("DELETE FROM task_sizes WHERE queue_id = ? AND type = ?", (queue_id, kind))

    def _of(self, queue_id: int) -> dict[str, _Learned]:
        known = self._queues.get(queue_id)
        if known is None:
            rows = self.store.execute(
                "SELECT type, count, mean_ms, deviation_ms, time_ms FROM task_sizes WHERE queue_id = ?",
                (queue_id,),
            )
            known = self._queues[queue_id] = {kind: _Learned(*rest) for kind, *rest in rows}
        return known

    def drop(self, queue_id: int) -> None:
        """The queue is gone."""
        self._queues.pop(queue_id, None)
        self._changed = {changed for changed in self._changed if changed[0] != queue_id}
        self.store.execute("DELETE FROM task_sizes WHERE queue_id = ?", (queue_id,))

    def write_back(self) -> None:
        """Write what has changed."""
        if self._changed:
            changed = [(*place, self._queues[place[0]][place[1]]) for place in sorted(self._changed)]
            self.store.connection.executemany(
                "INSERT OR REPLACE INTO task_sizes VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (queue_id, kind, one.count, one.mean_ms, one.deviation_ms, one.time_ms)
                    for queue_id, kind, one in changed
                ],
            )
            self._changed.clear()

    def forget(self) -> None:
        """Drop everything that is remembered of the table."""
        self._queues.clear()
        self._changed.clear()
