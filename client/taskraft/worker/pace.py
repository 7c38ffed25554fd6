"""How many tasks to have in hand: enough to be busy while more are on their way, and no more.

A kind of task (run by threads, by the loop or by processes) has slots. With `t` the turnaround (from giving credit to
having the task, taken as the time that the broker needs to commit) and `m` the mean run time, `slots * t / m` tasks are
run while more are fetched (Little's law). Twice that is kept, since credit is given in portions of a quarter:

    in hand = slots * (1 + 2 * t / m)

Tasks that take long are therefore never hoarded: for them it is the slots. No I/O and no clock here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TURNAROUND_FIRST_S = 0.01  # until it was measured
TURNAROUND_MAX_S = 1.0  # a broker in trouble is no reason to hoard
TURNAROUND_MARGIN = 2  # see above
PAYLOAD_BYTES_MAX = 64 << 20  # of all that waits here, as far as earlier payloads tell
WEIGHT = 1 / 8  # of the newest in a mean, as in TCP's estimate of a round trip
SHARE_MIN = 0.01  # a kind that comes more rarely does not hold back the others
HOARD_S = 1.0  # work that would wait here for longer is handed back


class Kind:
    """What is known of the tasks of one kind: means are over the last dozens."""

    __slots__ = ("mean_s", "share", "slots")

    def __init__(self, slots: int, share: float) -> None:
        assert slots > 0
        self.slots = slots
        self.share = share  # of the tasks that come
        self.mean_s: float | None = None  # of their run times


class Pace:
    """Decides how much credit to give and when waiting work is too much. Use: one worker, one thread."""

    def __init__(self, slots: Mapping[str, int], prefetch_max: int) -> None:
        assert slots
        self.kinds = {name: Kind(count, 1 / len(slots)) for name, count in slots.items()}
        self.prefetch_max = prefetch_max
        self.turnaround_s = TURNAROUND_FIRST_S
        self._payload_bytes = 0.0
        self._slice_s = 0.0  # of the last tasks; 0: they have none

    def arrived(self, counts: Mapping[str, int], payload_bytes: int, slice_s: float) -> None:
        """So many tasks of each kind came, with payloads of so many bytes in all; a slice begins when a task arrives."""
        total = sum(counts.values())
        if not total:
            return
        self._slice_s = slice_s
        keep = (1 - WEIGHT) ** min(total, 8)
        for name, kind in self.kinds.items():
            kind.share = kind.share * keep + (1 - keep) * counts.get(name, 0) / total
        self._payload_bytes = self._payload_bytes * keep + (1 - keep) * payload_bytes / total

    def ran(self, name: str, count: int, run_s: float) -> None:
        """So many tasks of a kind ran for so long in all."""
        kind = self.kinds[name]
        if kind.mean_s is None:
            kind.mean_s = run_s / count
        else:
            kind.mean_s += (run_s / count - kind.mean_s) * (1 - (1 - WEIGHT) ** min(count, 64))

    def runs_for(self, name: str, elapsed_s: float) -> None:
        """All slots have been at their tasks for so long already: the mean is at least that."""
        kind = self.kinds[name]
        if kind.mean_s is not None and elapsed_s > kind.mean_s:
            kind.mean_s = elapsed_s

    def target(self, name: str) -> int:
        """How many tasks of this kind to have in hand."""
        kind = self.kinds[name]
        if kind.mean_s is None:
            return kind.slots
        turnaround_s = TURNAROUND_MARGIN * min(self.turnaround_s, TURNAROUND_MAX_S)
        ahead = kind.slots * turnaround_s / max(kind.mean_s, 1e-6)
        most = self.prefetch_max
        if self._payload_bytes * most > PAYLOAD_BYTES_MAX:
            most = int(PAYLOAD_BYTES_MAX / self._payload_bytes)
        if self._slice_s:  # what waits here is to begin in the first half of its slice
            ahead = min(ahead, kind.slots * self._slice_s / 2 / max(kind.mean_s, 1e-6))
        return kind.slots + round(min(ahead, most))

    def room(self, in_hand: Mapping[str, int], credit: int) -> int:
        """How many more tasks to ask for, when so many of each kind are here and `credit` was not used yet.

        Nobody knows of which kind the next ones are: they are expected to come as the last ones did. If one kind is
        full while another has free slots, some more are taken until the free slots get theirs.
        """
        idle = [name for name, kind in self.kinds.items() if in_hand[name] < kind.slots]
        room, portion = float("inf"), 1
        for name, kind in self.kinds.items():
            target = self.target(name)
            portion = max(portion, (target - kind.slots) // 4)
            if kind.share < SHARE_MIN and name not in idle:
                continue
            if any(other != name for other in idle):
                target += kind.slots
            room = min(room, (target - in_hand[name]) / max(kind.share, SHARE_MIN))
        more = int(room) - credit
        return more if more >= (1 if idle else portion) and more > 0 else 0

    def excess(self, name: str, waiting: int) -> int:
        """How many of those that wait here will not start soon enough: others may have them."""
        kind = self.kinds[name]
        if kind.mean_s is None or waiting * kind.mean_s <= HOARD_S * kind.slots:
            return 0
        return max(0, waiting - max(kind.slots, int(HOARD_S * kind.slots / kind.mean_s)))

    def load(self, running: Mapping[str, int], waiting: Mapping[str, int]) -> float:
        """Busy slots, and seconds of work that wait, each per slot; of the kind that is busiest."""
        return max(self._loads(running, waiting), default=0.0)

    def _loads(self, running: Mapping[str, int], waiting: Mapping[str, int]) -> Iterable[float]:
        for name, kind in self.kinds.items():
            yield (running[name] + waiting[name] * (kind.mean_s or 0.0)) / kind.slots
