"""The judgement of what a cluster did with tasks: by what their functions wrote down, and what their histories say."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tests.cluster.task_worker import Execution

CAUSES = frozenset(
    {"LEASE_EXPIRED", "INSTANCE_REPLACED", "HANDED_BACK", "FAILED", "TIMEOUT", "SLICE_END", "PREEMPTED"}
)
"""Events that end a lease and not its task: only after one of them it may be executed again."""
OF_WORKERS = frozenset({"LEASE_EXPIRED", "INSTANCE_REPLACED", "HANDED_BACK"})
"""Those that a worker brings about which dies, falls silent or goes."""


def problems(
    histories: Mapping[str, Sequence[str]],
    executions: Iterable[Execution],
    causes: frozenset[str] = OF_WORKERS,
) -> list[str]:
    """What cannot be explained. `histories` are the reasons of each task's events, of tasks that must all have succeeded;
    `causes` are the events that may have happened.
    """
    begun: defaultdict[str, list[Execution]] = defaultdict(list)
    for one in executions:
        if one.what == "begin":
            begun[one.task].append(one)
    found = [f"{task} was executed and is unknown" for task in begun.keys() - histories.keys()]
    for task, reasons in histories.items():
        found += [f"{task}: {problem}" for problem in _of_task(reasons, begun[task], causes)]
    return found


def _of_task(reasons: Sequence[str], begun: Sequence[Execution], causes: frozenset[str]) -> list[str]:
    found = []
    leases = [one.lease for one in begun]
    if len(set(leases)) < len(leases):
        found.append(f"a lease was executed twice: {leases}")
    if reasons.count("SUCCEEDED") != 1 or reasons[-1] != "SUCCEEDED":
        found.append(f"it did not succeed once, at the end: {reasons}")
    if not begun:
        found.append("it succeeded and was never executed")
    if strange := set(reasons) & CAUSES - causes:
        found.append(f"{strange} happened to it, and nobody did that: {reasons}")
    held = False
    for reason in reasons:
        if reason == "LEASED" and held:
            found.append(f"it was leased while it was: {reasons}")
        held = reason == "LEASED" or (held and reason not in CAUSES)
    if len(begun) > reasons.count("LEASED"):
        found.append(f"{len(begun)} executions, of {reasons.count('LEASED')} leases: {reasons}")
    return found


def repeated(executions: Iterable[Execution]) -> int:
    """How many executions of tasks there were that had been executed before."""
    begun = [one.task for one in executions if one.what == "begin"]
    return len(begun) - len(set(begun))
