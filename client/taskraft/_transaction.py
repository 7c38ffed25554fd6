"""Transactions: what a block has gathered is done in one commit, all or none."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, ParamSpec, Protocol, Self

from taskraft import _wire, errors
from taskraft._context import current_task
from taskraft._new_task import IDS, NewTask
from taskraft._operations import Plain, Publishing, Settling, Submitting
from taskraft._pull import Pulled
from taskraft._retry import Deadline
from taskraft._values import OutgoingMessage
from taskraft.v1 import queue_pb2, task_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Any

    from taskraft._connection import Connection
    from taskraft._message import Batch, Lease, Message
    from taskraft._operations import Operation, Result
    from taskraft._task import TaskFunction
    from taskraft._values import QueueInfo

    Reader = Callable[[queue_pb2.OperationResult], Result]

P = ParamSpec("P")


class HeldLock(Protocol):
    """A lock that is held, and the fencing token that it was granted with."""

    @property
    def name(self) -> str: ...
    @property
    def token(self) -> int: ...


class Transaction:
    """What is called in its block is done when the block ends, in one commit: all of it, or nothing.

        async with client.transaction() as tx:
            tx.publish("invoices", invoice)
            tx.ack(order)

    Nothing is sent before that, and if the block raises nothing is done at all. If its end raises, nothing was done
    either, but after CommitUnknown or DeadlineExceeded nobody knows; the error's metadata says in `operation` which
    call was refused, 0 for the first. LeaseLost: a message, or the task, is done already or leased to somebody else. Messages that were not
    settled are held as before: give them back with `nack`, or try again.

    `results` are those of the calls in their order, once the block has ended: a Receipt of what was published, a
    Submission of a task, None of the rest. All together have at most 10,000 messages, 10,000 tasks and 3 MiB.
    """

    results: tuple[Result, ...]

    def __init__(self, connection: Connection, *, timeout: float | None) -> None:
        self.results = ()
        self._connection = connection
        self._timeout_s = timeout or connection.timeout_s
        self._operations: dict[Operation, int] = {}  # by their first place in the request as it was sent last
        self._calls: list[tuple[Operation, Reader]] = []
        self._publishing: dict[tuple[str, bool], Publishing] = {}
        self._settling: dict[tuple[str, Lease], Settling] = {}
        self._submitting = Submitting()
        self._over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        over, self._over = self._over, True
        if kind is None and self._operations and not over:
            await self._commit()

    # What is to be done ------------------------------------------------------------------------------------------

    def publish(
        self,
        queue: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        key: str = "",
        priority: int = 0,
        ttl: float | None = None,
        delay: float = 0.0,
        deliver_at: datetime | None = None,
        allow_unroutable: bool = False,
    ) -> None:
        """Store a message in a queue, or in all that are bound to `topics/{topic}`; as `Queue.publish`."""
        message = OutgoingMessage(body, headers or {}, key, priority, ttl, delay, deliver_at)
        self.publish_many(queue, [message], allow_unroutable=allow_unroutable)

    def publish_many(
        self, queue: str, messages: Sequence[bytes | OutgoingMessage], *, allow_unroutable: bool = False
    ) -> None:
        """Store messages in a queue or topic, in order."""
        target = queue if queue.startswith(("queues/", "topics/")) else f"queues/{queue}"
        outgoing = [one if isinstance(one, OutgoingMessage) else OutgoingMessage(one) for one in messages]
        key = (target, allow_unroutable)
        made = self._publishing.pop(key, None) or Publishing(target, allow_unroutable=allow_unroutable)
        if any(map(_wire.is_timed, outgoing)):  # what may be delayed may have no sequence: it stands alone
            made = Publishing(target, allow_unroutable=allow_unroutable)
        else:
            self._publishing[key] = made
        count = len(outgoing)
        before = made.add(b"".join(map(_wire.outgoing, outgoing)), count)
        self._note(made, lambda answer: made.receipt(answer, before, count))

    def ack(self, messages: Message | Batch | Pulled) -> None:
        """These messages are done, if they are still leased to their consumer."""
        self._settle("acknowledge", messages)

    def reject(self, messages: Message | Batch | Pulled) -> None:
        """These messages go to the dead-letter queue of their queue, or are gone if it has none."""
        self._settle("reject", messages)

    def submit(self, task: NewTask | TaskFunction[P, Any, Any], *args: P.args, **kwargs: P.kwargs) -> str:
        """Store a task, or a call of a task function: `tx.submit(resize, "a.jpg", width=640)`. Returns its id."""
        if isinstance(task, NewTask):
            ids = [task.id.removeprefix("tasks/") or IDS.one()]
            elements = [task.wire(ids[0])]
        else:
            ids, elements = task.encode([(args, kwargs)])
        made = self._submitting
        place = made.add(ids[0], elements[0])
        self._note(made, lambda answer: made.submission(answer, place))
        return ids[0]

    def complete(self, result: Any = None) -> None:
        """The task that runs here has come to `result`, if it is still leased to this worker; what its function returns
        or raises afterwards does not count. RuntimeError outside of a task.
        """
        task = current_task()
        data, content_type = task.worker.encode_result(result)
        asked = queue_pb2.CompleteTaskOperation(
            task=f"tasks/{task.task_id}",
            lease_id=task.lease_id,
            result=task_pb2.TaskResult(data=data, content_type=content_type),
        )
        self._note(Plain("complete_task", asked.SerializeToString()), _nothing)

    def check_queue(self, queue: QueueInfo) -> None:
        """Do nothing of all this unless the settings of the queue are still these: EtagMismatch."""
        asked = queue_pb2.CheckQueueOperation(queue=f"queues/{queue.name}", etag=queue.etag)
        self._note(Plain("check_queue", asked.SerializeToString()), _nothing)

    def check_lock(self, lock: HeldLock) -> None:
        """Do nothing of all this unless the lock is still held by that token: LockNotHeld."""
        name = f"locks/{lock.name.removeprefix('locks/')}"
        asked = queue_pb2.CheckLockOperation(lock=name, token=lock.token)
        self._note(Plain("check_lock", asked.SerializeToString()), _nothing)

    def _settle(self, kind: str, messages: Message | Batch | Pulled) -> None:
        lease: Lease = messages if isinstance(messages, Pulled) else messages.lease
        batches = messages.batches if isinstance(messages, Pulled) else [messages]
        made = self._settling.setdefault((kind, lease), Settling(kind, lease))
        for one in batches:
            made.ranges.add(*one.span)
        self._note(made, _nothing)

    def _note(self, made: Operation, read: Reader) -> None:
        """A call was made, and is part of that operation."""
        if self._over:
            raise RuntimeError("the transaction is over")
        self._operations.setdefault(made, 0)
        self._calls.append((made, read))

    # The end of the block ----------------------------------------------------------------------------------------

    async def _commit(self) -> None:
        settling, done = list(self._settling.values()), False
        for one in settling:
            one.lease.enlist(list(one.ranges))
        try:
            response = await self._send(Deadline(self._timeout_s))
            done = True
        except errors.TaskraftError as error:
            self._locate(error)
            raise
        finally:
            for one in settling:
                one.lease.delist(list(one.ranges), done=done)
        self.results = tuple(read(response.results[self._operations[made]]) for made, read in self._calls)

    async def _send(self, deadline: Deadline) -> queue_pb2.CommitResponse:
        """One request, however often it is sent. A consumer may have got another session meanwhile."""
        request_id = uuid.uuid4().hex
        answer = queue_pb2.CommitResponse.FromString
        while True:
            try:
                return await self._connection.call(
                    "QueueService/Commit", lambda: self._wire(request_id), answer, timeout_s=deadline.left_s()
                )
            except errors.LeaseLost:
                if not await self._held_again(deadline):
                    raise

    async def _held_again(self, deadline: Deadline) -> bool:
        """True if what was refused may have been so for a lease that a consumer has got back in another session."""
        for one in self._settling.values():
            if await one.lease.renewed(one.lease_id, list(one.ranges), deadline.left_s()):
                return True
        return False

    def _locate(self, error: errors.TaskraftError) -> None:
        """Let an error's `operation` be the first call that is part of what was refused."""
        if "operation" not in error.metadata:
            return
        place = int(error.metadata["operation"])
        before = {first: made for made, first in self._operations.items() if first <= place}
        refused = before[max(before)]
        call = next(at for at, (made, _) in enumerate(self._calls) if made is refused)
        error.metadata["operation"] = str(call)

    def _wire(self, request_id: str) -> bytes:
        """The CommitRequest as of now."""
        elements: list[bytes] = []
        for one in sorted(self._operations, key=lambda one: one.turn):
            self._operations[one] = len(elements)
            elements += one.wire()
        return b"".join((*elements, queue_pb2.CommitRequest(request_id=request_id).SerializeToString()))


def _nothing(answer: queue_pb2.OperationResult) -> None:
    """What came of a call that answers nothing."""
