"""What a task may say, whether it is submitted or belongs to a schedule, and what the requests about tasks may.

A submit can bring 10,000 tasks at once while everything else waits, so only fields that are set are looked at. What
the server sets is cleared, so that nobody can pretend it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from math import isfinite
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from node import limits
from node.api import validate
from node.errors import Cycle, InvalidField, PayloadTooLarge
from node.workflow_graph import describe, find_cycle
from taskraft.v1 import task_pb2

CYCLE_TASKS_NAMED: Final = 10  # in an error's metadata, which travels in HTTP/2 headers
NAME_BYTES: Final = 10  # of chance in the names of one call's tasks
_NAMES: Final = validate.TASK_ID.fullmatch
_PREFIX_CHARS: Final = len(validate.TASKS)

assert _PREFIX_CHARS + 2 * NAME_BYTES + len(f"-{limits.SUBMIT_TASKS_MAX}") < limits.TASK_NAME_BYTES_MADE


# Submitting -------------------------------------------------------------------------------------------------------


def submission(request: task_pb2.SubmitTasksRequest, size: int) -> set[str]:
    """Check and complete a submit of `size` bytes in place; returns the names of the queues that it names.

    What is left in it is an internal.v1.SubmitTasks with `request_id` and `validate_only` beside. Raises InvalidField,
    PayloadTooLarge, Cycle.
    """
    if size > limits.SUBMIT_BYTES_MAX:
        raise PayloadTooLarge("tasks", f"at most {limits.SUBMIT_BYTES_MAX} bytes together", bytes=size)
    if not 1 <= len(request.tasks) <= limits.SUBMIT_TASKS_MAX:
        raise InvalidField("tasks", f"1 to {limits.SUBMIT_TASKS_MAX} tasks")
    validate.request_id(request.request_id)
    request.DiscardUnknownFields()
    if request.HasField("workflow"):
        workflow(request.workflow)
    made = made_names(request.request_id)
    known, place = Known(), 0
    try:
        for task in request.tasks:
            name = task.name
            if not name:
                name = task.name = f"{made}{place}"
            elif not name.startswith(validate.TASKS) or not _NAMES(name, _PREFIX_CHARS):
                validate.task_name(name)
            content(task, known)
            known.tasks.add(name)
            place += 1
    except InvalidField as error:
        raise error.within(f"tasks[{place}].") from None
    if not known.ahead.isdisjoint(known.tasks):
        acyclic(request.tasks)
    return known.queues


def made_names(request_id: str) -> str:
    """What the names begin with that the server makes for one call; the same for a retry, which is answered with them."""
    made = secrets.token_bytes(NAME_BYTES)
    if request_id:
        made = blake2b(request_id.encode(), digest_size=NAME_BYTES).digest()
    return f"{validate.TASKS}{made.hex()}-"


def workflow(given: task_pb2.Workflow) -> None:
    """Check a workflow to be made, and leave only name and labels in it."""
    validate.workflow_name(given.name, "workflow.name")
    validate.labels(given.labels, "workflow.labels")
    for field in ("state", "counts", "create_time", "end_time"):
        given.ClearField(field)


def acyclic(tasks: Iterable[task_pb2.Task]) -> None:
    """Raises Cycle. Only tasks of one submit can form one: all others are older than what depends on them."""
    parents: dict[str, list[str]] = {}
    for task in tasks:
        parents.setdefault(task.name, [each.task for each in task.dependencies])
    if cycle := find_cycle(parents):
        shown = (
            describe(cycle)
            if len(cycle) <= CYCLE_TASKS_NAMED
            else f"{' -> '.join(cycle[:CYCLE_TASKS_NAMED])} -> ..."
        )
        raise Cycle(f"these tasks wait for each other: {shown}", cycle=shown, tasks=len(cycle))


# One task ---------------------------------------------------------------------------------------------------------


class Known:
    """What is known to be right, so that it need not be checked again for each task of a submit."""

    __slots__ = ("ahead", "queues", "tasks")

    def __init__(self) -> None:
        self.queues: set[str] = set()
        self.tasks: set[str] = set()
        """Names of the tasks so far."""
        self.ahead: set[str] = set()
        """What they depend on that was not among them when they came."""


def content(task: task_pb2.Task, known: Known) -> None:
    """Check all of a task but its name, in place.

    Raises InvalidField and PayloadTooLarge with the field's name within the task.
    """
    if task.queue not in known.queues:
        known.queues.add(validate.queue_name(task.queue, "queue"))
    if not task.type:
        validate.text("", "type", limits.TASK_TYPE_CHARS_MAX, 1)
    for field, value in task.ListFields():
        number = field.number
        length_max = _LENGTHS.get(number)
        if length_max is not None:
            if len(value) > length_max:
                _too_long(value, field.name, length_max)
        elif number in _FREE:
            continue
        elif (name := field.name) in CHECKS:
            CHECKS[name](value, name)
        elif name == "dependencies":
            _dependencies(value, known)
        else:
            task.ClearField(name)


def _too_long(value: str | bytes, field: str, length_max: int) -> None:
    if isinstance(value, bytes):
        raise PayloadTooLarge(field, f"at most {length_max} bytes", bytes=len(value))
    validate.text(value, field, length_max)


def _length(low_ms: int, high_ms: int) -> Callable[[Duration, str], None]:
    def check(value: Duration, field: str) -> None:
        validate.duration_ms(value, field, low_ms, high_ms)

    return check


def _labels(labels_max: int) -> Callable[[Mapping[str, str], str], None]:
    def check(value: Mapping[str, str], field: str) -> None:
        validate.labels(value, field, labels_max)

    return check


def _priority(value: int, field: str) -> None:
    if not -limits.PRIORITY_MAX <= value <= limits.PRIORITY_MAX:
        raise InvalidField(field, f"-{limits.PRIORITY_MAX} to {limits.PRIORITY_MAX}")


def _attempts(value: int, field: str) -> None:
    if value > limits.ATTEMPTS_MAX:
        raise InvalidField(field, f"1 to {limits.ATTEMPTS_MAX}, or 0 for the queue's")


def _time(value: Timestamp, field: str) -> None:
    validate.timestamp_ms(value, field)


def _resources(value: Mapping[str, float], field: str) -> None:
    if len(value) > limits.RESOURCES_MAX:
        raise InvalidField(field, f"at most {limits.RESOURCES_MAX} resources")
    for key in value:
        amount = value[key]
        if not 1 <= len(key.encode()) <= limits.LABEL_KEY_BYTES_MAX:
            raise InvalidField(field, f"resources with names of 1 to {limits.LABEL_KEY_BYTES_MAX} bytes")
        if not (amount > 0 and isfinite(amount)):
            raise InvalidField(f"{field}[{validate.quoted(key)}]", "a number above 0")


def _dependencies(given: Sequence[task_pb2.Dependency], known: Known) -> None:
    if len(given) > limits.DEPENDENCIES_MAX:
        raise InvalidField("dependencies", f"at most {limits.DEPENDENCIES_MAX} dependencies")
    for place, each in enumerate(given):
        name = each.task
        if name not in known.tasks:
            known.ahead.add(validate.task_name(name, f"dependencies[{place}].task"))
        if each.condition not in CONDITIONS:
            raise InvalidField(f"dependencies[{place}].condition", "a known condition")


CONDITIONS: Final = frozenset(task_pb2.DependencyCondition.values())

LENGTHS: Final = {
    "type": limits.TASK_TYPE_CHARS_MAX,
    "payload": limits.PAYLOAD_BYTES_MAX,
    "content_type": limits.CONTENT_TYPE_CHARS_MAX,
    "tenant": limits.TENANT_CHARS_MAX,
    "limit_key": limits.LIMIT_KEY_CHARS_MAX,
}
"""The fields of which only the length matters: characters, bytes of a payload."""

CHECKS: Final[Mapping[str, Callable[[Any, str], None]]] = {
    "labels": _labels(limits.LABELS_MAX),
    "priority": _priority,
    "size": _length(0, limits.SIZE_MS_MAX),
    "resources": _resources,
    "worker_labels": _labels(limits.WORKER_LABELS_MAX),
    "not_before": _time,
    "deadline": _time,
    "lease": _length(limits.LEASE_MS_MIN, limits.LEASE_MS_MAX),
    "max_attempts": _attempts,
    "backoff": _length(limits.BACKOFF_MS_MIN, limits.BACKOFF_MS_MAX),
    "timeout": _length(limits.TASK_TIMEOUT_MS_MIN, limits.TASK_TIMEOUT_MS_MAX),
    "headers": _labels(limits.LABELS_MAX),
}
"""What else is checked of the fields that are the submitter's to set."""

FREE: Final = frozenset({"name", "queue", "preemptible"})
"""Those that are checked elsewhere, or are always right; fields in none of these three are the server's."""

_FIELDS: Final = task_pb2.Task.DESCRIPTOR.fields_by_name
_LENGTHS: Final = {_FIELDS[name].number: length_max for name, length_max in LENGTHS.items()}
_FREE: Final = frozenset(_FIELDS[name].number for name in FREE)
"""The same by number: to ask a descriptor for its name takes longer than most checks."""
