"""Cycles among tasks that wait for each other. Pure; the API's validation and the state both ask here."""

from collections.abc import Mapping, Sequence


def find_cycle(waits_for: Mapping[str, Sequence[str]]) -> list[str]:
    """The names along one cycle, each waiting for the next one, the last one for the first; empty if there is none.

    `waits_for` holds, for each task in its order, what it waits for; names that are no key wait for nothing. The answer
    depends on nothing but that order and begins with the task of the cycle that comes first. Linear in tasks and
    dependencies (Kahn 1962), and one pass over them if every task comes after those that it waits for.
    """
    if _is_in_order(waits_for):
        return []
    stuck = _stuck(waits_for)
    if not stuck:
        return []
    # Whoever is stuck waits for one that is stuck too, so going from one to the next comes round.
    name = next(name for name in waits_for if name in stuck)
    path: list[str] = []
    place: dict[str, int] = {}
    while name not in place:
        place[name] = len(path)
        path.append(name)
        name = next(other for other in waits_for[name] if other in stuck)
    cycle = path[place[name] :]
    members = set(cycle)
    first = cycle.index(next(name for name in waits_for if name in members))
    return cycle[first:] + cycle[:first]


def describe(cycle: Sequence[str]) -> str:
    """A cycle for people: `tasks/a -> tasks/b -> tasks/a`."""
    return " -> ".join((*cycle, cycle[0]))


def _is_in_order(waits_for: Mapping[str, Sequence[str]]) -> bool:
    """True if every task comes after those that it waits for."""
    ahead = set(waits_for)
    for name, others in waits_for.items():
        if not ahead.isdisjoint(others):
            return False
        ahead.discard(name)
    return True


def _stuck(waits_for: Mapping[str, Sequence[str]]) -> set[str]:
    """Those that never run: the cycles and what waits for them."""
    waiting = dict.fromkeys(waits_for, 0)
    children: dict[str, list[str]] = {}
    for name, others in waits_for.items():
        for other in others:
            if other in waiting:
                waiting[name] += 1
                children.setdefault(other, []).append(name)
    free = [name for name, count in waiting.items() if count == 0]
    while free:
        name = free.pop()
        del waiting[name]
        for child in children.get(name, ()):
            waiting[child] -= 1
            if waiting[child] == 0:
                free.append(child)
    return set(waiting)
