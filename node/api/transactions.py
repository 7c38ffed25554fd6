"""QueueService's Commit, on the leader: several operations as one command of the log.

What the leader knows by itself is checked first: the limits of each operation, and that messages are leased by those who
settle them. From then on until the answer their acknowledgements are on their way, as with Acknowledge. A call that comes
again, because a leader was lost, is answered by the log, also where the leases are gone that it needed the first time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from node import commands, limits
from node.api import task_input, validate
from node.api.publishing import Publishing
from node.api.queues import ack_deadline_ms, lease_lost
from node.api.tasks import Tasks, submitted
from node.commands import Command
from node.dispatch.ledger import Range, Turn
from node.dispatch.outbox import DONE, Ending
from node.dispatch.queue import QueueDispatch
from node.dispatch.spans import Span
from node.errors import ApiError, InvalidField, LeaseLost, PayloadTooLarge, Refusal, TaskNotFound
from node.replication import Replicated
from node.state.results import Committed, Published, Submitted, Success
from node.state.rows import QueueRow
from node.state.task_rows import TaskRow
from node.web.metrics import Metrics
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2, task_pb2

LEASE_ID_CHARS_MAX: Final = 128
ETAG_CHARS_MAX: Final = 64
REJECTED: Final = queue_pb2.DEAD_LETTER_REASON_REJECTED


class Settle(NamedTuple):
    """Messages to be settled by the operation at `place`: acknowledged, or made dead letters."""

    place: int
    row: QueueRow
    group: str
    holder: str
    """Whose lease they must have; empty: whoever's."""
    ranges: list[Range]
    ending: Ending


class Held(NamedTuple):
    """What of that was on lease, and is on its way to its end."""

    asked: Settle
    queue: QueueDispatch
    settled: list[Span[Turn]]


@dataclass(slots=True)
class Plan:
    """What a call asks for, checked one by one: a command for each operation, or what it is to settle."""

    commands: list[Command | Settle] = field(default_factory=list)
    messages: int = 0
    tasks: int = 0
    stores: bool = False
    """True if it takes space."""
    lost: LeaseLost | TaskNotFound | None = None
    """What it needs is gone: all that is left is the answer of an earlier call."""


class Transactions:
    """QueueService's Commit."""

    def __init__(
        self,
        publishing: Publishing,
        tasks: Tasks,
        *,
        task: Callable[[str], TaskRow | None],
        replica: Replicated,
        metrics: Metrics,
    ) -> None:
        """`task` looks a task up by its full name."""
        self._publishing, self._queues, self._tasks = publishing, publishing.queues, tasks
        self._task, self._replica, self._metrics = task, replica, metrics

    async def Commit(self, data: bytes) -> bytes:
        if len(data) > limits.TRANSACTION_BYTES_MAX:
            limit = f"at most {limits.TRANSACTION_BYTES_MAX} bytes together"
            raise PayloadTooLarge("operations", limit, bytes=len(data))
        request = queue_pb2.CommitRequest.FromString(data)
        request_id = validate.request_id(request.request_id)
        plan = await self._plan(request.operations)
        if plan.stores:
            self._queues.check_disk()
        result = await self._commit(plan, request_id)
        return _response(result).SerializeToString()

    # What is asked ------------------------------------------------------------------------------------------------

    async def _plan(self, operations: Sequence[queue_pb2.Operation]) -> Plan:
        """Check each operation. Raises what is wrong with the first that is wrong, located."""
        if not 1 <= len(operations) <= limits.OPERATIONS_MAX:
            raise InvalidField("operations", f"1 to {limits.OPERATIONS_MAX} operations")
        plan = Plan()
        for place, operation in enumerate(operations):
            kind = operation.WhichOneof("operation")
            if kind is None:
                raise _located(InvalidField("operation", "set"), place, "")
            try:
                plan.commands.append(await self._operation(operation, kind, plan, place))
            except ApiError as error:
                raise _located(error, place, f"{kind}.") from None
        if plan.messages > limits.PUBLISH_MESSAGES_MAX or plan.tasks > limits.SUBMIT_TASKS_MAX:
            limit = f"at most {limits.PUBLISH_MESSAGES_MAX} messages and {limits.SUBMIT_TASKS_MAX} tasks"
            raise InvalidField("operations", limit)
        return plan

    async def _operation(
        self, operation: queue_pb2.Operation, kind: str, plan: Plan, place: int
    ) -> Command | Settle:
        match kind:
            case "publish":
                return await self._publish(operation.publish, plan)
            case "acknowledge":
                return await self._settling(operation.acknowledge, place, DONE)
            case "reject":
                return await self._settling(operation.reject, place, REJECTED)
            case "submit_tasks":
                return await self._submit(operation.submit_tasks, plan)
            case "complete_task":
                return await self._complete(operation.complete_task, plan, place)
            case "check_queue":
                check = command_pb2.CheckQueue(
                    queue=validate.queue_name(operation.check_queue.queue, "queue"),
                    etag=validate.text(operation.check_queue.etag, "etag", ETAG_CHARS_MAX, 1),
                )
                return commands.plain(command_pb2.Command(check_queue=check))
            case "check_lock":
                return commands.plain(command_pb2.Command(check_lock=_lock(operation.check_lock)))
        raise InvalidField("operation", "one that this node knows")

    async def _publish(self, asked: queue_pb2.PublishOperation, plan: Plan) -> Command:
        chunk = command_pb2.Chunk(messages=asked.messages)
        encoded = chunk.SerializeToString()
        command, count = await self._publishing.command(asked, encoded, chunk)
        plan.messages += count
        plan.stores = True
        return command

    async def _settling(self, asked: queue_pb2.AcknowledgeOperation, place: int, ending: Ending) -> Settle:
        name = validate.queue_name(asked.queue, "queue")
        ranges = validate.ranges(asked.ranges)
        validate.text(asked.lease_id, "lease_id", LEASE_ID_CHARS_MAX)
        row = await self._queues.row_of_group(name, asked.group)
        return Settle(place, row, asked.group, asked.lease_id, ranges, ending)

    async def _submit(self, asked: task_pb2.SubmitTasksRequest, plan: Plan) -> Command:
        if asked.request_id or asked.validate_only:
            given = "request_id" if asked.request_id else "validate_only"
            raise InvalidField(given, "unset in a transaction")
        await self._tasks.admit(asked.tasks, task_input.submission(asked, 0))
        plan.tasks += len(asked.tasks)
        plan.stores = True
        return commands.submit_tasks(asked.SerializeToString(), "")

    async def _complete(self, asked: queue_pb2.CompleteTaskOperation, plan: Plan, place: int) -> Command:
        name = validate.task_name(asked.task, "task")
        if len(asked.result.data) > limits.RESULT_BYTES_MAX:
            limit = f"at most {limits.RESULT_BYTES_MAX} bytes"
            raise PayloadTooLarge("result.data", limit, bytes=len(asked.result.data))
        validate.text(asked.result.content_type, "result.content_type", limits.CONTENT_TYPE_CHARS_MAX)
        row = self._task(name)
        if row is None:
            await self._replica.read_barrier()
            row = self._task(name)
        if row is None and plan.lost is None:
            plan.lost = TaskNotFound(f"there is no task {name}", task=name, operation=place)
        settled = command_pb2.SettledLease(number=row.number if row else 0, lease_id=asked.lease_id)
        settled.result.CopyFrom(asked.result)
        return commands.plain(command_pb2.Command(settle_tasks=command_pb2.SettleTasks(leases=[settled])))

    # What is done -------------------------------------------------------------------------------------------------

    async def _commit(self, plan: Plan, request_id: str) -> Committed:
        """Have it done. No other call comes between the settling here and the command: there is no await."""
        held: list[Held] = []
        try:
            asked = [one if isinstance(one, Command) else self._settle(one, held) for one in plan.commands]
            if plan.lost is not None:
                raise plan.lost
            submitting = self._queues.broker.submit(commands.transaction(asked, request_id))
        except ApiError as error:
            for one in held:
                one.queue.keep(one.asked.holder, one.settled)
            if not request_id or not isinstance(error, LeaseLost | TaskNotFound):
                raise
            return await self._done_before(request_id, error)
        submitting.add_done_callback(partial(_answered, held))
        started_ms, outcome = self._queues.clock.now_ms(), "refused"
        try:
            result = await asyncio.shield(
                submitting
            )  # what is on its way is settled also if nobody waits for it
            assert isinstance(result, Committed)
            outcome = "duplicate" if result.duplicate else "stored"
            return result
        except ApiError as error:
            outcome = "unknown" if error.name == "COMMIT_UNKNOWN" else "refused"
            raise
        except asyncio.CancelledError:
            outcome = "unknown"
            raise
        finally:
            self._metrics.publish.labels(outcome).inc(plan.messages)
            self._metrics.commit_seconds.observe((self._queues.clock.now_ms() - started_ms) / 1000)

    def _settle(self, asked: Settle, held: list[Held]) -> Command:
        """The end of messages, which are on their way to it from now on. Raises LeaseLost and others, located."""
        row, spans = asked.row, [Span(first, last, 1) for first, last in asked.ranges]
        try:
            if asked.holder:
                dispatcher = self._queues.dispatcher
                queue = dispatcher.group(row.name, asked.group) if asked.group else dispatcher.queue(row.name)
                if queue.is_moving:
                    raise lease_lost(asked.ranges)
                self._adopt(queue, asked)
                settled, lost = queue.ledger.settle(asked.holder, asked.ranges)
                held.append(Held(asked, queue, settled))
                if lost:
                    raise lease_lost(lost)
                row, spans = queue.row, [span for turn in settled for span in queue.ledger.attempts(turn)]
        except ApiError as error:
            raise _located(error, asked.place, "") from None
        if asked.ending == DONE:
            return commands.acknowledge(row, asked.ranges, group=asked.group, strict=True)
        return commands.move(row, spans, asked.ending, asked.group, strict=True)

    def _adopt(self, queue: QueueDispatch, asked: Settle) -> None:
        """What a pull or a stream of an earlier leader had is its again if nobody else's. Raises LeaseLost."""
        term, _, rest = asked.holder.partition(".")
        uid = rest.partition(".")[2]  # of a pull; a stream has none
        if not term.isdecimal() or uid not in ("", queue.row.uid):
            raise lease_lost(asked.ranges)
        assert self._queues.dispatcher.term is not None
        if int(term) < self._queues.dispatcher.term:
            queue.adopt(asked.holder, asked.ranges, ack_deadline_ms(queue.row))

    async def _done_before(self, request_id: str, error: ApiError) -> Committed:
        """The answer of an earlier call with that request_id; `error` if there was none. The log decides: that call may
        still be on its way into it.
        """
        try:
            result = await self._queues.broker.submit(commands.lost_transaction(request_id))
        except Refusal as refusal:
            raise (error if refusal.name == LeaseLost.reason else refusal) from None
        assert isinstance(result, Committed)
        return result


def _answered(held: Sequence[Held], submitting: asyncio.Future[Success]) -> None:
    """A transaction is committed, or was refused, or nobody knows: what comes of the messages it was to settle."""
    error = submitting.exception()
    result = submitting.result() if error is None else None
    not_done = isinstance(error, Refusal) or (isinstance(result, Committed) and result.duplicate)
    for asked, queue, settled in held:
        if not_done:  # what is still there, it has as before
            queue.keep(asked.holder, settled)
        else:
            queue.finish(settled, error, asked.ending)


def _lock(asked: queue_pb2.CheckLockOperation) -> command_pb2.CheckLock:
    return command_pb2.CheckLock(lock=validate.lock_name(asked.lock, "lock"), token=asked.token)


def _located(error: ApiError, place: int, within: str) -> ApiError:
    """The error of the operation at `place`."""
    if isinstance(error, InvalidField):
        error = error.within(f"operations[{place}].{within}")
    error.metadata["operation"] = str(place)
    return error


def _response(result: Committed) -> queue_pb2.CommitResponse:
    response = queue_pb2.CommitResponse(duplicate=result.duplicate)
    for one in result.results:
        shown = response.results.add()
        match one:
            case Published():
                shown.publish.first_sequence, shown.publish.count = one.first_sequence, one.count
                shown.publish.delayed, shown.publish.queues = one.delayed, one.queues
            case Submitted(outcomes):
                shown.submit_tasks.ParseFromString(submitted(outcomes))
    return response
