"""Tasks in steps: what a generator yields is a checkpoint, from which another slice or attempt goes on.

A task that is to leave its place is closed where it has just yielded. Yielding None says "I could stop here" and
leaves the checkpoint that there is. A generator returns its result; an async generator, which cannot, yields
`Result(value)` last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskraft import errors
from taskraft._context import Result, Revoked

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from taskraft.worker.job import Job


class Stopped(Exception):
    """The generator was closed at a yield, because its lease is wanted back."""

    def __init__(self, reason: Revoked) -> None:
        super().__init__(reason)
        self.reason = reason


class BadCheckpoint(Exception):
    """A yielded value is no checkpoint."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _keep(job: Job, value: Any) -> None:
    if value is None:
        return
    try:
        job.save(value)
    except errors.PayloadTooLarge as error:
        raise BadCheckpoint("CHECKPOINT_TOO_LARGE", error.message) from None
    except errors.NotEncodable as error:
        raise BadCheckpoint("CHECKPOINT_NOT_ENCODABLE", error.message) from None


def drive(job: Job, generator: Generator[Any, None, Any]) -> Any:
    """Run a generator to its end; returns its result. Raises Stopped, BadCheckpoint and what it raises itself."""
    try:
        while True:
            try:
                value = next(generator)
            except StopIteration as end:
                return end.value
            _keep(job, value)
            if job.revoked is not None:
                raise Stopped(job.revoked)
    finally:
        generator.close()


async def drive_async(job: Job, generator: AsyncGenerator[Any, None]) -> Any:
    """The same for an async generator."""
    try:
        async for value in generator:
            if isinstance(value, Result):
                return value.value
            _keep(job, value)
            if job.revoked is not None:
                raise Stopped(job.revoked)
    finally:
        await generator.aclose()
    return None
