"""When a task is expected to start and to finish, and whether a deadline can be met. Plain arithmetic.

The completion time of task i is C_i = sum over j of P_ij x T_j, i itself included: T_j is the run time of task j, P_ij
the part of it that is expected to run before i ends. In a strict order P is 0 or 1; under slices and shares it follows
from the policy, see `ahead`. The sum is divided among the places of the workers that can run i: tasks fill them evenly,
each place from the moment on at which what runs there ends, and i starts when they are filled to one level.

Run times are learned with their mean absolute deviations. A sum of many is nearly normal, its variance is the sum of
theirs: p50 is the expectation, p90 lies 1.2816 standard deviations after it. Tasks that are submitted later are not
foreseen, although some policies let them overtake.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

from node.tasks.placement import TOLERANCE, Candidate, Resources

Z90: Final = 1.2816
"""The standard normal distribution is below this with a probability of 0.9."""
_SIGMA_OF_MAD: Final = math.sqrt(math.pi / 2)
"""Standard deviation of a normal distribution whose mean absolute deviation is 1."""


class Work(NamedTuple):
    """Waiting tasks together: how many, the sum of their expected run times, and of the variances of these."""

    tasks: float = 0.0
    total_ms: float = 0.0
    variance: float = 0.0  # ms^2

    def part(self, share: float) -> Work:
        """So many of them."""
        return Work(self.tasks * share, self.total_ms * share, self.variance * share)

    def up_to(self, each_ms: float) -> Work:
        """All of them, each cut to this length, as far as they are equal."""
        if self.total_ms <= each_ms * self.tasks:
            return self
        share = each_ms * self.tasks / self.total_ms
        return Work(self.tasks, self.total_ms * share, self.variance * share**2)

    def plus(self, other: Work) -> Work:
        """Both together."""
        return Work(self.tasks + other.tasks, self.total_ms + other.total_ms, self.variance + other.variance)


NOTHING: Final = Work()


class Busy(NamedTuple):
    """A running task: how much longer it is expected to run, 0 if it is late, and the variance of that."""

    left_ms: float
    variance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Tasks that wait beside the one in question; that one is not counted.

    `share` is the part of this lane's work that falls to the workers that can run that one, 1 if it is of their lane.
    """

    before: Work = NOTHING
    """Those that are ahead by key and number."""
    after: Work = NOTHING
    tenant: str = ""
    weight: float = 1.0
    virtual_ms: float = 0.0
    """What the tenant has used, as FAIR_SHARE ranks it."""
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """The task in question."""

    size_ms: float
    deviation_ms: float = 0.0
    """Standard deviation of its run time."""
    tenant: str = ""
    weight: float = 1.0
    virtual_ms: float = 0.0


class Span(NamedTuple):
    """A time from now on: as likely shorter as longer, and nine times in ten shorter."""

    p50_ms: int
    p90_ms: int


class Expected(NamedTuple):
    """What ExplainTask says of a task that waits."""

    start: Span
    finish: Span
    tasks_ahead: int
    work_ahead_ms: int


class Due(NamedTuple):
    """A task that is to be admitted."""

    deadline_ms: int
    size_ms: float
    earliest_ms: int  # it cannot start before


def deviation_ms(size_ms: float, learned_mad_ms: float | None) -> float:
    """The standard deviation of a run time, from what was learned of its type.

    Without that a run time is taken as exponential, which supposes nothing but its mean: the deviation is the mean.
    """
    return size_ms if learned_mad_ms is None else learned_mad_ms * _SIGMA_OF_MAD


def places(candidates: Iterable[Candidate], resources: Resources, limit: int) -> int:
    """How many tasks that take these resources can run at once at these workers; `limit`, unless 0, is the queue's."""
    total = 0
    for candidate in candidates:
        room = candidate.slots or max(1, candidate.held + candidate.credit)
        for name, amount in resources.items():
            room = min(room, int(candidate.capacity.total.get(name, 0.0) * (1 + TOLERANCE) / amount))
        total += room
    return min(total, limit) if limit else total


def share(theirs: Collection[str], own: Collection[str]) -> float:
    """The part of a lane's work, spread over its workers, that falls to those that can run a certain task."""
    return len(set(theirs) & set(own)) / len(theirs) if theirs else 0.0


def running(size_ms: float, deviation: float, elapsed_ms: float) -> Busy:
    """What is left of a task that has run so long; nothing of one that is late, but its end is as unsure as ever."""
    return Busy(max(0.0, size_ms - elapsed_ms), deviation**2)


def ahead(own: Own, lanes: Iterable[Lane], *, slice_ms: int | None, shared: bool) -> Work:
    """The waiting tasks that run before this one starts, each as far as it does: the sum of P_ij x T_j.

    - In a strict order, those that are before it.
    - Under slices, of those one slice each, at most.
    - Under shares, of its own tenant those that are before it. Of another tenant what starts earlier in virtual time:
      the task itself starts at that of its tenant plus the tenant's work before it, divided by its weight.
    """
    lanes = list(lanes)
    if shared:
        return _shared(own, lanes)
    parts = [lane.before.part(lane.share) for lane in lanes]
    return _sum(parts if slice_ms is None else [part.up_to(slice_ms) for part in parts])


def _shared(own: Own, lanes: Sequence[Lane]) -> Work:
    mine = [lane.before.part(lane.share) for lane in lanes if lane.tenant == own.tenant]
    start_virtual = own.virtual_ms + sum(work.total_ms for work in mine) / own.weight
    tenants: dict[str, list[Lane]] = {}
    for lane in lanes:
        if lane.tenant != own.tenant:
            tenants.setdefault(lane.tenant, []).append(lane)
    others = []
    for of_tenant in tenants.values():
        waiting = _sum(lane.before.plus(lane.after).part(lane.share) for lane in of_tenant)
        owed_ms = max(0.0, start_virtual - of_tenant[0].virtual_ms) * of_tenant[0].weight
        others.append(waiting.part(min(1.0, owed_ms / waiting.total_ms)) if waiting.total_ms else waiting)
    return _sum([*mine, *others])


def expected(
    own: Own,
    lanes: Iterable[Lane],
    *,
    slice_ms: int | None,
    shared: bool,
    places: int,
    busy: Sequence[Busy] = (),
    earliest_ms: float = 0.0,
) -> Expected:
    """When a task that waits starts and finishes, counted from now.

    `places` is how many tasks like it can run at once, `busy` what runs there now. It does not start before
    `earliest_ms`: its time, or what rate limits allow.
    """
    assert places > 0
    lanes = list(lanes)
    before = ahead(own, lanes, slice_ms=slice_ms, shared=shared)
    turns = busy if slice_ms is None else [Busy(min(left_ms, slice_ms)) for left_ms, _ in busy]
    start_ms, start_variance = _Places(places, turns).start(before)
    finish_ms, variance = start_ms + own.size_ms, start_variance + own.deviation_ms**2
    if slice_ms is not None:
        rivals = _rivals(own, lanes, busy)
        crowded_ms = (rivals.total_ms + own.size_ms) / places
        if crowded_ms > finish_ms:
            finish_ms, variance = crowded_ms, own.deviation_ms**2 + rivals.variance / places**2
    delay_ms = max(0.0, earliest_ms - start_ms)
    return Expected(
        start=_span(start_ms, start_variance, earliest_ms),
        finish=_span(finish_ms + delay_ms, variance, 0.0),
        tasks_ahead=round(before.tasks),
        work_ahead_ms=round(before.total_ms),
    )


def _rivals(own: Own, lanes: Iterable[Lane], busy: Iterable[Busy]) -> Work:
    """Under slices: what all others run until this one has run, each as long as it does, or to its end."""
    waiting = [lane.before.plus(lane.after).part(lane.share).up_to(own.size_ms) for lane in lanes]
    return _sum([*waiting, *(Work(1, one.left_ms, one.variance).up_to(own.size_ms) for one in busy)])


class _Places:
    """The places for a task and when they become free: work fills them from below, to one level.

    Of what workers have beyond their places, the tasks with most left count as work that waits.
    """

    def __init__(self, count: int, busy: Iterable[Busy]) -> None:
        by_end = sorted(busy)
        self._beyond = _sum(Work(1, left_ms, variance) for left_ms, variance in by_end[count:])
        self._free = [Busy(0.0)] * (count - len(by_end)) + by_end[:count]
        self._left_ms = [0.0, *accumulate(one.left_ms for one in self._free)]  # of the first so many
        self._variance = [0.0, *accumulate(one.variance for one in self._free)]
        # The work that fills the places before one up to the moment at which that one becomes free: it grows.
        self._below_ms = [
            one.left_ms * place - left_ms
            for place, (one, left_ms) in enumerate(zip(self._free, self._left_ms, strict=False))
        ]

    def start(self, before: Work) -> tuple[float, float]:
        """When a place is free after that work, from now, and the variance of that."""
        work = before.plus(self._beyond)
        filled = max(1, bisect_left(self._below_ms, work.total_ms))
        level_ms = (work.total_ms + self._left_ms[filled]) / filled
        first = math.ceil(work.tasks)
        if first < len(self._free) and self._free[first].left_ms <= level_ms:
            return self._free[first]  # those ahead take the places before
        return level_ms, (work.variance + self._variance[filled]) / filled**2


def _span(mean_ms: float, variance: float, least_ms: float) -> Span:
    p50_ms = max(mean_ms, least_ms)
    return Span(round(p50_ms), round(max(p50_ms, mean_ms + Z90 * math.sqrt(variance))))


def _sum(parts: Iterable[Work]) -> Work:
    total = NOTHING
    for part in parts:
        total = total.plus(part)
    return total


def infeasible(
    due: Sequence[Due],
    waiting: Callable[[int], Work],
    *,
    places: int,
    busy: Iterable[Busy] = (),
    now_ms: int,
) -> list[int]:
    """Which of these tasks, by index, are not expected to end by their deadlines if all of them are admitted.

    `waiting` says the work of those that wait already and have a certain deadline or an earlier one. Without a deadline
    (0) a task is never infeasible. What a task does to the deadlines of others is not looked at.
    """
    late, mine = [], NOTHING
    free = _Places(places, busy) if places else None
    with_deadline = [index for index, task in enumerate(due) if task.deadline_ms]
    for index in sorted(with_deadline, key=lambda index: due[index].deadline_ms):
        task = due[index]
        start_ms = free.start(waiting(task.deadline_ms).plus(mine))[0] if free else math.inf
        if max(now_ms + start_ms, task.earliest_ms) + task.size_ms > task.deadline_ms:
            late.append(index)
        mine = mine.plus(Work(1, task.size_ms))
    return sorted(late)
