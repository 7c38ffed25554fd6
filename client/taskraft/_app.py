"""The front door of tasks: an app knows its task functions, its queues and where its brokers are."""

from __future__ import annotations

import inspect
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Protocol, Self, TypeVar, Unpack, cast, overload

from taskraft import _limits
from taskraft._addresses import as_addresses
from taskraft._client import Client
from taskraft._handle import Handle
from taskraft._link import Link
from taskraft._payload import Codec, Payloads, Serializer
from taskraft._scheduling import Scheduling, queue_settings
from taskraft._sender import Sender
from taskraft._settings import check_names
from taskraft._task import TaskFunction
from taskraft._workflow import Workflow, WorkflowHandle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
    from types import TracebackType

    import grpc

    from taskraft._new_task import SubmitSettings, TaskSettings
    from taskraft._schedules import ScheduleInfo, ScheduleSettings
    from taskraft._sync import SyncClient

P = ParamSpec("P")
R = TypeVar("R")
Y = TypeVar("Y")

Errors = type[BaseException] | tuple[type[BaseException], ...]


class TaskDecorator(Protocol):
    """Makes a function a task; what it returns has the function's parameters and its result."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, function: Callable[P, Generator[Y, Any, R]], /
    ) -> TaskFunction[P, R, Generator[Y, Any, R]]: ...
    @overload
    def __call__(
        self, function: Callable[P, AsyncGenerator[Y, Any]], /
    ) -> TaskFunction[P, Any, AsyncGenerator[Y, Any]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...


class App:
    """Task functions of a program, and the cluster that they are sent to.

        app = App()

        @app.task(queue="images", max_attempts=5, resources={"cpu": 2})
        def resize(path: str, width: int) -> str: ...

        handle = resize.submit("a.jpg", width=640)      # or: await resize.asubmit(...)
        handle.result(timeout=30)

    `addresses` are those of some or all nodes, as for Client; without them they are what TASKRAFT_ADDRESS says, or else
    the three nodes that `taskraft up` starts. `queue` is where tasks go that do not say. Arguments and results are written as JSON, or with
    `serializer="msgpack"` as msgpack (which knows bytes and times); `codec` compresses or encrypts them. `timeout` is how
    many seconds a call may take, failover included; `direct` and `credentials` are as for Client.

    Nothing is connected before the first call; one connection then serves all threads and event loops. `close` ends it,
    and a later call opens another one.
    """

    def __init__(
        self,
        addresses: str | Iterable[str] | None = None,
        *,
        queue: str = "default",
        serializer: Serializer = "json",
        codec: Codec | Iterable[Codec] = (),
        timeout: float = _limits.TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        direct: bool = True,
    ) -> None:
        self.timeout = timeout
        self.credentials = credentials
        self.direct = direct
        self._addresses = None if addresses is None else as_addresses(addresses)
        self._default_queue = queue
        self._tasks: dict[str, TaskFunction[..., Any, Any]] = {}
        self._queues: dict[str, Scheduling] = {}
        self._link = Link(self.connect)
        self._payloads = Payloads(serializer, codec)
        self._sender = Sender(self._link, self._payloads, self._queues)

    # What the app knows ------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> Mapping[str, TaskFunction[..., Any, Any]]:
        """The task functions of this app by their type names."""
        return MappingProxyType(self._tasks)

    @property
    def queues(self) -> Mapping[str, Scheduling]:
        """All queues that its tasks name or that `queue` described, with their settings."""
        named = {task.queue: self._queues.get(task.queue, {}) for task in self._tasks.values()}
        return MappingProxyType({**named, **self._queues})

    @property
    def payloads(self) -> Payloads:
        """How arguments, results and checkpoints are written and read."""
        return self._payloads

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the brokers are. Setting it closes the connection: the next call goes to the new ones."""
        return self._addresses or as_addresses(None)

    @addresses.setter
    def addresses(self, addresses: str | Iterable[str]) -> None:
        self._link.close()
        self._addresses = as_addresses(addresses)

    # Connection --------------------------------------------------------------------------------------------------

    def connect(self) -> Client:
        """Another client with this app's settings, for the event loop in which it is used; close it yourself."""
        return Client(self.addresses, timeout=self.timeout, credentials=self.credentials, direct=self.direct)

    @property
    def client(self) -> SyncClient:
        """This app's own connection, for all that is not said by task functions and handles. `close` closes it."""
        return self._link.client

    def close(self) -> None:
        """Settle what is on its way, then disconnect; takes up to 5 s."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Queues ------------------------------------------------------------------------------------------------------

    def queue(self, name: str, **scheduling: Unpack[Scheduling]) -> None:
        """Say how a queue is to be made, should it not exist when it is first used: `policy="priority", max_running=10`.

        A queue that exists stays as it is; `app.client.update_queue` changes it. TypeError for a setting that there is
        none of, InvalidArgument for a value that it cannot have.
        """
        check_names("a queue", scheduling, Scheduling.__annotations__)
        queue_settings(f"queues/{name}", scheduling)
        self._queues[name] = scheduling

    async def create_queues(self, client: Client) -> None:
        """Create all queues of this app that do not exist yet."""
        await self._sender.create_queues(client, self.queues)

    # Tasks -------------------------------------------------------------------------------------------------------

    @overload
    def task(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def task(
        self, function: Callable[P, Generator[Y, Any, R]], /
    ) -> TaskFunction[P, R, Generator[Y, Any, R]]: ...
    @overload
    def task(
        self, function: Callable[P, AsyncGenerator[Y, Any]], /
    ) -> TaskFunction[P, Any, AsyncGenerator[Y, Any]]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str = "",
        queue: str = "",
        retry_on: Errors = (),
        no_retry_on: Errors = (),
        cpu_bound: bool = False,
        **settings: Unpack[TaskSettings],
    ) -> TaskDecorator: ...
    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str = "",
        queue: str = "",
        retry_on: Errors = (),
        no_retry_on: Errors = (),
        cpu_bound: bool = False,
        **settings: Unpack[TaskSettings],
    ) -> Any:
        """Make a function a task: `@app.task` or `@app.task(queue=..., max_attempts=...)`; see TaskSettings.

        `name` is its type, by which workers find it; its function's name if not said. An error in `no_retry_on` fails
        the task for good; with `retry_on` every error that is not in it does. A blocking function that is `cpu_bound`
        runs in a process where its worker has some. ValueError if the name is taken.
        """

        def register(function: Callable[..., Any]) -> TaskFunction[..., Any, Any]:
            type_name = name or function.__name__
            known = self._tasks.get(type_name)
            if known is not None and not _Place.of(function).replaces(_Place.of(known.function)):
                raise ValueError(
                    f"{_Place.of(function)} and {_Place.of(known.function)} would both be tasks of type "
                    f"{type_name!r}: say name=... for one of them"
                )
            self._tasks[type_name] = task = TaskFunction[..., Any, Any](
                function,
                self._sender,
                cast("SubmitSettings", {**settings, "queue": queue or self._default_queue}),
                name=type_name,
                retry_on=_classes(retry_on),
                no_retry_on=_classes(no_retry_on),
                cpu_bound=cpu_bound,
            )
            return task

        return register if function is None else register(function)

    def handle(self, task_id: str) -> Handle[Any]:
        """The handle of a task that was submitted earlier, or elsewhere; asks nobody whether it exists."""
        return Handle(task_id.removeprefix("tasks/"), self._link, self._payloads)

    # Workflows and schedules -------------------------------------------------------------------------------------

    def workflow(
        self, name: str = "", *, labels: Mapping[str, str] | None = None, exist_ok: bool = False
    ) -> Workflow:
        """A workflow to put tasks in: `with app.workflow("nightly") as w: a = w.add(extract, 1); w.add(load, a)`.

        Without a name it gets one. Everything is stored in one commit at the end of the block. WorkflowExists if there is
        one of that name, or with `exist_ok` nothing is stored and the handles are those of the one that exists.
        """
        return Workflow(self._sender, name, labels or {}, exist_ok=exist_ok)

    def workflow_handle(self, workflow_id: str) -> WorkflowHandle:
        """The handle of a workflow that was submitted earlier, or elsewhere; asks nobody whether it exists."""
        return WorkflowHandle(workflow_id.removeprefix("workflows/"), self._link)

    def schedule(
        self,
        name: str,
        task: TaskFunction[..., Any, Any],
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **settings: Unpack[ScheduleSettings],
    ) -> ScheduleInfo:
        """Submit `task` again and again: `app.schedule("nightly", report, cron="0 3 * * *", time_zone="Europe/Lisbon")`,
        or `every=60`.

        A schedule of that name that exists gets these settings. See ScheduleSettings, and `client.schedules` for more.
        """
        return self._link.run(self._scheduling(name, task, args, kwargs, settings))

    async def aschedule(
        self,
        name: str,
        task: TaskFunction[..., Any, Any],
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **settings: Unpack[ScheduleSettings],
    ) -> ScheduleInfo:
        """As `schedule`, for coroutines of any event loop."""
        return await self._link.arun(self._scheduling(name, task, args, kwargs, settings))

    def _scheduling(
        self,
        name: str,
        task: TaskFunction[..., Any, Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        settings: ScheduleSettings,
    ) -> Callable[[Client], Coroutine[Any, Any, ScheduleInfo]]:
        if not isinstance(task, TaskFunction):
            raise TypeError(f"what a schedule submits is a function that @app.task made a task, not {task!r}")
        new = task.new_task(args, kwargs or {})

        async def create(client: Client) -> ScheduleInfo:
            await self._sender.create_queues(client, [task.queue])
            return await client.schedules.create(name, new, replace=True, **settings)

        return create


def _classes(errors: Errors) -> tuple[type[BaseException], ...]:
    return errors if isinstance(errors, tuple) else (errors,)


class _Place(NamedTuple):
    """Where a function is defined."""

    file: str
    line: int
    module: str
    name: str

    @classmethod
    def of(cls, function: Callable[..., Any]) -> _Place:
        """Under decorators that say what they wrap it is the innermost function that counts."""
        inner = inspect.unwrap(function)
        code = getattr(inner, "__code__", None)
        file, line = (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)
        return cls(file, line, inner.__module__, inner.__qualname__)

    def __str__(self) -> str:
        return f"{self.module}.{self.name} ({self.file}:{self.line})"

    def replaces(self, other: _Place) -> bool:
        """True if this is the same function, defined again: its module was loaded again, also as another one
        (`python tasks.py` and `import tasks`), or it was typed again in an interactive session.
        """
        if self.name != other.name:
            return False
        if (self.file, self.line) == (other.file, other.line):
            return True
        typed = self.file != other.file or self.file.startswith("<")
        return typed and self.module == other.module
