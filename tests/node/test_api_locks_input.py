"""What LockService refuses before anything is written, field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from taskraft.v1 import lock_pb2
from tests.node.lock_calls import INVALID, NAME, acquire, release, seconds
from tests.node.single_node import refusal, refusal_of, run, running

BAD_ACQUISITIONS: dict[str, dict[str, Any]] = {
    "name": {"name": "l"},
    "mode": {"mode": 9},
    "permits": {"permits": 3},
    "ttl": {"ttl": seconds(0.5)},
    "wait": {"wait": seconds(25 * 3600)},
    "lock_delay": {"lock_delay": seconds(61)},
    "holder_id": {"holder_id": "x" * 129},
    "labels": {"labels": {f"k{place}": "" for place in range(33)}},
    "request_id": {"request_id": "r" * 65},
}


@pytest.mark.parametrize("field", BAD_ACQUISITIONS)
def test_a_bad_acquisition_is_refused_by_the_name_of_its_field(field: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            fields: dict[str, Any] = {"name": NAME, **BAD_ACQUISITIONS[field]}
            request = lock_pb2.AcquireLockRequest(**fields)

            code, reason, metadata = await refusal(node.locks.AcquireLock(request))

            assert (code, reason, metadata["field"]) == (INVALID, "INVALID_FIELD", field)
            assert list(node.machine.locks()) == []

    run(story())


@pytest.mark.parametrize("permits", [0, 10_001])
def test_a_semaphore_has_1_to_10000_permits(permits: int, tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            call = acquire(node, mode=lock_pb2.LOCK_MODE_SEMAPHORE, permits=permits)
            code, _, metadata = await refusal(call)

            assert (code, metadata["field"], metadata["limit"]) == (INVALID, "permits", "1 to 10000")

    run(story())


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("sequence", lock_pb2.KeepAliveLockRequest(locks=[lock_pb2.HeldLock(name=NAME, token=1)])),
        ("locks", lock_pb2.KeepAliveLockRequest(sequence=1)),
        (
            "locks[0].name",
            lock_pb2.KeepAliveLockRequest(sequence=1, locks=[lock_pb2.HeldLock(token=1)]),
        ),
        (
            "locks[1].token",
            lock_pb2.KeepAliveLockRequest(
                sequence=1, locks=[lock_pb2.HeldLock(name=NAME, token=1), lock_pb2.HeldLock(name=NAME)]
            ),
        ),
    ],
)
def test_a_bad_keepalive_ends_its_stream(
    field: str, request_: lock_pb2.KeepAliveLockRequest, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            call: Any = node.locks.KeepAliveLock()
            await call.write(request_)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                while await call.read() is not grpc.aio.EOF:
                    pass
            code, _, metadata = refusal_of(caught.value)
            assert (code, metadata["field"]) == (INVALID, field)

    run(story())


def test_releases_and_pages_are_checked(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            assert (await refusal(release(node, 0)))[2]["field"] == "token"
            bad_page = node.locks.ListLocks(lock_pb2.ListLocksRequest(page_token="*"))
            assert (await refusal(bad_page))[2]["field"] == "page_token"
            bad_name = node.locks.GetLock(lock_pb2.GetLockRequest(name="locks/a b"))
            assert (await refusal(bad_name))[2]["field"] == "name"

    run(story())
