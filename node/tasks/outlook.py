"""What is to be expected of a task: gathers what the scheduler and the state know for `explain` and `estimate`.

Nothing here is on the path of a task; a question may cost some milliseconds, bounded by `EXAMINED_TASKS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from node.clock import Clock
from node.errors import DeadlineInfeasible
from node.policies import Facts, Head
from node.state.rows import duration, timestamp
from node.state.task_rows import BLOCKED, DELAYED, LEASED, QUEUED, Counts, LaneRow, ReadyTask, Size, TaskRow
from node.tasks import estimate
from node.tasks.estimate import Busy, Own, Span, Work
from node.tasks.explain import Case, obstacles, silent
from node.tasks.keeper import HEARTBEATS_MISSED_MAX
from node.tasks.queue import TaskQueue
from node.tasks.scheduler import Scheduler
from node.tasks.workers import Worker
from taskraft.v1 import task_pb2

EXAMINED_TASKS: Final = 20_000
"""Waiting tasks of a queue that are looked at for one answer; the others are taken to be like these."""
NAMED_PARENTS: Final = 10


class Known(Protocol):
    """The part of the state machine that answers these questions."""

    def lanes(self, queue_id: int) -> list[LaneRow]:
        """The lanes of a queue that have QUEUED tasks."""
        ...

    def lane(self, lane_id: int) -> LaneRow | None:
        """The lane of that id."""
        ...

    def ready(self, lane_id: int, after: tuple[int, int] | None, limit: int) -> list[ReadyTask]:
        """The QUEUED tasks of a lane in their order."""
        ...

    def sizes(self, queue_id: int) -> Mapping[str, Size]:
        """What was learned of run times, by type."""
        ...

    def queue_counts(self, queue_id: int) -> Counts:
        """The tasks of a queue by state."""
        ...

    def parents(self, number: int) -> list[tuple[str, int, int]]:
        """(name, state, number) of what a task depends on."""
        ...


class Outlook:
    """Answers on the leader."""

    def __init__(self, state: Known, scheduler: Scheduler, *, clock: Clock) -> None:
        self._state, self._scheduler, self._clock = state, scheduler, clock

    def explain(self, row: TaskRow) -> task_pb2.ExplainTaskResponse:
        """Why a task does not run and when it is expected to, without the task itself."""
        response = task_pb2.ExplainTaskResponse()
        queue, lane = self._scheduler.queues.get(row.queue_id), self._state.lane(row.lane_id)
        if row.has_ended or queue is None or lane is None:
            return response
        if row.state == LEASED:
            self._running(row, lane, response)
            return response
        expected = self._expected(row, queue, lane) if row.state in (QUEUED, DELAYED) else None
        if expected is not None:
            response.tasks_ahead = expected.tasks_ahead
            response.work_ahead.CopyFrom(duration(expected.work_ahead_ms))
        response.obstacles.extend(self._obstacles(row, queue, lane, expected.tasks_ahead if expected else 0))
        if expected is not None and not queue.row.config.paused and self._able(queue, lane):
            wall_ms = self._clock.wall_ms()
            _tell(response.start, expected.start, wall_ms)
            _tell(response.finish, expected.finish, wall_ms)
        return response

    def check_feasible(self, tasks: Iterable[task_pb2.Task]) -> None:
        """Raises DeadlineInfeasible for the first task that is not expected to end in time, where its queue asks for that."""
        by_queue: dict[str, list[task_pb2.Task]] = {}
        for task in tasks:
            if task.HasField("deadline"):
                by_queue.setdefault(task.queue, []).append(task)
        queues = {queue.row.name: queue for queue in self._scheduler.queues.values()}
        for name, due in by_queue.items():
            queue = queues.get(name)
            if queue is not None and queue.row.config.scheduling.refuse_infeasible:
                self._check_queue(queue, due)

    # One task -----------------------------------------------------------------------------------------------------

    def _obstacles(
        self, row: TaskRow, queue: TaskQueue, lane: LaneRow, tasks_ahead: int
    ) -> list[task_pb2.Obstacle]:
        open_names: list[str] = []
        if row.state == BLOCKED:
            parents = self._state.parents(row.number)
            open_names = [name for name, state, _ in parents if state < task_pb2.TASK_STATE_SUCCEEDED]
        case = Case(
            state=row.state,
            number=row.number,
            queue_id=row.queue_id,
            demand=lane.demand,
            limit_key=lane.demand.limit_key,
            size_ms=row.size_ms,
            attempt=row.attempt,
            due_ms=row.order_ms if row.state == DELAYED else row.not_before_ms,
            open_tasks=len(open_names),
            open_names=open_names[:NAMED_PARENTS],
            tasks_ahead=tasks_ahead,
            paused=queue.row.config.paused,
            workers=self._connected(queue),
        )
        return obstacles(
            case,
            concurrency=queue.concurrency,
            rates=queue.rates,
            reservations=self._scheduler.reservations,
            now_ms=self._clock.now_ms(),
            wall_ms=self._clock.wall_ms(),
        )

    def _running(self, row: TaskRow, lane: LaneRow, response: task_pb2.ExplainTaskResponse) -> None:
        """It has started; what is left is its own run time, unless its worker is gone: then nobody knows."""
        if (gone := self._silent(row)) is not None:
            response.obstacles.append(gone)
            for bound in (response.start.p50, response.start.p90):
                bound.CopyFrom(timestamp(row.start_ms))
            return
        _, deviation_ms = self._size(row.queue_id, lane.demand.type, row.size_ms)
        wall_ms = self._clock.wall_ms()
        left = estimate.running(row.size_ms, deviation_ms, wall_ms - row.start_ms)
        for bound in (response.start.p50, response.start.p90):
            bound.CopyFrom(timestamp(row.start_ms))
        response.finish.p50.CopyFrom(timestamp(wall_ms + round(left.left_ms)))
        late_ms = round(left.left_ms + estimate.Z90 * left.variance**0.5)
        response.finish.p90.CopyFrom(timestamp(wall_ms + late_ms))

    def _silent(self, row: TaskRow) -> task_pb2.Obstacle | None:
        """What is to be said of a leased task whose worker's stream is broken, or whose heartbeats are missing."""
        worker = self._scheduler.pool.get(row.worker_id)
        if worker is None or row.lease_id not in worker.leases:
            return None
        if worker.session is not None and not worker.silent:
            return None
        patience_ms = max(row.lease_ms, HEARTBEATS_MISSED_MAX * worker.heartbeat_ms)
        return silent(worker.worker_id, patience_ms - (self._clock.now_ms() - worker.heard_ms))

    def _expected(self, row: TaskRow, queue: TaskQueue, lane: LaneRow) -> estimate.Expected | None:
        workers = self._able(queue, lane)
        size_ms, deviation_ms = self._size(row.queue_id, lane.demand.type, row.size_ms)
        key = row.key
        if row.state == DELAYED:
            facts = Facts(row.number, row.order_ms, row.priority, round(size_ms), row.deadline_ms)
            key = queue.policy.key(facts)
        tenant = lane.demand.tenant
        weight, virtual_ms = self._tenant(queue, tenant)
        own = Own(
            size_ms=size_ms, deviation_ms=deviation_ms, tenant=tenant, weight=weight, virtual_ms=virtual_ms
        )
        lanes = self._lanes(queue, (key, row.number), row.number, [worker.worker_id for worker in workers])
        places = estimate.places(workers, lane.demand.resources, queue.row.config.scheduling.max_running)
        answer = estimate.expected(
            own,
            lanes,
            slice_ms=queue.slice_ms,
            shared=not queue.policy.rank_is_static,
            places=max(1, places),
            busy=self._busy(workers),
            earliest_ms=max(0, row.order_ms - self._clock.wall_ms()) if row.state == DELAYED else 0,
        )
        rate = queue.row.config.scheduling.rate.per_second
        if not rate:
            return answer
        delay_ms = queue.rates.delay_ms(self._clock.now_ms()) + answer.tasks_ahead * 1_000 / rate
        return answer._replace(
            start=_not_before(answer.start, delay_ms), finish=_not_before(answer.finish, delay_ms + size_ms)
        )

    # The queue around it ------------------------------------------------------------------------------------------

    def _lanes(
        self, queue: TaskQueue, place: tuple[int, int], number: int, own_workers: Sequence[str]
    ) -> list[estimate.Lane]:
        """What waits in a queue beside a task, split at its place."""
        rows = self._state.lanes(queue.row.id)
        examined = max(1, EXAMINED_TASKS // max(1, len(rows)))
        found, seen = [], 0
        for row in rows:
            tasks = self._state.ready(row.id, None, examined)
            seen += len(tasks)
            sizes = self._state.sizes(queue.row.id).get(row.demand.type)
            before = self._work([task for task in tasks if (task.key, task.number) < place], sizes)
            after = self._work([task for task in tasks if (task.key, task.number) > place], sizes)
            matched = self._able(queue, row)
            weight, virtual_ms = self._tenant(queue, row.demand.tenant)
            share = estimate.share([worker.worker_id for worker in matched], own_workers)
            found.append((before, after, row.demand.tenant, weight, virtual_ms, share))
        scale = max(1.0, self._state.queue_counts(queue.row.id).queued / max(1, seen))
        return [
            estimate.Lane(
                before=before.part(scale) if scale > 1.01 else before,
                after=after.part(scale) if scale > 1.01 else after,
                tenant=tenant,
                weight=weight,
                virtual_ms=virtual_ms,
                share=share,
            )
            for before, after, tenant, weight, virtual_ms, share in found
        ]

    @staticmethod
    def _work(tasks: Sequence[ReadyTask], learned: Size | None) -> Work:
        total_ms = sum(task.size_ms for task in tasks)
        mad_ms = None if learned is None or not learned.count else learned.deviation_ms
        mean_ms = total_ms / len(tasks) if tasks else 0.0
        return Work(len(tasks), total_ms, len(tasks) * estimate.deviation_ms(mean_ms, mad_ms) ** 2)

    def _size(self, queue_id: int, kind: str, size_ms: int) -> tuple[float, float]:
        """The expected run time of a task, and its standard deviation."""
        learned = self._state.sizes(queue_id).get(kind)
        known = learned is not None and learned.count > 0
        mean_ms = float(size_ms or (learned.mean_ms if learned is not None and known else 0) or 1_000)
        return mean_ms, estimate.deviation_ms(
            mean_ms, learned.deviation_ms if learned is not None and known else None
        )

    def _tenant(self, queue: TaskQueue, tenant: str) -> tuple[float, float]:
        """The weight of a tenant and what it has used."""
        weight = queue.row.config.scheduling.tenant_weights.get(tenant, 1.0)
        return weight, queue.policy.rank(Head(0, 0, tenant))[0]

    def _connected(self, queue: TaskQueue) -> list[Worker]:
        workers = self._scheduler.pool.of_queue(queue.row.id)
        return [worker for worker in workers if worker.session is not None and not worker.draining]

    def _able(self, queue: TaskQueue, lane: LaneRow) -> list[Worker]:
        """The connected workers that can run the tasks of a lane."""
        known = queue.lanes.get(lane.id)
        if known is None:
            return [one for one in self._connected(queue) if queue.finder.can_run(one, lane.demand)]
        return [one for one in queue.finder.matched(known) if one.session is not None and not one.draining]

    def _busy(self, workers: Iterable[Worker]) -> list[Busy]:
        wall_ms = self._clock.wall_ms()
        running = []
        for worker in workers:
            for lease in worker.leases.values():
                size_ms = lease.leased.size_ms
                _, deviation_ms = self._size(lease.leased.queue_id, lease.demand.type, size_ms)
                running.append(estimate.running(size_ms, deviation_ms, wall_ms - lease.leased.start_ms))
        return running

    # Admission ----------------------------------------------------------------------------------------------------

    def _check_queue(self, queue: TaskQueue, tasks: Sequence[task_pb2.Task]) -> None:
        workers = self._connected(queue)
        wall_ms = self._clock.wall_ms()
        due = []
        for task in tasks:
            size_ms, _ = self._size(queue.row.id, task.type, task.size.ToMilliseconds())
            due.append(
                estimate.Due(task.deadline.ToMilliseconds(), size_ms, task.not_before.ToMilliseconds())
            )
        waiting = [
            task
            for row in self._state.lanes(queue.row.id)
            for task in self._state.ready(row.id, None, EXAMINED_TASKS)
        ]

        def before(deadline_ms: int) -> Work:
            return self._work([task for task in waiting if 0 < task.deadline_ms <= deadline_ms], None)

        late = estimate.infeasible(
            due,
            before,
            places=estimate.places(workers, {}, queue.row.config.scheduling.max_running),
            busy=self._busy(workers),
            now_ms=wall_ms,
        )
        if late:
            task = tasks[late[0]]
            message = f"{task.name} is not expected to end by its deadline"
            raise DeadlineInfeasible(message, task=task.name, queue=queue.row.name, tasks=len(late))


def _not_before(span: Span, delay_ms: float) -> Span:
    return Span(max(span.p50_ms, round(delay_ms)), max(span.p90_ms, round(delay_ms)))


def _tell(bounds: task_pb2.Estimate, span: Span, wall_ms: int) -> None:
    bounds.p50.CopyFrom(timestamp(wall_ms + span.p50_ms))
    bounds.p90.CopyFrom(timestamp(wall_ms + span.p90_ms))
