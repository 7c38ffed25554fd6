"""What the end of tasks does to the tasks that they depend on, and to those that depend on them."""

from collections.abc import Sequence
from typing import Final

from node.state import tasks
from node.state.dependencies import ALTERNATIVE, ANY_SUCCEEDED, SUCCEEDED, from_parents, to_children
from node.state.tables import Position, Tables
from node.state.task_rows import BLOCKED, FAILED, TaskRow
from node.state.task_rows import SUCCEEDED as GOOD
from taskraft.v1 import task_pb2

DEPENDENCY_FAILED: Final = "DEPENDENCY_FAILED"
UNBLOCKED: Final = "UNBLOCKED"


def propagate(tables: Tables, at: Position, ended: Sequence[TaskRow]) -> None:
    """Tell parents and children of tasks that have ended, then those of children that end because of it, and so on.

    Goes by layers, each with a few statements whatever its size. Within a layer the order of the parents does not
    matter: what a child misses only shrinks, and it fails whenever one thing that it needs cannot come any more.
    """
    layer = ended
    while layer:
        _leave_parents(tables, layer)
        layer = _tell_children(tables, at, [row for row in layer if row.children])


def fail(tables: Tables, at: Position, row: TaskRow, parent: TaskRow | None) -> None:
    """A task can never run: because of that parent, if it is known. The caller propagates its end."""
    message = "" if parent is None else f"{parent.name} {_STATES[parent.state]}"
    error = task_pb2.TaskError(reason=DEPENDENCY_FAILED, message=message)
    tasks.end(tables, at, row, FAILED, DEPENDENCY_FAILED, message, error=tasks.error_of(error))


_STATES: Final = {
    value.number: value.name.removeprefix("TASK_STATE_") for value in task_pb2.TaskState.DESCRIPTOR.values
}


def _leave_parents(tables: Tables, ended: Sequence[TaskRow]) -> None:
    """These tasks do not need their parents any more."""
    children = [row.number for row in ended if row.has_parents]
    if not children:
        return
    edges = to_children(tables.store.execute, children)
    parents = tables.tasks.many(dict.fromkeys(edge.parent for edge in edges))
    for edge in edges:
        parent = parents.get(edge.parent)
        if parent is not None:
            parent.children -= 1
            assert parent.children >= 0
    for parent in parents.values():
        tables.tasks.put(parent)


def _tell_children(tables: Tables, at: Position, layer: Sequence[TaskRow]) -> list[TaskRow]:
    """Count these parents at the children that wait for them; the children that can never run, and end."""
    if not layer:
        return []
    parents = {row.number: row for row in layer}
    edges = from_parents(tables.store.execute, list(parents))
    children = tables.tasks.many(dict.fromkeys(edge.child for edge in edges))
    missing = {number: row.open for number, row in children.items() if row.state == BLOCKED}
    spoilers: dict[int, TaskRow] = {}  # by child: the parent that it cannot do without
    for parent, child, condition in edges:
        count = missing.get(child)
        if count is None:
            continue
        good = parents[parent].state == GOOD
        if condition != ANY_SUCCEEDED:
            missing[child] = count - 1
            if condition == SUCCEEDED and not good:
                spoilers.setdefault(child, parents[parent])
        elif count >= ALTERNATIVE:  # none of them has succeeded so far
            missing[child] = count % ALTERNATIVE if good else count - ALTERNATIVE
            if count < 2 * ALTERNATIVE and not good:
                spoilers.setdefault(child, parents[parent])
    for child, count in missing.items():
        row = children[child]
        if child in spoilers:
            fail(tables, at, row, spoilers[child])
        elif count == 0:
            tasks.make_ready(tables, at, row, UNBLOCKED)
        else:
            row.open = count
            tables.tasks.put(row)
    return [children[child] for child in missing if child in spoilers]
