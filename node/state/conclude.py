"""What the changes of one command add up to: in the counts of queues, lanes and workflows, and for listeners."""

from collections import defaultdict
from typing import TypeAlias

from node.state.propagation import propagate
from node.state.scheduling import retain_ms
from node.state.tables import Position, Tables
from node.state.task_rows import LEASED, QUEUED, SUCCEEDED, ReadyTask, TaskQueueRow, TaskRow


def consequences(tables: Tables, at: Position) -> None:
    """Count and tell what was put, and do what follows from it for tasks that depend on others."""
    ended = conclude(tables, at)
    if ended:
        propagate(tables, at, ended)
        conclude(tables, at)


def conclude(tables: Tables, at: Position) -> list[TaskRow]:
    """Count and tell what was put since the last call; those that have ended and are parents or children."""
    tasks = tables.tasks
    if not tasks.touched:
        return []
    ended: list[TaskRow] = []
    ready: defaultdict[tuple[int, int], list[ReadyTask]] = defaultdict(list)
    unready: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    moves: dict[_Move, _Moved] = {}
    queue: TaskQueueRow | None = None
    queue_id, stamp, silent = 0, at.stamp, tables.silent
    for row in tasks.touched.values():
        if row.queue_id != queue_id:
            queue_id, queue = row.queue_id, tasks.queue(row.queue_id)
        if row.due_ms:
            tasks.note_due(row.due_ms)
        state, before, lane_id, told_lane = row.state, row.told_state, row.lane_id, row.told_lane
        if before >= SUCCEEDED > state:
            tasks.note_revived()
        stays = state == before and lane_id == told_lane and row.bytes == row.told_bytes
        if stays and not (state == QUEUED and _has_moved(row)):
            if state >= SUCCEEDED:
                tasks.queues.stale.add(row.queue_id)  # it has other children, and may go earlier or later
                if not row.workflow_id:
                    tasks.note_ended(row.queue_id, state, row.end_ms)
            continue  # its progress
        dead = queue is None or (0 < before < LEASED and row.stamp <= queue.purged)
        if before == QUEUED and state != LEASED and not dead and not silent:
            unready[queue_id, told_lane].append((row.told_key, row.number))
        if state == QUEUED and not silent:
            ready[queue_id, lane_id].append(
                ReadyTask(
                    row.key, row.number, row.size_ms, row.priority, row.order_ms, row.deadline_ms, row.bytes
                )
            )
        move = (queue_id, before, state, told_lane, lane_id, row.workflow_id, dead)
        moved = moves.get(move)
        if moved is None:
            moved = moves[move] = [0, 0, 0]
        moved[0] += 1
        moved[1] += row.told_bytes
        moved[2] += row.bytes
        if before < SUCCEEDED <= state and (row.children or row.has_parents):
            ended.append(row)
        if state != before:
            row.stamp, row.told_state = stamp, state
        row.told_lane, row.told_key = lane_id, row.key
        row.told_bytes, row.told_priority = row.bytes, row.priority
    tasks.conclude()
    for move, moved in moves.items():
        _count(tables, at, move, moved)
    tables.events.extend(("tasks_settled", *settled) for settled in tables.settled.items())
    tables.settled.clear()
    tables.events.extend(("tasks_unready", *place, gone) for place, gone in unready.items())
    tables.events.extend(("tasks_ready", *place, new) for place, new in ready.items())
    return ended


_Move: TypeAlias = tuple[int, int, int, int, int, int, bool]
"""What tasks have in common: queue, state before and after, lane before and after, workflow, and whether they were dead."""

_Moved: TypeAlias = list[int]
"""How many tasks made a move, and their bytes before and after."""


def _has_moved(row: TaskRow) -> bool:
    """True if a task that was QUEUED before in this lane has another place now."""
    return row.key != row.told_key or row.priority != row.told_priority


def _count(tables: Tables, at: Position, move: _Move, moved: _Moved) -> None:
    """Count what some tasks did. Dead ones are not counted where they come from."""
    queue_id, before, state, told_lane, lane_id, workflow_id, dead = move
    queue, count = tables.tasks.queue(queue_id), moved[0]
    if queue is not None:
        if not before:
            queue.submitted += count
        elif not dead:
            _add(queue, before, -count, -moved[1], workflow_id)
        _add(queue, state, count, moved[2], workflow_id)
        queue.note_surplus(tables.rules(queue_id).max_ended, at.time_ms)
        tables.tasks.queues.put(queue)
    was = told_lane if 0 < before < SUCCEEDED else 0
    now = lane_id if state < SUCCEEDED else 0
    if now and now != was:
        tables.tasks.lanes.count(now, count, at.time_ms)
    if was and now != was:
        tables.tasks.lanes.count(was, -count, at.time_ms)
    if state >= SUCCEEDED and not workflow_id:
        tables.tasks.note_ended(queue_id, state, at.time_ms)
    if workflow_id and state != before:
        due_ms = 0
        if state >= SUCCEEDED and queue is not None:
            due_ms = at.time_ms + retain_ms(tables.rules(queue_id), state)
        for _ in range(count):
            tables.workflows.moved(workflow_id, before, state, due_ms)


def _add(queue: TaskQueueRow, state: int, count: int, size: int, workflow_id: int) -> None:
    """So many tasks and bytes more are in that state."""
    queue.counts[state] += count
    assert queue.counts[state] >= 0
    if state < LEASED:
        queue.waiting_bytes += size
    elif state == LEASED:
        queue.leased_bytes += size
    elif not workflow_id:
        queue.forgettable += count
