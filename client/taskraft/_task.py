"""A function that is a task: it can be called as it is, submitted, mapped and chained."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

Kind = Literal["sync", "async", "generator", "async_generator"]


def kind_of(function: Callable[..., Any]) -> Kind:
    """How a worker has to run this function."""
    if inspect.iscoroutinefunction(function):
        return "async"
    if inspect.isasyncgenfunction(function):
        return "async_generator"
    return "generator" if inspect.isgeneratorfunction(function) else "sync"


class TaskFunction(Generic[P, R, C]):
    """A task type: `function`, run by workers of `queue` under the type name `name`.

    P are its parameters, R is its result, C is what a direct call returns (a coroutine where it is async).
    """

    name: str
    queue: str
    function: Callable[P, C]
    kind: Kind

    def __init__(
        self,
        function: Callable[P, C],
        *,
        name: str,
        queue: str,
        retry_on: tuple[type[BaseException], ...] = (),
        no_retry_on: tuple[type[BaseException], ...] = (),
    ) -> None:
        self.function = function
        self.name = name
        self.queue = queue
        self.kind = kind_of(function)
        self.retry_on = retry_on
        self.no_retry_on = no_retry_on

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Call the function here and now, without a queue: for tests, and for tasks that use one another."""
        return self.function(*args, **kwargs)

    def is_permanent(self, error: BaseException) -> bool:
        """True if an attempt that failed with `error` is not to be followed by another one."""
        if isinstance(error, self.no_retry_on):
            return True
        return bool(self.retry_on) and not isinstance(error, self.retry_on)
