"""Tasks as they are handed in: the settings a caller may give, and their wire bytes, built by hand.

What is the same for every call of a task function is encoded once (`head`); a submit adds its id, payload and
dependencies. Protobuf lets fields come in any order, so that the parts are only joined.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypedDict

from taskraft._handle import Handle
from taskraft._task_values import Condition
from taskraft._times import duration
from taskraft._wire import varint
from taskraft.v1 import task_pb2

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

_TASKS_KEY = bytes([1 << 3 | 2])  # SubmitTasksRequest.tasks
_NAME_KEY = bytes([1 << 3 | 2])  # Task.name
_PAYLOAD_KEY = bytes([4 << 3 | 2])  # Task.payload
_RANDOM_BITS = 60
_COUNT_BITS = 20


class TaskSettings(TypedDict, total=False):
    """What a task function says of all its tasks. Lengths of time are in seconds; what is not given, the queue decides."""

    priority: int
    """-1000 to 1000, higher first where the queue's policy is priority; also decides about REPLACED and preemption."""
    size: float
    """Expected run time; without it, it is learned from earlier tasks of the type."""
    resources: Mapping[str, float]
    """What it takes of its worker while it runs, such as {"cpu": 2}; positive."""
    worker_labels: Mapping[str, str]
    """Labels that its worker must have."""
    lease: float
    """How long its worker may be silent before it is given to another one, 1 s to 12 h."""
    max_attempts: int
    """How often it is tried, 1 to 1000."""
    backoff: float
    """The pause after the first failed attempt; doubles with each one."""
    timeout: float
    """Longest run of one attempt, 1 s to 30 d."""
    tenant: str
    """On whose account it runs, for fair share."""
    limit_key: str
    """What the queue's limits per key count by."""
    preemptible: bool
    """True if it may be stopped for a task of higher priority, where its queue allows that."""
    labels: Mapping[str, str]
    """Attributes to search by."""
    headers: Mapping[str, str]
    """For the worker and for tracing, handed over as they are."""


@dataclass(frozen=True, slots=True)
class After:
    """A dependency: start when `task` has come to what `condition` asks.

    "succeeded": it succeeded; if it ends otherwise, the dependent task fails. "any_succeeded": at least one of the
    dependencies with this condition succeeded. "ended": it ended, in whatever way.
    """

    task: Handle[Any] | str
    condition: Condition = "succeeded"

    @property
    def id(self) -> str:
        return self.task.id if isinstance(self.task, Handle) else self.task


Dependency = Handle[Any] | str | After


class SubmitSettings(TaskSettings, total=False):
    """What `options` can set for single tasks, besides the settings of their function."""

    queue: str
    id: str
    """1 to 128 of letters, digits, `.`, `_`, `-`, `:`; the same id again is REPLACED or ALREADY_SCHEDULED."""
    after: Dependency | Iterable[Dependency]
    """What must have ended before: handles, ids or After."""
    delay: float
    """Not started before so many seconds from the submit."""
    not_before: datetime
    """Not started before this time."""
    deadline: datetime | float
    """Should have ended by then, or so many seconds after the submit; EXPIRED if it has not even started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task to submit through `client.tasks`: as it is, with payload bytes. Lengths of time are in seconds.

    An empty `id` stands for one that the client makes. For what the fields mean see TaskSettings and SubmitSettings;
    None and 0 stand for what the queue decides.
    """

    type: str
    queue: str
    id: str = ""
    payload: bytes = b""
    content_type: str = "application/json"
    priority: int = 0
    size: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    worker_labels: Mapping[str, str] = field(default_factory=dict)
    after: Sequence[Dependency] = ()
    delay: float = 0.0
    not_before: datetime | None = None
    deadline: datetime | float | None = None
    lease: float | None = None
    max_attempts: int = 0
    backoff: float | None = None
    timeout: float | None = None
    tenant: str = ""
    limit_key: str = ""
    preemptible: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def wire(self, task_id: str) -> bytes:
        """The task as an element of SubmitTasksRequest.tasks."""
        ending = tail(
            dependencies(self.after), delay=self.delay, not_before=self.not_before, deadline=self.deadline
        )
        return element(self._head(), task_id, self.payload, ending)

    def proto(self) -> task_pb2.Task:
        """The task as a message, without a name, dependencies and times."""
        task = task_pb2.Task.FromString(self._head())
        task.payload = self.payload
        return task

    def _head(self) -> bytes:
        given = _settings_of(self)
        if given == _NOTHING_SET:
            return _plain_head(self.type, self.queue, self.content_type)
        return head(self.type, self.queue, self.content_type, dict(zip(_SETTINGS, given, strict=True)))


_SETTINGS = tuple(TaskSettings.__annotations__)
_settings_of = attrgetter(*_SETTINGS)
_NOTHING_SET = _settings_of(NewTask(type="", queue=""))
_CONDITIONS: dict[Condition, task_pb2.DependencyCondition] = {
    "succeeded": task_pb2.DEPENDENCY_CONDITION_SUCCEEDED,
    "any_succeeded": task_pb2.DEPENDENCY_CONDITION_ANY_SUCCEEDED,
    "ended": task_pb2.DEPENDENCY_CONDITION_ENDED,
}
_LENGTHS = ("size", "lease", "backoff", "timeout")
_MAPS = ("resources", "worker_labels", "labels", "headers")

assert {one.name for one in fields(NewTask)} >= {*_SETTINGS, *SubmitSettings.__annotations__}


def head(task_type: str, queue: str, content_type: str, settings: Mapping[str, Any]) -> bytes:
    """The fields of a Task that are the same for many of them. TypeError names a setting that has a wrong type."""
    task = task_pb2.Task(queue=f"queues/{queue}", type=task_type, content_type=content_type)
    for name, value in settings.items():
        if value is None:
            continue
        try:
            if name in _LENGTHS:
                length: Duration = getattr(task, name)
                length.CopyFrom(duration(value))
                length.SetInParent()  # zero is a value too, and refused
            elif name in _MAPS:
                getattr(task, name).update(value)
            else:
                setattr(task, name, value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}={value!r} is not what the setting takes: {error}") from None
    return task.SerializeToString()


@lru_cache(maxsize=256)
def _plain_head(task_type: str, queue: str, content_type: str) -> bytes:
    """The head of tasks for which the queue decides everything: most of them, and few different ones."""
    return head(task_type, queue, content_type, {})


def as_dependencies(after: Dependency | Iterable[Dependency]) -> tuple[Dependency, ...]:
    """One dependency or several, as `after` takes them."""
    return (after,) if isinstance(after, Handle | str | After) else tuple(after)


def dependencies(after: Iterable[Dependency], parents: Iterable[str] = ()) -> list[task_pb2.Dependency]:
    """The edges to `after` and, where it does not name them, to `parents`, whose results are needed."""
    edges: dict[str, Condition] = {}
    for one in after:
        edge = one if isinstance(one, After) else After(one)
        if edge.condition not in _CONDITIONS:
            raise ValueError(f"a condition is one of {', '.join(_CONDITIONS)}, not {edge.condition!r}")
        edges.setdefault(edge.id.removeprefix("tasks/"), edge.condition)
    for parent in parents:
        edges.setdefault(parent, "succeeded")
    return [_edge(task_id, condition) for task_id, condition in edges.items()]


def _edge(task_id: str, condition: Condition) -> task_pb2.Dependency:
    return task_pb2.Dependency(task=f"tasks/{task_id}", condition=_CONDITIONS[condition])


def tail(
    edges: list[task_pb2.Dependency],
    *,
    delay: float = 0.0,
    not_before: datetime | None = None,
    deadline: datetime | float | None = None,
) -> bytes:
    """The fields of a Task that depend on when it is submitted."""
    if not edges and not delay and not_before is None and deadline is None:
        return b""
    task = task_pb2.Task(dependencies=edges)
    now = datetime.now(UTC)
    if delay or not_before is not None:
        start = now + timedelta(seconds=delay) if delay else now
        task.not_before.FromDatetime(_aware(max(start, _aware(not_before)) if not_before else start))
    if deadline is not None:
        end = deadline if isinstance(deadline, datetime) else now + timedelta(seconds=deadline)
        task.deadline.FromDatetime(_aware(end))
    return task.SerializeToString()


def _aware(moment: datetime) -> datetime:
    """A time without a zone is local."""
    return moment.astimezone(UTC)


def element(start: bytes, task_id: str, payload: bytes, ending: bytes = b"") -> bytes:
    """One task as an element of SubmitTasksRequest.tasks."""
    name = b"tasks/" + task_id.encode()
    content = b"".join(
        (start, _NAME_KEY, varint(len(name)), name, _PAYLOAD_KEY, varint(len(payload)), payload, ending)
    )
    return b"%b%b%b" % (_TASKS_KEY, varint(len(content)), content)


class Ids:
    """Makes task ids: 32 hexadecimal digits that grow with time, so that the brokers' indexes grow at their end.

    As in version 7 of UUID (RFC 9562) milliseconds since 1970 come first; then a counter of 20 bits and 60 random
    bits that are the same for all ids of a process. Any thread may use it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self.renew()

    def renew(self) -> None:
        """Be another source of ids, with other random bits."""
        self._suffix = f"{int.from_bytes(os.urandom(8)) >> (64 - _RANDOM_BITS):0{_RANDOM_BITS // 4}x}"

    def one(self) -> str:
        return self.take(1)[0]

    def take(self, count: int) -> list[str]:
        """So many ids, in order."""
        with self._lock:
            first = max(self._last + 1, time.time_ns() // 1_000_000 << _COUNT_BITS)
            self._last = first + count - 1
        suffix = self._suffix
        return [f"{number:017x}{suffix}" for number in range(first, first + count)]


IDS = Ids()
os.register_at_fork(after_in_child=IDS.renew)
