"""What a worker may say: checked before the scheduler hears it. InvalidField names field and limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from node import limits
from node.api import validate
from node.errors import InvalidCredit, InvalidField
from taskraft.v1 import worker_pb2

PROTOCOL_VERSION: Final = 1


def check_hello(hello: worker_pb2.Hello) -> None:
    """The first frame of a stream."""
    if hello.protocol_version != PROTOCOL_VERSION:
        raise InvalidField("hello.protocol_version", f"{PROTOCOL_VERSION}, got {hello.protocol_version}")
    validate.worker_id(hello.worker_id, "hello.worker_id")
    validate.text(hello.instance_id, "hello.instance_id", limits.INSTANCE_ID_CHARS_MAX, 1)
    _count(len(hello.queues), "hello.queues", limits.WORKER_QUEUES_MAX, low=1)
    for at, name in enumerate(hello.queues):
        validate.queue_name(name, f"hello.queues[{at}]")
    _count(len(hello.types), "hello.types", limits.WORKER_TYPES_MAX)
    for at, kind in enumerate(hello.types):
        validate.text(kind, f"hello.types[{at}]", limits.TASK_TYPE_CHARS_MAX, 1)
    _count(len(hello.labels), "hello.labels", limits.LABELS_MAX)
    for key, value in hello.labels.items():
        if not 1 <= len(key.encode()) <= limits.LABEL_KEY_BYTES_MAX:
            raise InvalidField("hello.labels", f"keys of 1 to {limits.LABEL_KEY_BYTES_MAX} bytes")
        if len(value.encode()) > limits.LABEL_VALUE_BYTES_MAX:
            raise InvalidField("hello.labels", f"values of up to {limits.LABEL_VALUE_BYTES_MAX} bytes")
    _capacity(hello.capacity, "hello.capacity")
    _count(len(hello.held_lease_ids), "hello.held_lease_ids", limits.HELD_LEASES_MAX)
    _count(hello.slots, "hello.slots", limits.SLOTS_MAX)


def check_request(request: worker_pb2.WorkRequest) -> None:
    """Any later frame."""
    match request.WhichOneof("request"):
        case "outcomes":
            _count(len(request.outcomes.outcomes), "outcomes.outcomes", limits.OUTCOMES_MAX)
            for at, outcome in enumerate(request.outcomes.outcomes):
                kind = outcome.WhichOneof("kind")
                if kind is None:
                    raise InvalidField(f"outcomes.outcomes[{at}].kind", "result, failure or yield")
                if kind == "result" and len(outcome.result.content_type) > limits.CONTENT_TYPE_CHARS_MAX:
                    field = f"outcomes.outcomes[{at}].result.content_type"
                    raise InvalidField(field, f"at most {limits.CONTENT_TYPE_CHARS_MAX} characters")
        case "received":
            _count(len(request.received.lease_ids), "received.lease_ids", limits.RECEIVED_MAX)
        case "progress":
            _progress(request.progress)
        case "credit":
            _credit(request.credit)
        case "heartbeat":
            _count(
                len(request.heartbeat.overdue_lease_ids), "heartbeat.overdue_lease_ids", limits.OVERDUE_MAX
            )
            if not 0 <= request.heartbeat.load < math.inf:
                raise InvalidField("heartbeat.load", "0 or more, and finite")


def _progress(progress: worker_pb2.ProgressReport) -> None:
    _count(len(progress.tasks), "progress.tasks", limits.PROGRESS_REPORTS_MAX)
    for at, said in enumerate(progress.tasks):
        if not 0 <= said.fraction <= 1:
            raise InvalidField(f"progress.tasks[{at}].fraction", "0 to 1")
        if len(said.checkpoint) > limits.CHECKPOINT_BYTES_MAX:
            limit = f"at most {limits.CHECKPOINT_BYTES_MAX} bytes"
            raise InvalidField(f"progress.tasks[{at}].checkpoint", limit)


def _credit(credit: worker_pb2.WorkCredit) -> None:
    if not 0 <= credit.tasks <= limits.CREDIT_TASKS_MAX:
        raise InvalidCredit("credit.tasks", f"0 to {limits.CREDIT_TASKS_MAX}")
    if not 0 <= credit.bytes <= limits.CREDIT_BYTES_MAX:
        raise InvalidCredit("credit.bytes", f"0 to {limits.CREDIT_BYTES_MAX}")
    _capacity(credit.capacity, "credit.capacity")


def _capacity(capacity: Mapping[str, float], field: str) -> None:
    _count(len(capacity), field, limits.LABELS_MAX)
    for name, value in capacity.items():
        if not 1 <= len(name) <= limits.LABEL_KEY_BYTES_MAX:
            raise InvalidField(field, f"names of 1 to {limits.LABEL_KEY_BYTES_MAX} characters")
        if not 0 <= value < math.inf:
            raise InvalidField(f'{field}["{name}"]', "0 or more, and finite")


def _count(value: int, field: str, high: int, low: int = 0) -> None:
    if not low <= value <= high:
        raise InvalidField(field, f"{low} to {high}, got {value}")
