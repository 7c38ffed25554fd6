"""Edges between tasks: which task waits for which, and for what of it.

A task with dependencies is BLOCKED while its parents decide: it may run when every SUCCEEDED parent has succeeded, every
ENDED parent has ended and, if it has ANY_SUCCEEDED parents, one of them has succeeded; it fails as soon as that cannot
come true any more. How much is missing is kept in the row as one number, `open`, so that the end of a parent costs
its children no look at their other parents. Invariants: both ends of an edge exist (edges go with either of them);
`open` of a BLOCKED task is what `missing` finds in its edges; of other tasks it says nothing.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

from node.state.results import Code, Refused
from node.state.store import Execute
from node.state.tables import Tables
from node.state.task_rows import BLOCKED, TaskRow
from node.state.task_rows import SUCCEEDED as GOOD
from node.workflow_graph import describe, find_cycle
from taskraft.v1 import task_pb2

SUCCEEDED: Final = task_pb2.DEPENDENCY_CONDITION_SUCCEEDED
ANY_SUCCEEDED: Final = task_pb2.DEPENDENCY_CONDITION_ANY_SUCCEEDED
ENDED: Final = task_pb2.DEPENDENCY_CONDITION_ENDED

ALTERNATIVE: Final = (
    1 << 20
)  # in `open`: one ANY_SUCCEEDED parent that has not ended; below it: one of the others


class Edge(NamedTuple):
    """One dependency."""

    parent: int
    child: int
    condition: int


def waits_for(missing: int) -> int:
    """How many tasks are waited for by a task whose `open` this is."""
    return missing % ALTERNATIVE + missing // ALTERNATIVE


def missing(parents: Iterable[tuple[int, int]]) -> int | None:
    """`open` of a task whose parents are (state, condition); None if its conditions can never be fulfilled."""
    count = alternatives = 0
    asks_for_any = has_any = False
    for state, condition in parents:
        if condition == ANY_SUCCEEDED:
            asks_for_any = True
            has_any = has_any or state == GOOD
            alternatives += state < GOOD
        elif state < GOOD:
            count += 1
        elif condition == SUCCEEDED and state != GOOD:
            return None
    if has_any or not asks_for_any:
        return count
    return count + alternatives * ALTERNATIVE if alternatives else None


def link(
    tables: Tables, tasks: Sequence[task_pb2.Task], new: Mapping[str, TaskRow]
) -> Refused | list[TaskRow]:
    """Resolve the dependencies of new tasks and write their edges.

    `tasks` is the whole submit, `new` has the rows, numbered and not inserted yet, of those whose names are not known;
    the others keep the dependencies that they have. A new task that must wait is BLOCKED afterwards. Those that are
    returned can never run: they are to end, DEPENDENCY_FAILED, once all are inserted. A refusal has changed nothing.
    """
    waiting: dict[str, list[str]] = {}
    dependent: list[tuple[TaskRow, list[tuple[str, int]]]] = []
    for task in tasks:
        if task.dependencies and task.name in new and task.name not in waiting:
            asked: list[tuple[str, int]] = [
                (each.task, each.condition or SUCCEEDED) for each in task.dependencies
            ]
            waiting[task.name] = [name for name, _ in asked]
            dependent.append((new[task.name], asked))
    if not waiting:
        return []
    names = dict.fromkeys(chain.from_iterable(waiting.values()))
    outside = [name for name in names if name not in new]
    known = {**tables.tasks.by_names(outside), **new}
    if len(outside) + len(new) > len(known):
        return _unknown(tasks, new, known)
    if cycle := find_cycle(waiting):
        named = describe(cycle)
        return Refused(
            Code.INVALID_ARGUMENT, "CYCLE", f"these tasks wait for each other: {named}", {"cycle": named}
        )
    hopeless = _write(tables, dependent, known)
    for name in outside:
        tables.tasks.put(known[name])
    return hopeless


def _unknown(
    tasks: Sequence[task_pb2.Task], new: Mapping[str, TaskRow], known: Mapping[str, TaskRow]
) -> Refused:
    """The refusal of a submit in which a new task waits for one that does not exist."""
    for place, task in enumerate(tasks):
        if task.name not in new:
            continue
        for number, dependency in enumerate(task.dependencies):
            if dependency.task not in known:
                return Refused(
                    Code.INVALID_ARGUMENT,
                    "UNKNOWN_DEPENDENCY",
                    f"{task.name} depends on {dependency.task}, which does not exist or is forgotten",
                    {
                        "task": task.name,
                        "dependency": dependency.task,
                        "field": f"tasks[{place}].dependencies[{number}]",
                    },
                )
    raise AssertionError("every dependency is known")


def _write(
    tables: Tables, dependent: Sequence[tuple[TaskRow, list[tuple[str, int]]]], known: Mapping[str, TaskRow]
) -> list[TaskRow]:
    """Write the edges of new tasks and count what each one misses; those that can never run."""
    edges: list[tuple[int, int, int, int]] = []
    hopeless: list[TaskRow] = []
    for row, asked in dependent:
        number = row.number
        states: list[tuple[int, int]] = []
        for place, (name, condition) in enumerate(asked):
            parent = known[name]
            parent.children += 1
            states.append((parent.state, condition))
            edges.append((parent.number, number, place, condition))
        row.has_parents = True
        count = missing(states)
        if count is None:
            hopeless.append(row)
        elif count:
            row.state, row.open = BLOCKED, count
    tables.store.connection.executemany("INSERT INTO edges VALUES (?, ?, ?, ?)", edges)
    return hopeless


def from_parents(execute: Execute, parents: Sequence[int]) -> list[Edge]:
    """All edges from these tasks, in the order of the children."""
    rows = execute(
        "SELECT parent, child, condition FROM edges WHERE parent IN (SELECT value FROM json_each(?))"
        " ORDER BY child, place",
        (json.dumps(parents),),
    )
    return [Edge._make(row) for row in rows]


def to_children(execute: Execute, children: Sequence[int]) -> list[Edge]:
    """All edges to these tasks, child by child in the order of its dependencies."""
    rows = execute(
        "SELECT parent, child, condition FROM edges WHERE child IN (SELECT value FROM json_each(?))"
        " ORDER BY child, place",
        (json.dumps(children),),
    )
    return [Edge._make(row) for row in rows]


def recount(tables: Tables, rows: Collection[TaskRow]) -> dict[int, int | None]:
    """What `missing` says now of each of these tasks, by number; 0 for those without dependencies.

    A dead parent still counts as what it is: when it is swept away it is told like any other end.
    """
    counts: dict[int, int | None] = {row.number: 0 for row in rows}
    edges = to_children(tables.store.execute, [row.number for row in rows if row.has_parents])
    parents = tables.tasks.with_dead({edge.parent: None for edge in edges})
    conditions: dict[int, list[tuple[int, int]]] = {}
    for edge in edges:
        conditions.setdefault(edge.child, []).append((parents[edge.parent].state, edge.condition))
    counts.update((child, missing(found)) for child, found in conditions.items())
    return counts


def drop(tables: Tables, numbers: Sequence[int]) -> None:
    """These tasks are gone: so are their edges. Whoever depended on one of them does not wait for it."""
    ids = (json.dumps(numbers),)
    tables.store.execute("DELETE FROM edges WHERE parent IN (SELECT value FROM json_each(?))", ids)
    tables.store.execute("DELETE FROM edges WHERE child IN (SELECT value FROM json_each(?))", ids)
