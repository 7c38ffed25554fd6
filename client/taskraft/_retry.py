"""When to try again: a deadline for the whole call, and full jitter between the attempts."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import grpc

from taskraft import _limits, errors

if TYPE_CHECKING:
    from collections.abc import Callable

_TRANSIENT = (errors.Unavailable, errors.CommitUnknown, errors.Overloaded)


def is_transient(error: errors.TaskraftError) -> bool:
    """True if the same request, with the same request_id, may succeed when it is sent again."""
    return isinstance(error, _TRANSIENT)


class Deadline:
    """The moment until which a call may take."""

    __slots__ = ("at_s", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.at_s = asyncio.get_running_loop().time() + timeout_s

    def left_s(self) -> float:
        return self.at_s - asyncio.get_running_loop().time()


class Backoff:
    """Pauses between attempts: any time up to a limit that doubles from 20 ms to 1 s (full jitter)."""

    __slots__ = ("_dice", "_limit_s")

    def __init__(self, dice: Callable[[], float] = random.random) -> None:
        self._dice = dice
        self._limit_s = _limits.BACKOFF_FIRST_S

    def reset(self) -> None:
        self._limit_s = _limits.BACKOFF_FIRST_S

    def next_s(self) -> float:
        limit_s = self._limit_s
        self._limit_s = min(2 * limit_s, _limits.BACKOFF_MAX_S)
        return limit_s * self._dice()


_HOPELESS = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
}


def is_hopeless(error: errors.TaskraftError) -> bool:
    """True if a stream that ended so will end so every time."""
    return error.code in _HOPELESS
