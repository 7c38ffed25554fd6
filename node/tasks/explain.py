"""Why a task does not run: obstacles, as ExplainTask tells them. Plain values in, messages out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from node.tasks.limits import Concurrency, Rates
from node.tasks.placement import Candidate, Demand, Resources, can_ever_run
from node.tasks.reasons import Reason
from node.tasks.reservations import Reservations
from taskraft.v1 import task_pb2

_LACKS: Final = (Reason.NO_WORKER_FOR_TYPE, Reason.WORKER_LABELS, Reason.RESOURCES)
"""What a worker may lack, in the order in which `can_ever_run` looks at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A task that is to be explained, and what it depends on. Lists are as of this moment."""

    state: int
    """Its TaskState."""
    number: int
    queue_id: int
    demand: Demand
    limit_key: str
    size_ms: int
    attempt: int = 0
    due_ms: int = 0
    """Wall clock: when a DELAYED task becomes ready, or a BLOCKED one may at the earliest; 0 if that is not said."""
    open_tasks: int = 0
    """How many tasks it still waits for."""
    open_names: Sequence[str] = ()
    """The first few of them."""
    tasks_ahead: int = 0
    paused: bool = False
    """Its queue is."""
    workers: Sequence[Candidate] = ()
    """Those that are connected and take tasks of its queue, whether they have credit now or not."""


def obstacles(
    case: Case,
    *,
    concurrency: Concurrency,
    rates: Rates,
    reservations: Reservations,
    now_ms: int,
    wall_ms: int,
) -> list[task_pb2.Obstacle]:
    """Why a task does not run now, most important first; empty if it runs, has ended, or is about to start.

    What would stand in the way of a task that is not ready yet is told too, unless it changes with every task that
    starts or ends. `now_ms` is on the clock of rates and reservations.
    """
    if case.state not in _WAITS:
        return []
    matched = [one for one in case.workers if can_ever_run(one, case.demand) is None]
    found = [*_WAITS[case.state](case, wall_ms)]
    if case.paused:
        found.append(_obstacle(Reason.QUEUE_PAUSED, "its queue is paused"))
    if not matched:
        found.append(_unmatched(case))
    if case.state == task_pb2.TASK_STATE_QUEUED:
        found += _limited(case, concurrency, rates, now_ms, wall_ms)
        if matched:
            found += _busy(case, matched, reservations, now_ms)
        if case.tasks_ahead:
            text = f"{_count(case.tasks_ahead, 'task')} of its queue come first"
            found.append(_obstacle(Reason.BEHIND_OTHERS, text, tasks=case.tasks_ahead))
    return found


def silent(worker_id: str, left_ms: int) -> task_pb2.Obstacle:
    """Of a task that was given to a worker of which nothing is heard: its lease ends in `left_ms`, unless it comes back."""
    then = f"in {max(1, round(left_ms / 1_000))} s" if left_ms > 0 else "now"
    text = f"its worker {worker_id} is not heard of; if it stays away, the task goes to another one {then}"
    return _obstacle(Reason.WORKER_SILENT, text, worker=worker_id, left_ms=max(0, left_ms))


def _obstacle(reason: Reason, message: str, **metadata: object) -> task_pb2.Obstacle:
    said = {name: _said(value) for name, value in metadata.items()}
    return task_pb2.Obstacle(reason=reason, message=message, metadata=said)


def _said(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _time(wall_ms: int) -> str:
    moment = datetime.fromtimestamp(wall_ms / 1_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Not ready ------------------------------------------------------------------------------------------------------------


def _ready(case: Case, wall_ms: int) -> Iterable[task_pb2.Obstacle]:
    return ()


def _blocked(case: Case, wall_ms: int) -> Iterable[task_pb2.Obstacle]:
    named = ", ".join(case.open_names)
    more = case.open_tasks - len(case.open_names)
    others = f" and {_count(more, 'more task' if named else 'task')}" if more > 0 else ""
    text = f"it waits for {(named + others).removeprefix(' and ')}"
    first = {"task": case.open_names[0]} if case.open_names else {}
    yield _obstacle(Reason.DEPENDENCY, text, tasks=case.open_tasks, **first)
    if case.due_ms > wall_ms:
        yield _not_before(case)


def _delayed(case: Case, wall_ms: int) -> Iterable[task_pb2.Obstacle]:
    if not case.attempt:
        return (_not_before(case),)
    text = f"attempt {case.attempt} failed, and the next one is due at {_time(case.due_ms)}"
    return (_obstacle(Reason.BACKOFF, text, attempt=case.attempt, time=_time(case.due_ms)),)


def _not_before(case: Case) -> task_pb2.Obstacle:
    time = _time(case.due_ms)
    return _obstacle(Reason.NOT_BEFORE, f"it is not to start before {time}", time=time)


_WAITS: Final[dict[int, Callable[[Case, int], Iterable[task_pb2.Obstacle]]]] = {
    task_pb2.TASK_STATE_QUEUED: _ready,
    task_pb2.TASK_STATE_BLOCKED: _blocked,
    task_pb2.TASK_STATE_DELAYED: _delayed,
}


# No worker for it -----------------------------------------------------------------------------------------------------


def _unmatched(case: Case) -> task_pb2.Obstacle:
    """What is missing at the workers that come nearest."""
    if not case.workers:
        return _obstacle(Reason.NO_WORKER, "no worker that takes tasks of its queue is connected")
    lacks = [(can_ever_run(one, case.demand), one) for one in case.workers]
    least = max((lack for lack, _ in lacks if lack is not None), key=_LACKS.index)
    nearest = [one for lack, one in lacks if lack is least]
    if least is Reason.NO_WORKER_FOR_TYPE:
        return _obstacle(least, f"no worker runs tasks of type {case.demand.type}", type=case.demand.type)
    if least is Reason.WORKER_LABELS:
        return _labels(case, nearest)
    return _resources(case.demand.resources, nearest)


def _labels(case: Case, nearest: Sequence[Candidate]) -> task_pb2.Obstacle:
    asked = case.demand.worker_labels
    missing = [[name for name in sorted(asked) if one.labels.get(name) != asked[name]] for one in nearest]
    label = ", ".join(f"{name}={asked[name]}" for name in min(missing, key=len))
    return _obstacle(Reason.WORKER_LABELS, f"no worker for its type is labelled {label}", label=label)


def _resources(asked: Resources, nearest: Sequence[Candidate]) -> task_pb2.Obstacle:
    lacking = min((sorted(one.capacity.lacks(asked)) for one in nearest), key=len)
    name = lacking[0]
    most = max(one.capacity.total.get(name, 0.0) for one in nearest)
    text = f"it takes {asked[name]:.12g} {name}, and no worker for it has more than {most:.12g}"
    if most >= asked[name]:
        text = f"no worker for it has all that it takes at once, such as {asked[name]:.12g} {name}"
    return _obstacle(Reason.RESOURCES, text, resource=name, asked=asked[name], most=most)


# Limits ---------------------------------------------------------------------------------------------------------------


def _limited(
    case: Case, concurrency: Concurrency, rates: Rates, now_ms: int, wall_ms: int
) -> Iterable[task_pb2.Obstacle]:
    key = case.limit_key
    reason = concurrency.may_start(key)
    if reason is Reason.CONCURRENCY_LIMIT:
        text = f"its queue runs {_count(concurrency.limit, 'task')} at once, and does"
        yield _obstacle(reason, text, limit=concurrency.limit)
    elif reason is not None:
        text = f"its queue runs {_count(concurrency.per_key, 'task')} of key {key} at once, and does"
        yield _obstacle(reason, text, limit=concurrency.per_key, key=key)
    if delay_ms := rates.delay_ms(now_ms):
        time = _time(wall_ms + delay_ms)
        yield _obstacle(
            Reason.RATE_LIMIT, f"the rate of its queue allows the next start at {time}", time=time
        )
    if delay_ms := rates.key_delay_ms(key, now_ms):
        time = _time(wall_ms + delay_ms)
        text = f"the rate of key {key} allows the next start at {time}"
        yield _obstacle(Reason.RATE_LIMIT_KEY, text, time=time, key=key)


# Workers that are busy ------------------------------------------------------------------------------------------------


def _busy(
    case: Case, matched: Sequence[Candidate], reservations: Reservations, now_ms: int
) -> Iterable[task_pb2.Obstacle]:
    resources = case.demand.resources
    with_credit = [one for one in matched if one.credit > 0]
    with_room = [one for one in with_credit if one.capacity.fits(resources)]
    if with_room:
        end_ms = now_ms + case.size_ms
        kept = [
            not reservations.allows(one.worker_id, case.queue_id, case.number, resources, end_ms)
            for one in with_room
        ]
        if all(kept):
            worker_id = with_room[0].worker_id
            text = f"worker {worker_id} has room, but is kept for a task that takes more and came first"
            yield _obstacle(Reason.RESERVED, text, worker=worker_id)
        return
    if with_credit:
        yield _taken(resources, with_credit)
    if len(with_credit) < len(matched):
        count = len(matched) - len(with_credit)
        text = f"of the workers that can run it {count} of {len(matched)} take no more tasks now"
        yield _obstacle(Reason.WORKERS_BUSY, text, workers=count)


def _taken(asked: Resources, with_credit: Sequence[Candidate]) -> task_pb2.Obstacle:
    """Of which resource there is too little at the worker that lacks the fewest."""
    short = [
        [name for name in sorted(asked) if not one.capacity.fits({name: asked[name]})] for one in with_credit
    ]
    name = min(short, key=len)[0]
    free = max(one.capacity.free().get(name, 0.0) for one in with_credit)
    text = f"it takes {asked[name]:.12g} {name}, and no worker for it has more than {free:.12g} free"
    if free >= asked[name]:
        text = f"no worker for it has all that it takes free at once, such as {asked[name]:.12g} {name}"
    return _obstacle(Reason.RESOURCES_BUSY, text, resource=name, asked=asked[name], free=free)
