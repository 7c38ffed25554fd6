"""A function that is a task: it can be called as it is, submitted, mapped and chained."""

from __future__ import annotations

import functools
import inspect
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, Unpack

from taskraft import _limits, errors
from taskraft._handle import Handle, Handles
from taskraft._new_task import (
    IDS,
    NewTask,
    SubmitSettings,
    as_dependencies,
    dependencies,
    element,
    head,
    tail,
)
from taskraft._settings import check_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from taskraft._sender import Sender
    from taskraft._submitter import Outcomes

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
C = TypeVar("C")
A = TypeVar("A")

Kind = Literal["sync", "async", "generator", "async_generator"]
Call = tuple[tuple[Any, ...], dict[str, Any]]

_PER_SUBMIT = ("queue", "id", "after", "delay", "not_before", "deadline")
_BLOCKS_IN_FLIGHT = 2  # of a map: one is stored while the next one is written


def kind_of(function: Callable[..., Any]) -> Kind:
    """How a worker has to run this function."""
    if inspect.iscoroutinefunction(function):
        return "async"
    if inspect.isasyncgenfunction(function):
        return "async_generator"
    return "generator" if inspect.isgeneratorfunction(function) else "sync"


class TaskFunction(Generic[P, R, C]):
    """A task type: `function`, run by workers of `queue` under the type name `name`. `app.task` makes it.

    P are its parameters, R is its result, C is what a direct call returns (a coroutine where it is async). `kind` says
    how a worker runs it: "sync" in a thread or process (`cpu_bound`: rather a process), "async" in a loop; a "generator" or "async_generator" yields
    checkpoints, from the last of which another slice or attempt goes on (`current_task().checkpoint`).

    Submitting raises TypeError if the arguments do not fit the function, NotEncodable if one of them cannot be written,
    and what `client.tasks.submit` raises. The task is stored on a majority of the nodes when it returns.
    """

    name: str
    queue: str
    function: Callable[P, C]
    kind: Kind
    settings: SubmitSettings
    retry_on: tuple[type[BaseException], ...]
    no_retry_on: tuple[type[BaseException], ...]
    cpu_bound: bool

    def __init__(
        self,
        function: Callable[P, C],
        sender: Sender,
        settings: SubmitSettings,
        *,
        name: str,
        retry_on: tuple[type[BaseException], ...] = (),
        no_retry_on: tuple[type[BaseException], ...] = (),
        cpu_bound: bool = False,
    ) -> None:
        check_names("a task", settings, SubmitSettings.__annotations__)
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.queue = settings["queue"]
        self.kind = kind_of(function)
        self.settings = settings
        self.retry_on = retry_on
        self.no_retry_on = no_retry_on
        self.cpu_bound = cpu_bound
        self.cpu_bound = cpu_bound
        self.sender = sender
        self._signature = inspect.signature(function)
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._names = [one.name for one in self._signature.parameters.values() if one.kind in positional]
        self._after = as_dependencies(settings.get("after", ()))
        same = {key: value for key, value in settings.items() if key not in _PER_SUBMIT}
        self._head = head(name, self.queue, sender.payloads.content_type, same)

    def __repr__(self) -> str:
        return f"TaskFunction({self.name!r}, queue={self.queue!r})"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Call the function here and now, without a queue: for tests, and for tasks that use one another."""
        return self.function(*args, **kwargs)

    def is_permanent(self, error: BaseException) -> bool:
        """True if an attempt that failed with `error` is not to be followed by another one."""
        if isinstance(error, self.no_retry_on):
            return True
        return bool(self.retry_on) and not isinstance(error, self.retry_on)

    def options(self, **options: Unpack[SubmitSettings]) -> TaskFunction[P, R, C]:
        """The same task with other settings: `resize.options(priority=9, delay=5).submit("a.jpg", width=640)`."""
        return TaskFunction(
            self.function,
            self.sender,
            {**self.settings, **options},
            name=self.name,
            retry_on=self.retry_on,
            no_retry_on=self.no_retry_on,
            cpu_bound=self.cpu_bound,
        )

    # One task ----------------------------------------------------------------------------------------------------

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Store a call of the function as a task. Handles among the arguments are waited for and replaced."""
        ids, elements = self.encode([(args, kwargs)])
        [outcome] = self.sender.link.run(lambda client: self.sender.put(client, self.queue, ids, elements))
        return Handle(ids[0], self.sender.link, self.sender.payloads, outcome)

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """As `submit`, for coroutines of any event loop."""
        ids, elements = self.encode([(args, kwargs)])
        [outcome] = await self.sender.link.arun(
            lambda client: self.sender.put(client, self.queue, ids, elements)
        )
        return Handle(ids[0], self.sender.link, self.sender.payloads, outcome)

    def new_task(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> NewTask:
        """A call as a task that is not submitted, for schedules. ValueError if there are handles among the arguments."""
        self._check(tuple(args), dict(kwargs))
        call = self.sender.payloads.encode_call(args, kwargs, task=self.name, names=self._names)
        if call.parents:
            raise ValueError("the task of a schedule cannot depend on other tasks")
        given: dict[str, Any] = {key: one for key, one in self.settings.items() if key not in _PER_SUBMIT}
        return NewTask(
            type=self.name,
            queue=self.queue,
            payload=call.payload,
            content_type=self.sender.payloads.content_type,
            **given,
        )

    # Many tasks --------------------------------------------------------------------------------------------------

    def map(
        self: TaskFunction[Concatenate[A, Q], R, C], items: Iterable[A], *args: Q.args, **kwargs: Q.kwargs
    ) -> Handles[R]:
        """One task for each item, which is its first argument; the others are the same for all.

        They are stored in parts of up to 2,000 tasks, each wholly or not at all; if one fails, the error's `submitted`
        are the ids of the tasks that were stored.
        """
        return self._put_all(((item, *args), kwargs) for item in items)

    async def amap(
        self: TaskFunction[Concatenate[A, Q], R, C], items: Iterable[A], *args: Q.args, **kwargs: Q.kwargs
    ) -> Handles[R]:
        """As `map`, for coroutines of any event loop."""
        return await self._aput_all(((item, *args), kwargs) for item in items)

    def starmap(self, items: Iterable[Sequence[Any]], **kwargs: Any) -> Handles[R]:
        """One task for each item, which is all its positional arguments; `kwargs` are the same for all. As `map`."""
        return self._put_all((tuple(item), kwargs) for item in items)

    async def astarmap(self, items: Iterable[Sequence[Any]], **kwargs: Any) -> Handles[R]:
        """As `starmap`, for coroutines of any event loop."""
        return await self._aput_all((tuple(item), kwargs) for item in items)

    def _put_all(self, calls: Iterable[Call]) -> Handles[R]:
        handles: Handles[R] = Handles()
        waiting: deque[tuple[list[str], Callable[[], Outcomes]]] = deque()
        try:
            for ids, elements in self._blocks(calls):
                if len(waiting) == _BLOCKS_IN_FLIGHT:
                    self._stored(handles, *_settle(waiting))
                waiting.append((ids, self.sender.link.start(self._putting(ids, elements))))
            while waiting:
                self._stored(handles, *_settle(waiting))
        except errors.TaskraftError as error:
            submitted = [*(handle.id for handle in handles), *error.submitted]
            while waiting:
                try:
                    submitted += _settle(waiting)[0]
                except errors.TaskraftError as another:
                    submitted += another.submitted
            error.submitted = tuple(submitted)
            raise
        return handles.grouped()

    async def _aput_all(self, calls: Iterable[Call]) -> Handles[R]:
        handles: Handles[R] = Handles()
        try:
            for ids, elements in self._blocks(calls):
                self._stored(handles, ids, await self.sender.link.arun(self._putting(ids, elements)))
        except errors.TaskraftError as error:
            error.submitted = (*(handle.id for handle in handles), *error.submitted)
            raise
        return handles.grouped()

    def _putting(self, ids: list[str], elements: list[bytes]) -> Any:
        return lambda client: self.sender.put(client, self.queue, ids, elements)

    def _stored(self, handles: Handles[R], ids: list[str], outcomes: Outcomes) -> None:
        link, payloads = self.sender.link, self.sender.payloads
        handles += [Handle(task_id, link, payloads, one) for task_id, one in zip(ids, outcomes, strict=True)]

    def _blocks(self, calls: Iterable[Call]) -> Iterator[tuple[list[str], list[bytes]]]:
        if "id" in self.settings:
            raise TypeError("an id is for one task, not for many")
        rest = iter(calls)
        while block := list(islice(rest, _limits.SUBMIT_TASKS_SOFT)):
            yield self.encode(block)

    # Bytes -------------------------------------------------------------------------------------------------------

    def encode(self, calls: Sequence[Call], ids: Sequence[str] = ()) -> tuple[list[str], list[bytes]]:
        """The ids of calls, those given or new ones, and the calls as elements of SubmitTasksRequest.tasks."""
        settings, payloads = self.settings, self.sender.payloads
        if "id" in settings:
            ids = [settings["id"].removeprefix("tasks/")]
        names = list(ids) or IDS.take(len(calls))
        given: dict[str, Any] = dict(settings)
        when = {key: given[key] for key in ("delay", "not_before", "deadline") if key in given}
        same = tail(dependencies(self._after), **when)
        elements, checked = [], None
        for task_id, (args, kwargs) in zip(names, calls, strict=True):
            shape = (len(args), *kwargs)
            if shape != checked:  # what fits depends on how many and which they are only
                self._check(args, kwargs)
                checked = shape
            call = payloads.encode_call(args, kwargs, task=self.name, names=self._names)
            ending = tail(dependencies(self._after, call.parents), **when) if call.parents else same
            elements.append(element(self._head, task_id, call.payload, ending))
        return names, elements

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None


def _settle(waiting: deque[tuple[list[str], Callable[[], Outcomes]]]) -> tuple[list[str], Outcomes]:
    """The oldest block that is on its way, when it is stored."""
    ids, result = waiting.popleft()
    return ids, result()
