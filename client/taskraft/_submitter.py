"""Submitting: many callers, one call at a time.

Callers put the wire bytes of tasks and get a future. A call leaves as soon as the one before is answered, with all
that was put by then: who submits alone does not wait, who submits among many shares a commit. There is no timer to
wait for. Tasks go out in the order in which they were put, so that one may depend on another that was put before.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from typing import TYPE_CHECKING

from taskraft import _failures, _limits, errors
from taskraft._calls import call
from taskraft._retry import Deadline
from taskraft._task_values import OUTCOMES
from taskraft._wire import varint
from taskraft.v1 import task_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from taskraft._pool import Pool
    from taskraft._task_values import SubmitOutcome

    Outcomes = list[SubmitOutcome]

_REFUSALS = (
    errors.InvalidArgument,
    errors.QueueFull,
    errors.QueueNotFound,
    errors.WrongQueueKind,
    errors.DeadlineInfeasible,
)
_WORKFLOW_KEY = bytes([2 << 3 | 2])
_REQUEST_ID_KEY = bytes([3 << 3 | 2])
_VALIDATE_ONLY = bytes([4 << 3, 1])

_log = logging.getLogger("taskraft.submitter")


class _Piece:
    """Tasks that one caller handed over: stored wholly or not at all."""

    __slots__ = ("count", "deadline_s", "done", "wire")

    def __init__(self, wire: bytes, count: int, done: asyncio.Future[Outcomes], deadline_s: float) -> None:
        self.wire = wire
        self.count = count
        self.done = done
        self.deadline_s = deadline_s


class Submitter:
    """The submitter of a client: callers use `put`; its own task makes the calls."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Piece] = deque()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._task = asyncio.create_task(self._run(), name="taskraft-submit")

    async def put(self, wire: bytes, count: int, deadline_s: float) -> Outcomes:
        """Submit `count` tasks, as elements of SubmitTasksRequest.tasks, at most 3 MiB; what became of each.

        They are stored wholly or not at all. DeadlineExceeded at `deadline_s` of the loop's clock: nobody knows then.
        Unavailable if they cannot have been: they were not sent.
        """
        if self._closed:
            raise errors.ClientClosed
        done: asyncio.Future[Outcomes] = self._loop.create_future()
        timeout_s = deadline_s - self._loop.time()
        piece = _Piece(wire, count, done, deadline_s)
        self._waiting.append(piece)
        self._idle.clear()
        self._work.set()
        try:
            async with asyncio.timeout_at(deadline_s):
                return await done
        except TimeoutError:
            trouble = self._pool.explain("nothing was submitted", timeout_s)
            if trouble is not None and (piece in self._waiting or not self._pool.reached):
                raise trouble from None
            raise errors.DeadlineExceeded(
                f"no answer to a submit in {round(timeout_s, 1):g} s; it may or may not have been done"
            ) from trouble

    async def close(self, timeout_s: float) -> None:
        """Wait for what is on its way, for at most `timeout_s`; what was not answered by then fails."""
        self._closed = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("closed_unanswered", extra={"fields": {"calls": len(self._waiting)}})
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        pieces: list[_Piece] = []
        try:
            while True:
                pieces = self._gather()
                if pieces:
                    await self._send(pieces)
                    continue
                self._idle.set()
                self._work.clear()
                await self._work.wait()
        finally:
            _fail([*pieces, *self._waiting], errors.ClientClosed())
            self._waiting.clear()
            self._idle.set()

    def _gather(self) -> list[_Piece]:
        """All that waits, as far as it should be one commit; what its caller has given up is dropped."""
        pieces: list[_Piece] = []
        size = count = 0
        while self._waiting:
            piece = self._waiting[0]
            if not piece.done.done():
                size += len(piece.wire)
                count += piece.count
                if pieces and (size > _limits.SUBMIT_BYTES_SOFT or count > _limits.SUBMIT_TASKS_SOFT):
                    break
                pieces.append(piece)
            self._waiting.popleft()
        return pieces

    async def _send(self, pieces: list[_Piece]) -> None:
        """One call; if it is refused, its halves, until the guilty one is alone and what fits is stored."""
        left_s = max(piece.deadline_s for piece in pieces) - self._loop.time()
        try:
            outcomes = await submit(self._pool, b"".join([piece.wire for piece in pieces]), timeout_s=left_s)
        except errors.TaskraftError as error:
            if len(pieces) == 1 or not isinstance(error, _REFUSALS):
                _fail(pieces, error)
                return
            middle = len(pieces) // 2
            await self._send(pieces[:middle])
            await self._send(pieces[middle:])
            return
        at = 0
        for piece in pieces:
            if not piece.done.done():
                piece.done.set_result(outcomes[at : at + piece.count])
            at += piece.count


def _fail(pieces: list[_Piece], error: errors.TaskraftError) -> None:
    for piece in pieces:
        if not piece.done.done():
            piece.done.set_exception(_failures.copy(error))


async def submit(
    pool: Pool,
    wire: bytes,
    *,
    timeout_s: float,
    workflow: task_pb2.Workflow | None = None,
    validate_only: bool = False,
    request_id: str = "",
) -> Outcomes:
    """One SubmitTasks of these elements; what became of each task. Without a `request_id` it is a new request."""
    identity = (request_id or uuid.uuid4().hex).encode()
    request = [wire, _REQUEST_ID_KEY, varint(len(identity)), identity]
    if workflow is not None:
        content = workflow.SerializeToString()
        request += [_WORKFLOW_KEY, varint(len(content)), content]
    if validate_only:
        request.append(_VALIDATE_ONLY)
    answer = task_pb2.SubmitTasksResponse.FromString
    deadline = Deadline(timeout_s)
    try:
        response = await call(pool, "TaskService/SubmitTasks", b"".join(request), answer, timeout_s=timeout_s)
    except errors.Unavailable:
        trouble = pool.explain("nothing was submitted", timeout_s - deadline.left_s())
        if trouble is None or pool.reached:
            raise
        raise trouble from None
    return [OUTCOMES[max(0, one.outcome - 1)] for one in response.tasks]


def pieces_of(elements: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Elements, in order, in pieces that a call can hold: (wire bytes, tasks)."""
    start = size = 0
    for at, one in enumerate(elements):
        if at > start and (
            size + len(one) > _limits.SUBMIT_BYTES_SOFT or at - start >= _limits.SUBMIT_TASKS_SOFT
        ):
            yield b"".join(elements[start:at]), at - start
            start, size = at, 0
        size += len(one)
    if elements:
        yield b"".join(elements[start:]), len(elements) - start
