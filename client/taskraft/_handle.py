"""A task that was submitted, seen by who submitted it."""

from __future__ import annotations

from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Handle(Generic[T_co]):
    """A task that was submitted; its result has the type T."""

    __slots__ = ("id",)

    id: str

    def __init__(self, task_id: str) -> None:
        self.id = task_id
