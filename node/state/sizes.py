"""How long tasks run, learned from those that succeeded: per type and for a queue as a whole.

Mean and mean absolute deviation, as TCP estimates round-trip times (Jacobson, Congestion Avoidance and Control, 1988):
plain means of the first 8, then each new one weighs an eighth. The first deviation is half of the first length, as in
RFC 6298.
"""

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
class Sizes:
    """The sizes of the queues that the batch in hand has asked for; those it has changed are written at its end."""

    store: Store
    _queues: dict[int, dict[str, tuple[Size, int]]] = field(default_factory=dict)  # with its time
    _changed: set[tuple[int, str]] = field(default_factory=set)

    def expected_ms(self, queue_id: int, kind: str) -> int:
        """How long a task of that type is expected to run."""
        known = self._of(queue_id)
        found = known.get(kind) or known.get(_ALL)
        return max(1, round(found[0].mean_ms)) if found else UNKNOWN_MS

    def of_queue(self, queue_id: int) -> dict[str, Size]:
        """What is known, by type; the empty one stands for all types."""
        return {kind: size for kind, (size, _) in self._of(queue_id).items()}

    def learn(self, queue_id: int, kind: str, run_ms: int, time_ms: int) -> None:
        """A task of that type has run for so long."""
        known = self._of(queue_id)
        for name in (kind, _ALL):
            if name not in known and len(known) > limits.TASK_TYPES_LEARNED_MAX:
                self._evict(queue_id, known)
            known[name] = (_next(known[name][0] if name in known else None, run_ms), time_ms)
            self._changed.add((queue_id, name))

    def _evict(self, queue_id: int, known: dict[str, tuple[Size, int]]) -> None:
        """Forget the types that were seen longest ago."""
        oldest = sorted((time_ms, kind) for kind, (_, time_ms) in known.items() if kind != _ALL)
        for _, kind in oldest[: len(oldest) // _EVICTED_OF]:
            del known[kind]
            self._changed.discard((queue_id, kind))
            self.store.execute("DELETE FROM task_sizes WHERE queue_id = ? AND type = ?", (queue_id, kind))

    def _of(self, queue_id: int) -> dict[str, tuple[Size, int]]:
        known = self._queues.get(queue_id)
        if known is None:
            rows = self.store.execute(
                "SELECT type, count, mean_ms, deviation_ms, time_ms FROM task_sizes WHERE queue_id = ?",
                (queue_id,),
            )
            known = self._queues[queue_id] = {row[0]: (Size(*row[1:4]), row[4]) for row in rows}
        return known

    def drop(self, queue_id: int) -> None:
        """The queue is gone."""
        self._queues.pop(queue_id, None)
        self._changed = {changed for changed in self._changed if changed[0] != queue_id}
        self.store.execute("DELETE FROM task_sizes WHERE queue_id = ?", (queue_id,))

    def write_back(self) -> None:
        if self._changed:
            self.store.connection.executemany(
                "INSERT OR REPLACE INTO task_sizes VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (queue_id, kind, *self._queues[queue_id][kind][0], self._queues[queue_id][kind][1])
                    for queue_id, kind in sorted(self._changed)
                ],
            )
            self._changed.clear()

    def forget(self) -> None:
        self._queues.clear()
        self._changed.clear()


def _next(size: Size | None, run_ms: int) -> Size:
    if size is None:
        return Size(1, float(run_ms), run_ms / 2)
    count = size.count + 1
    weight = 1 / min(count, _GAIN_OF)
    error = run_ms - size.mean_ms
    return Size(
        count,
        size.mean_ms + weight * error,
        size.deviation_ms + weight * (abs(error) - size.deviation_ms),
    )
