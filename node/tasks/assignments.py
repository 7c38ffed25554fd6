"""Assign frames: stored tasks pasted into assignments without decoding them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from node import limits
from node.state.rows import duration
from node.state.task_rows import Leased
from node.wire import length_prefix, varint
from taskraft.v1 import task_pb2, worker_pb2

if TYPE_CHECKING:
    from node.tasks.session import Contents

_A: Final = worker_pb2.Assignment
_TASK: Final = _A.TASK_FIELD_NUMBER
_ASSIGNMENTS: Final = worker_pb2.Assign.ASSIGNMENTS_FIELD_NUMBER
_LEASE_ID: Final = varint(_A.LEASE_ID_FIELD_NUMBER << 3)
_ATTEMPT: Final = varint(_A.ATTEMPT_FIELD_NUMBER << 3)
_PARENT_STATE: Final = varint(worker_pb2.ParentResult.STATE_FIELD_NUMBER << 3)
_OMITTED: Final = varint(worker_pb2.ParentResult.OMITTED_FIELD_NUMBER << 3) + b"\x01"


def assign_frame(chosen: Sequence[tuple[Leased, int | None]], contents: Contents) -> bytes:
    """An encoded WorkResponse that assigns these leases, each with its slice in milliseconds or None.

    A task that is gone meanwhile is left out: its lease has ended, and its worker is told so.
    """
    specs = contents.specs([leased.number for leased, _ in chosen])
    resumed = [leased.number for leased, _ in chosen if leased.has_checkpoint]
    checkpoints = contents.checkpoints(resumed) if resumed else {}
    parts: list[bytes] = []
    for leased, slice_ms in chosen:
        spec = specs.get(leased.number)
        if spec is None:
            continue
        body = [
            _prefix(_TASK, len(spec)),
            spec,
            _LEASE_ID,
            _long(leased.lease_id),
            _terms(leased.attempt, leased.lease_ms),
        ]
        if checkpoint := checkpoints.get(leased.number):
            body += (length_prefix(_A.CHECKPOINT_FIELD_NUMBER, len(checkpoint)), checkpoint)
        if slice_ms is not None:
            body.append(_slice(slice_ms))
        if leased.has_parents:
            body += _parents(leased.number, contents)
        size = sum(map(len, body))
        parts.append(_prefix(_ASSIGNMENTS, size))
        parts += body
    assign = b"".join(parts)
    return length_prefix(worker_pb2.WorkResponse.ASSIGN_FIELD_NUMBER, len(assign)) + assign


def _parents(number: int, contents: Contents) -> list[bytes]:
    """What the parents of a task came to; results beyond the budget are left out, and that is said."""
    parents = contents.parents(number)
    results = contents.results(
        [parent for _, state, parent in parents if state == task_pb2.TASK_STATE_SUCCEEDED]
    )
    budget = limits.PARENT_RESULTS_BYTES_MAX
    parts: list[bytes] = []
    for name, state, parent in parents:
        encoded = name.encode()
        body = length_prefix(worker_pb2.ParentResult.TASK_FIELD_NUMBER, len(encoded)) + encoded
        body += _PARENT_STATE + varint(state)
        result = results.get(parent)
        if result is not None and len(result) <= budget:
            budget -= len(result)
            body += length_prefix(worker_pb2.ParentResult.RESULT_FIELD_NUMBER, len(result)) + result
        elif result is not None:
            body += _OMITTED
        parts += (length_prefix(_A.PARENTS_FIELD_NUMBER, len(body)), body)
    return parts


# Made for every task, and nearly always the same.
_prefix: Final = lru_cache(maxsize=4_096)(length_prefix)
_short: Final = lru_cache(maxsize=1_024)(varint)


def _long(number: int) -> bytes:
    """A varint of three bytes or more; of lease ids only the first two differ within a command."""
    assert number >= 1 << 14
    return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80)) + _short(number >> 14)


@lru_cache(maxsize=1_024)
def _terms(attempt: int, lease_ms: int) -> bytes:
    encoded = duration(lease_ms).SerializeToString()
    return _ATTEMPT + varint(attempt) + length_prefix(_A.LEASE_FIELD_NUMBER, len(encoded)) + encoded


@lru_cache(maxsize=1_024)
def _slice(slice_ms: int) -> bytes:
    encoded = duration(slice_ms).SerializeToString()
    return length_prefix(_A.SLICE_FIELD_NUMBER, len(encoded)) + encoded
