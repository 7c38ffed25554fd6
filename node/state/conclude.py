"""What the changes of one command add up to: in the counts of queues, lanes and workflows, and for listeners."""

from collections import defaultdict

from node.state.propagation import propagate
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
    queue: TaskQueueRow | None = None
    queue_id = 0
    for row in tasks.touched.values():
        if row.queue_id != queue_id:
            queue_id, queue = row.queue_id, tasks.queue(row.queue_id)
        state, before = row.state, row.told_state
        moved = row.key != row.told_key or row.lane_id != row.told_lane or row.priority != row.told_priority
        if state == before and row.bytes == row.told_bytes and not (state == QUEUED and moved):
            continue  # its progress
        dead = queue is None or (0 < before < LEASED and row.stamp <= queue.purged)
        if before == QUEUED and state != LEASED and not dead:
            unready[row.queue_id, row.told_lane].append((row.told_key, row.number))
        if state == QUEUED:
            ready[row.queue_id, row.lane_id].append(
                ReadyTask(
                    row.key, row.number, row.size_ms, row.priority, row.order_ms, row.deadline_ms, row.bytes
                )
            )
        if queue is not None:
            _count(queue, row, dead)
            tasks.queues.put(queue)
        _count_lane(tables, at, row)
        if row.workflow_id:
            _count_workflow(tables, row, dead)
        if before < SUCCEEDED <= state and (row.children or row.has_parents):
            ended.append(row)
        if state != before:
            row.stamp = at.stamp
        row.told_state, row.told_lane, row.told_key = state, row.lane_id, row.key
        row.told_bytes, row.told_priority = row.bytes, row.priority
    tasks.changed.update(tasks.touched)
    tasks.touched.clear()
    tables.events.extend(("tasks_settled", *settled) for settled in tables.settled.items())
    tables.settled.clear()
    tables.events.extend(("tasks_unready", *place, gone) for place, gone in unready.items())
    tables.events.extend(("tasks_ready", *place, new) for place, new in ready.items())
    return ended


def _count(queue: TaskQueueRow, row: TaskRow, dead: bool) -> None:
    """Move a task from one count to another. A dead one is not counted where it comes from."""
    counts, state, before = queue.counts, row.state, row.told_state
    if not before:
        queue.submitted += 1
    elif not dead:
        counts[before] -= 1
        assert counts[before] >= 0
        if before < LEASED:
            queue.waiting_bytes -= row.told_bytes
        elif before == LEASED:
            queue.leased_bytes -= row.told_bytes
        elif not row.workflow_id:
            queue.forgettable -= 1
    counts[state] += 1
    if state < LEASED:
        queue.waiting_bytes += row.bytes
    elif state == LEASED:
        queue.leased_bytes += row.bytes
    elif not row.workflow_id:
        queue.forgettable += 1


def _count_lane(tables: Tables, at: Position, row: TaskRow) -> None:
    was = row.told_lane if 0 < row.told_state < SUCCEEDED else 0
    now = row.lane_id if row.state < SUCCEEDED else 0
    if was == now:
        return
    if now:
        tables.tasks.lanes.count(now, 1, at.time_ms)
    if was:
        tables.tasks.lanes.count(was, -1, at.time_ms)


def _count_workflow(tables: Tables, row: TaskRow, dead: bool) -> None:
    if row.state != row.told_state:
        due_ms = 0
        if row.state >= SUCCEEDED and not dead:
            rules = tables.rules(row.queue_id)
            retain_ms = rules.retain_succeeded_ms if row.state == SUCCEEDED else rules.retain_failed_ms
            due_ms = row.end_ms + retain_ms
        tables.workflows.moved(row.workflow_id, row.told_state, row.state, due_ms)
