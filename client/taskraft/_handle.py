"""A task that was submitted, seen by who submitted it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from taskraft import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator

    from taskraft._client import Client
    from taskraft._link import Link
    from taskraft._payload import Payloads
    from taskraft._task_values import Explanation, SubmitOutcome, TaskInfo, TaskProgress, TaskState

T_co = TypeVar("T_co", covariant=True)
_T = TypeVar("_T")

_LOST = {"LEASE_EXPIRED", "INSTANCE_REPLACED"}


class Handle(Generic[T_co]):
    """A task that was submitted; its result has the type T.

    Every method that asks the broker has a twin for coroutines, named with an `a` before. Times to wait are in seconds,
    None waits for ever. A handle can be an argument of another task, which then waits for this one and gets its
    result; `output` is the same for type checkers. `outcome` says whether the submit made the task: "created",
    "replaced" (it waited with a lower priority) or "already_scheduled".
    """

    __slots__ = ("_ended", "_group", "_link", "_payloads", "id", "outcome")

    id: str
    outcome: SubmitOutcome

    def __init__(
        self, task_id: str, link: Link, payloads: Payloads, outcome: SubmitOutcome = "already_scheduled"
    ) -> None:
        self.id = task_id
        self.outcome = outcome
        self._link = link
        self._payloads = payloads
        self._ended: TaskInfo | None = None
        self._group: Handles[Any] | None = (
            None  # those submitted with it, until the first of them is waited for
        )

    def __repr__(self) -> str:
        return f"Handle({self.id!r}, {self.outcome})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __await__(self) -> Generator[Any, Any, T_co]:
        return self.aresult().__await__()

    @property
    def output(self) -> T_co:
        """This handle, typed as the result that will stand in its place where it is an argument of another task."""
        return cast("T_co", self)

    # Results -----------------------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> T_co:
        """What the task returned, when it has ended.

        TaskFailed if it ended without success (TaskCancelled, TaskExpired, TaskTimedOut, WorkerLost and DependencyFailed
        are such), with the worker's traceback; ResultTimeout, a TimeoutError, if it has not ended in time: it goes on.
        """
        return self._value(self.wait(timeout))

    async def aresult(self, timeout: float | None = None) -> T_co:
        """As `result`."""
        return self._value(await self.await_end(timeout))

    def wait(self, timeout: float | None = None) -> TaskInfo:
        """The task, when it has ended, however. ResultTimeout."""
        if self._ended is None:
            self._ended = self._link.run(lambda client: self._end(client, timeout))
        return self._ended

    async def await_end(self, timeout: float | None = None) -> TaskInfo:
        """As `wait`."""
        if self._ended is None:
            self._ended = await self._link.arun(lambda client: self._end(client, timeout))
        return self._ended

    async def _end(self, client: Client, timeout: float | None) -> TaskInfo:
        """Who waits for one of a group will wait for the others next: all of them are waited for at once."""
        if self._group is not None:
            self._group.expect(client)
        return await client.tasks.ended(self.id, timeout)

    def note_ended(self, info: TaskInfo) -> None:
        """Take what was learned elsewhere: the task has ended like this."""
        assert info.id == self.id
        self._ended = info

    def _value(self, info: TaskInfo) -> T_co:
        if info.state != "succeeded":
            raise failure_of(info)
        value = self._payloads.decode_result(info.result or b"", info.result_content_type)
        return cast("T_co", value)

    # State -------------------------------------------------------------------------------------------------------

    def info(self, *, full: bool = False) -> TaskInfo:
        """The task as it is now; `full`: with payload, result, checkpoint, events and dependencies. TaskNotFound."""
        return self._link.run(lambda client: client.tasks.get(self.id, full=full))

    async def ainfo(self, *, full: bool = False) -> TaskInfo:
        """As `info`."""
        return await self._link.arun(lambda client: client.tasks.get(self.id, full=full))

    def state(self) -> TaskState:
        """Where the task is in its life: "queued", "blocked", "running", "succeeded" and so on."""
        return self.info().state

    async def astate(self) -> TaskState:
        """As `state`."""
        return (await self.ainfo()).state

    def done(self) -> bool:
        """True if the task has ended, however."""
        return self._ended is not None or self.info().ended

    async def adone(self) -> bool:
        """As `done`."""
        return self._ended is not None or (await self.ainfo()).ended

    def progress(self) -> TaskProgress | None:
        """How far the task is, as its worker last said; None if it said nothing."""
        return self.info().progress

    async def aprogress(self) -> TaskProgress | None:
        """As `progress`."""
        return (await self.ainfo()).progress

    def explain(self) -> Explanation:
        """Why the task does not run, and when it is expected to start and to finish."""
        return self._link.run(lambda client: client.tasks.explain(self.id))

    async def aexplain(self) -> Explanation:
        """As `explain`."""
        return await self._link.arun(lambda client: client.tasks.explain(self.id))

    # Changes -----------------------------------------------------------------------------------------------------

    def cancel(self, reason: str = "") -> bool:
        """Cancel the task: it does not start, or its worker is told to stop. False if it had ended."""
        return self._link.run(self._cancelling(reason)) > 0

    async def acancel(self, reason: str = "") -> bool:
        """As `cancel`."""
        return await self._link.arun(self._cancelling(reason)) > 0

    def _cancelling(self, reason: str) -> Callable[[Client], Coroutine[Any, Any, int]]:
        return lambda client: client.tasks.cancel(self.id, reason=reason)

    def retry(self) -> bool:
        """Give the task new attempts if it ended without success. False if it did not."""
        self._ended = None
        return self._link.run(lambda client: client.tasks.retry(self.id)) > 0

    async def aretry(self) -> bool:
        """As `retry`."""
        self._ended = None
        return await self._link.arun(lambda client: client.tasks.retry(self.id)) > 0


class Handles(list[Handle[_T]]):
    """Handles of tasks that were submitted together: what `map` returns. Waiting for all of them is one call."""

    @property
    def outputs(self) -> list[_T]:
        """These handles, typed as the results that will stand in their places in an argument of another task."""
        return [handle.output for handle in self]

    def results(self, timeout: float | None = None) -> list[_T]:
        """What the tasks returned, in order, when all have ended. ResultTimeout after `timeout` seconds in all.

        TaskFailed for the first one, in order, that ended without success.
        """
        open_ids = self._open_ids()
        if open_ids:
            self._note(self._link().run(lambda client: _all_ended(client, open_ids, timeout)))
        return [handle.result() for handle in self]

    async def aresults(self, timeout: float | None = None) -> list[_T]:
        """As `results`."""
        open_ids = self._open_ids()
        if open_ids:
            self._note(await self._link().arun(lambda client: _all_ended(client, open_ids, timeout)))
        return [await handle.aresult() for handle in self]

    def grouped(self) -> Handles[_T]:
        """From now on, waiting for one of them begins to wait for all."""
        for handle in self:
            handle._group = self  # noqa: SLF001  our own
        return self

    def expect(self, client: Client) -> None:
        """Begin to wait for all that have not ended; in the loop of the client."""
        waiting: dict[str, Handle[_T]] = {}
        for handle in self:
            handle._group = None  # noqa: SLF001  our own
            if handle._ended is None:  # noqa: SLF001  our own
                waiting[handle.id] = handle
        client.tasks._expect(waiting, lambda info: waiting[info.id].note_ended(info))  # noqa: SLF001  our own

    def _open_ids(self) -> list[str]:
        return [handle.id for handle in self if handle._ended is None]  # noqa: SLF001  our own

    def _note(self, infos: dict[str, TaskInfo]) -> None:
        for handle in self:
            if handle.id in infos:
                handle.note_ended(infos[handle.id])

    def as_completed(self, timeout: float | None = None) -> Iterator[Handle[_T]]:
        """The handles, each when its task has ended. ResultTimeout after `timeout` seconds in all."""
        open_handles: dict[str, list[Handle[_T]]] = {}
        for handle in self:
            if handle._ended is None:  # noqa: SLF001  our own
                open_handles.setdefault(handle.id, []).append(handle)
            else:
                yield handle
        if not open_handles:
            return
        for info in self._link().iterate(lambda client: client.tasks.wait(open_handles, timeout=timeout)):
            for handle in open_handles[info.id]:
                handle.note_ended(info)
                yield handle

    def cancel(self, reason: str = "") -> int:
        """Cancel those that have not ended; returns how many."""
        ids = [handle.id for handle in self]
        return self._link().run(lambda client: client.tasks.cancel(*ids, reason=reason)) if ids else 0

    async def acancel(self, reason: str = "") -> int:
        """As `cancel`."""
        ids = [handle.id for handle in self]
        return await self._link().arun(lambda client: client.tasks.cancel(*ids, reason=reason)) if ids else 0

    def _link(self) -> Link:
        return self[0]._link  # noqa: SLF001  our own


async def _all_ended(client: Client, ids: list[str], timeout: float | None) -> dict[str, TaskInfo]:
    return {info.id: info async for info in client.tasks.wait(ids, timeout=timeout)}


def gather(handles: Iterable[Handle[_T]]) -> Handles[_T]:
    """Handles, as one: `gather([a, b]).results()` waits for all of them with one call."""
    return Handles(handles)


def failure_of(info: TaskInfo) -> errors.TaskFailed:
    """Why a task that ended has no result, as an error to raise."""
    assert info.ended
    assert info.state != "succeeded"
    fault = info.error
    reason = fault.reason if fault is not None else ""
    message = fault.message if fault is not None else ""
    kind = errors.TaskFailed
    if info.state == "cancelled":
        kind, reason, message = errors.TaskCancelled, "", message or "the task was cancelled"
    elif info.state == "expired":
        kind, reason = errors.TaskExpired, ""
    elif reason == "DEPENDENCY_FAILED":
        kind = errors.DependencyFailed
    elif reason == "TIMEOUT":
        kind = errors.TaskTimedOut
    elif reason in _LOST:
        kind = errors.WorkerLost
    return kind(
        message,
        reason=reason,
        metadata={"task": info.id, "type": info.type, "queue": info.queue, "state": info.state},
        detail=fault.detail if fault is not None else "",
        attempt=info.attempt,
    )
