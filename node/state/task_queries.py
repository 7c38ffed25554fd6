"""What the node asks of tasks, lanes, workflows and schedules, between batches."""

from collections.abc import Sequence

from node.state import advance, dependencies, schedule_rows, task_view, workflows
from node.state.leases import leased
from node.state.schedule_rows import ScheduleRow
from node.state.tables import Tables
from node.state.task_rows import Counts, LaneRow, Leased, ReadyTask, Size, TaskRow, ready_task
from node.state.workflows import WorkflowRow
from taskraft.v1 import task_pb2


class TaskQueries:
    """The part of the machine that reads tasks. Rows are as of the last applied entry and change with the next one."""

    _tables: Tables

    # Tasks --------------------------------------------------------------------------------------------------------

    def task(self, name: str) -> TaskRow | None:
        """The task of the full name `tasks/{task}`."""
        return self._tables.tasks.by_name(name)

    def task_by_number(self, number: int) -> TaskRow | None:
        """The task of that number."""
        return self._tables.tasks.by_number(number)

    def tasks_named(self, names: Sequence[str]) -> dict[str, TaskRow]:
        """Those of these tasks that exist, by their full names."""
        return self._tables.tasks.by_names(names)

    def tasks_list(
        self,
        *,
        before: int = 0,
        queue_id: int = 0,
        workflow_id: int = 0,
        states: Sequence[int] = (),
        worker_id: str = "",
        created_from_ms: int = 0,
        created_before_ms: int = 0,
        looked_at: int = 1_000,
    ) -> tuple[list[TaskRow], int]:
        """Tasks, newest first, with lower numbers than `before` (0: all): those of the next `looked_at` that are meant.

        Besides, the number to go on before; 0 if there are no more. Fields that are empty exclude nothing.
        """
        return task_view.page(
            self._tables.tasks,
            before=before,
            queue_id=queue_id,
            workflow_id=workflow_id,
            states=states,
            worker_id=worker_id,
            created_from_ms=created_from_ms,
            created_before_ms=created_before_ms,
            looked_at=looked_at,
        )

    def shown(self, rows: Sequence[TaskRow], view: int, *, with_results: bool = False) -> list[task_pb2.Task]:
        """Tasks as the API shows them; `view` is a TaskView. LEASED ones are not told from RUNNING ones here."""
        return task_view.shown(self._tables, rows, view, with_results=with_results)

    def specs(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Encoded taskraft.v1.Task of these tasks, input fields only."""
        return self._tables.tasks.contents.specs(numbers)

    def results(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Encoded taskraft.v1.TaskResult of those that have one that is not empty."""
        rows = self._tables.tasks.with_dead(numbers)
        found = {number: row.result for number, row in rows.items() if row.result}
        apart = [number for number, row in rows.items() if row.has_result]
        return found | self._tables.tasks.contents.results(apart) if apart else found

    def checkpoints(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """The checkpoints of those that have one."""
        return self._tables.tasks.contents.checkpoints(numbers)

    def parents(self, number: int) -> list[tuple[str, int, int]]:
        """(full name, state, number) of the tasks that it depends on and that are not forgotten, in their order."""
        edges = dependencies.to_children(self._tables.store.execute, [number])
        rows = self._tables.tasks.many(edge.parent for edge in edges)
        return [(row.name, row.state, row.number) for edge in edges if (row := rows.get(edge.parent))]

    # Queues -------------------------------------------------------------------------------------------------------

    def lanes(self, queue_id: int) -> list[LaneRow]:
        """The lanes of a queue that have QUEUED tasks."""
        queue = self._tables.tasks.queue(queue_id)
        self._tables.tasks.flush()
        return [] if queue is None else self._tables.tasks.lanes.waited_in(queue)

    def lane(self, lane_id: int) -> LaneRow | None:
        """The lane of that id."""
        return self._tables.tasks.lanes.find(lane_id)

    def ready(self, lane_id: int, after: tuple[int, int] | None, limit: int) -> list[ReadyTask]:
        """QUEUED tasks of a lane in their order, those after that (key, number)."""
        found: list[ReadyTask] = []
        where = ""
        values: tuple[int, ...] = (lane_id,)
        if after is not None:
            # One condition on the pair would go through all tasks of an equal key from the first one on.
            found = self._ready("AND key = ? AND number > ?", (lane_id, *after), limit)
            where, values = "AND key > ?", (lane_id, after[0])
        return found + self._ready(where, values, limit - len(found))

    def _ready(self, where: str, values: tuple[int, ...], limit: int) -> list[ReadyTask]:
        self._tables.tasks.flush()
        rows = self._tables.store.execute(
            "SELECT key, number, terms FROM tasks"
            f" WHERE state = 1 AND lane_id = ? {where} ORDER BY key, number LIMIT ?",
            (*values, limit),
        )
        return [ready_task(*row) for row in rows]

    def leased_tasks(self) -> list[Leased]:
        """All leases in force, by task number."""
        tasks = self._tables.tasks
        rows = tasks.select("state = 4 ORDER BY number", ())
        return [leased(row) for row in rows if not tasks.is_dead(row)]

    def sizes(self, queue_id: int) -> dict[str, Size]:
        """What was learned of run times, by type; the empty type stands for all of them."""
        return self._tables.tasks.sizes.of_queue(queue_id)

    def queue_counts(self, queue_id: int) -> Counts:
        """How many tasks a queue has in each state; zeros if there is no such queue of tasks."""
        queue = self._tables.tasks.queue(queue_id)
        return Counts() if queue is None else queue.shown()

    def reordering(self, queue_id: int) -> bool:
        """True while the waiting tasks of a queue are being put in another order."""
        queue = self._tables.tasks.queue(queue_id)
        return queue is not None and queue.reorder_until > 0

    def next_due_ms(self) -> int | None:
        """When AdvanceTasks has something to do, in milliseconds since 1970; None: nothing is ahead."""
        known = self._tables.next_due
        if known is None:
            known = self._tables.next_due = (advance.next_due_ms(self._tables),)
        return known[0]

    # Workflows and schedules --------------------------------------------------------------------------------------

    def workflow(self, name: str) -> WorkflowRow | None:
        """The workflow of the full name `workflows/{workflow}`."""
        return self._tables.workflows.by_name(name)

    def workflow_by_id(self, workflow_id: int) -> WorkflowRow | None:
        """The workflow of that id."""
        return self._tables.workflows.by_id(workflow_id)

    def workflows(self, before_id: int = 0, limit: int = -1) -> list[WorkflowRow]:
        """Workflows, newest first, those with lower ids than `before_id` (0: all); a negative limit is none."""
        return workflows.select(self._tables.store, before_id, limit)

    def schedule(self, name: str) -> ScheduleRow | None:
        """The schedule of the full name `schedules/{schedule}`."""
        return schedule_rows.find(self._tables.store.execute, name)

    def schedules(self, after_name: str = "", limit: int = -1) -> list[ScheduleRow]:
        """Schedules in the order of their full names, those after `after_name`; a negative limit is none."""
        return schedule_rows.select(self._tables.store.execute, after_name, limit)
