"""Workflows: tasks that depend on each other, stored in one commit."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from taskraft import errors
from taskraft._handle import Handle, Handles
from taskraft._new_task import IDS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from types import TracebackType

    from taskraft._client import Client
    from taskraft._link import Link
    from taskraft._sender import Sender
    from taskraft._submitter import Outcomes
    from taskraft._task import Call, TaskFunction
    from taskraft._task_values import TaskCounts, WorkflowInfo

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
A = TypeVar("A")


class WorkflowHandle:
    """A workflow that was submitted. Methods that ask the broker have a twin for coroutines, named with an `a` before.

    Times to wait are in seconds, None waits for ever. WorkflowNotFound if it does not exist or was forgotten.
    """

    __slots__ = ("_link", "id")

    id: str

    def __init__(self, workflow_id: str, link: Link) -> None:
        self.id = workflow_id
        self._link = link

    def __repr__(self) -> str:
        return f"WorkflowHandle({self.id!r})"

    def status(self) -> WorkflowInfo:
        """The workflow with its state and the counts of its tasks."""
        return self._link.run(lambda client: client.workflows.get(self.id))

    async def astatus(self) -> WorkflowInfo:
        """As `status`."""
        return await self._link.arun(lambda client: client.workflows.get(self.id))

    def counts(self) -> TaskCounts:
        """How many of its tasks are in each state."""
        return self.status().counts

    async def acounts(self) -> TaskCounts:
        """As `counts`."""
        return (await self.astatus()).counts

    def wait(self, timeout: float | None = None) -> WorkflowInfo:
        """The workflow when all its tasks have ended, however. ResultTimeout if they have not in time."""
        return self._link.run(lambda client: client.workflows.wait(self.id, timeout=timeout))

    async def await_end(self, timeout: float | None = None) -> WorkflowInfo:
        """As `wait`."""
        return await self._link.arun(lambda client: client.workflows.wait(self.id, timeout=timeout))

    def cancel(self, reason: str = "") -> int:
        """Cancel all its tasks that have not ended; returns how many."""
        return self._link.run(lambda client: client.workflows.cancel(self.id, reason=reason))

    async def acancel(self, reason: str = "") -> int:
        """As `cancel`."""
        return await self._link.arun(lambda client: client.workflows.cancel(self.id, reason=reason))

    def retry(self, *, all_tasks: bool = False) -> int:
        """Run it again from its failures on, or all of it; returns how many tasks get new attempts."""
        return self._link.run(lambda client: client.workflows.retry(self.id, all_tasks=all_tasks))

    async def aretry(self, *, all_tasks: bool = False) -> int:
        """As `retry`."""
        return await self._link.arun(lambda client: client.workflows.retry(self.id, all_tasks=all_tasks))


class Workflow:
    """A workflow being put together: `with app.workflow("nightly") as w: ...`, or `async with`.

    At the end of the block its tasks are stored in one commit, all or none; if the block raises, nothing is stored. Up to
    10,000 tasks and 3 MiB. Their ids are `{workflow}:{n}` in the order in which they were added. A workflow of a name that
    exists is not stored: WorkflowExists, or with `exist_ok` its handles are those of the one that exists. A submit that
    failed may be repeated: should it have been done all the same, that is no such error.
    """

    handle: WorkflowHandle
    tasks: Handles[Any]

    def __init__(
        self, sender: Sender, workflow_id: str, labels: Mapping[str, str], *, exist_ok: bool = False
    ) -> None:
        self.handle = WorkflowHandle(workflow_id or IDS.one(), sender.link)
        self.tasks = Handles()
        self._sender = sender
        self._labels = labels
        self._elements: list[bytes] = []
        self._queues: set[str] = set()
        self._submitted = False
        self._exist_ok = exist_ok
        self._request_id = ""  # the same for all submits of the same tasks

    @property
    def id(self) -> str:
        return self.handle.id

    def add(self, task: TaskFunction[P, R, Any], /, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """A call of `task` as a part of the workflow; its handle can be an argument of those added after it.

        `task.options(after=..., priority=...)` says more about it.
        """
        return self._add(task, [(args, kwargs)])[0]

    def map(
        self,
        task: TaskFunction[Concatenate[A, Q], R, Any],
        items: Iterable[A],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Handles[R]:
        """One task for each item, which is its first argument; the others are the same for all."""
        return self._add(task, [((item, *args), kwargs) for item in items])

    def _add(self, task: TaskFunction[..., R, Any], calls: Sequence[Call]) -> Handles[R]:
        if self._submitted:
            raise RuntimeError(f"workflow {self.id} was submitted already")
        self._request_id = uuid.uuid4().hex
        first = len(self._elements)
        ids, elements = task.encode(calls, [f"{self.id}:{at}" for at in range(first, first + len(calls))])
        self._elements += elements
        self._queues.add(task.queue)
        handles = Handles([Handle[R](task_id, self._sender.link, task.sender.payloads) for task_id in ids])
        self.tasks += handles
        return handles

    def submit(self) -> WorkflowHandle:
        """Store all that was added; the end of a `with` block does it. WorkflowExists, Cycle, InvalidArgument."""
        if work := self._submission():
            self._settle(self._sender.link.run(work))
        return self.handle

    async def asubmit(self) -> WorkflowHandle:
        """As `submit`, for coroutines of any event loop."""
        if work := self._submission():
            self._settle(await self._sender.link.arun(work))
        return self.handle

    def _submission(self) -> Callable[[Client], Coroutine[Any, Any, Outcomes]] | None:
        if self._submitted:
            return None
        if not self._elements:
            raise ValueError(f"workflow {self.id} has no tasks")
        return lambda client: self._sender.put_workflow(
            client, self._queues, self._elements, self.id, self._labels, self._request_id
        )

    def _settle(self, outcomes: Outcomes) -> None:
        if not self._exist_ok and all(outcome == "already_scheduled" for outcome in outcomes):
            raise errors.WorkflowExists(
                f"workflow {self.id} exists; give each run a name of its own, or say exist_ok=True to go on with the "
                "one that exists",
                metadata={"workflow": self.id},
            )
        self._submitted = True
        for handle, outcome in zip(self.tasks, outcomes, strict=True):
            handle.outcome = outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.submit()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.asubmit()
