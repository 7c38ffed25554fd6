"""The root of all errors, and what errors of tasks are made of; see `taskraft.errors`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import grpc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskraft._values import Receipt


class TaskraftError(Exception):
    """taskraft could not do what was asked."""

    default_reason: ClassVar[str] = "UNKNOWN"
    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        code: grpc.StatusCode | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message or (type(self).__doc__ or "").split("\n")[0])
        self.message = str(self.args[0])
        self.reason = reason or self.default_reason
        self.code = code or self.default_code
        self.metadata = dict(metadata or {})
        self.hint = ""
        """What to look at or to do; empty where there is no more to say."""
        self.receipts: tuple[Receipt, ...] = ()
        """What `publish_many` had stored all the same when another part of it failed."""
        self.submitted: tuple[str, ...] = ()
        """The ids of the tasks that `map` or `submit_many` had stored all the same when another part of it failed."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}{f'. {self.hint}' if self.hint else ''}"


class DeadlineExceeded(TaskraftError):
    """There was no answer in time; it may or may not have been done."""

    default_reason = "DEADLINE_EXCEEDED"
    default_code = grpc.StatusCode.DEADLINE_EXCEEDED
