"""Which running tasks are to be stopped so that one of higher priority can run.

The rule is that of the Kubernetes scheduler (pickOneNodeForPreemption in pkg/scheduler/framework/preemption): only
tasks of strictly lower priority, all on one worker; of the workers where that helps the one whose most important victim
matters least, then with the fewest victims, then where the least work is lost.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from node.tasks.placement import TOLERANCE, Candidate, Resources

CHOICES_MAX: Final = 64
"""At so many workers victims are compared, as that scheduler does with a hundred: the next ones are hardly cheaper."""


class Running(NamedTuple):
    """A task at a worker."""

    number: int
    priority: int
    preemptible: bool
    resources: Resources
    started_ms: int


def victims(
    priority: int,
    resources: Resources,
    workers: Iterable[tuple[Candidate, Sequence[Running]]],
) -> list[Running]:
    """The cheapest set of tasks on one worker whose end makes room; empty if nothing needs to end or nothing helps.

    `workers` are those that can ever run the task and take tasks, each with what it runs. No victim can be left out.
    """
    best: tuple[tuple[int, int, int, str], list[Running]] | None = None
    choices = 0
    for candidate, running in workers:
        lower = [one for one in running if one.preemptible and one.priority < priority]
        missing = _missing(candidate, resources)
        if not missing and candidate.credit > 0:
            return []
        chosen = _fewest(lower, missing, 1 - candidate.credit)
        if chosen:
            cost = (
                max(one.priority for one in chosen),
                len(chosen),
                -sum(one.started_ms for one in chosen),
                candidate.worker_id,
            )
            if best is None or cost < best[0]:
                best = (cost, chosen)
            choices += 1
            if choices == CHOICES_MAX:
                break
    return best[1] if best else []


def _missing(candidate: Candidate, resources: Resources) -> dict[str, float]:
    """How much more of each resource is needed than is free, those that lack something only."""
    free, total = candidate.capacity.free(), candidate.capacity.total
    lacks = {name: amount - free.get(name, 0.0) for name, amount in resources.items()}
    return {name: lack for name, lack in lacks.items() if lack > total.get(name, 0.0) * TOLERANCE}


def _fewest(lower: Sequence[Running], missing: dict[str, float], places: int) -> list[Running]:
    """Few of these tasks that give back what is missing, and so many places; empty if all together do not.

    Only those of the least priority with which it can be done, and below. Which of them is a covering problem: the one
    that gives the greatest part of what is missing is taken first, which is exact for one resource, and then what the
    later ones made superfluous is left out again.
    """
    if len(lower) < places or _lacking(lower, missing):
        return []
    for level in sorted({one.priority for one in lower}):
        allowed = [one for one in lower if one.priority <= level]
        if len(allowed) >= places and not _lacking(allowed, missing):
            break
    allowed.sort(key=lambda one: (one.priority, -one.started_ms, one.number))
    chosen: list[Running] = []
    while len(chosen) < places or _lacking(chosen, missing):
        lacking = _lacking(chosen, missing)
        chosen.append(max(allowed, key=lambda one: _part(one, lacking)))  # the first of equal ones
        allowed.remove(chosen[-1])
    for one in sorted(chosen, key=lambda one: (-one.priority, one.started_ms)):
        others = [other for other in chosen if other is not one]
        if len(others) >= places and not _lacking(others, missing):
            chosen = others
    return chosen


def _lacking(chosen: Sequence[Running], missing: dict[str, float]) -> dict[str, float]:
    """What is still missing when these tasks have ended."""
    lacking = {}
    for name, lack in missing.items():
        left = lack - sum(one.resources.get(name, 0.0) for one in chosen)
        if left > lack * TOLERANCE:
            lacking[name] = left
    return lacking


def _part(one: Running, lacking: dict[str, float]) -> float:
    """How much of what is lacking this task would give back, each resource counted as a part of its lack."""
    return sum(min(1.0, one.resources.get(name, 0.0) / lack) for name, lack in lacking.items())
