"""Calls about locks to a node of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from node.clock import Clock
from taskraft.v1 import lock_pb2
from tests.node.single_node import Running, running, until
from tests.sim.state_log import ManualClock

NAME = "locks/l"
PRECONDITION, INVALID = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT


def seconds(length_s: float) -> Duration:
    return Duration(seconds=int(length_s), nanos=round(length_s % 1 * 1e9))


def acquire(node: Running, who: str = "", wait_s: float = 0.0, **fields: Any) -> Any:
    fields.setdefault("name", NAME)
    return node.locks.AcquireLock(lock_pb2.AcquireLockRequest(holder_id=who, wait=seconds(wait_s), **fields))


def release(node: Running, token: int, **fields: Any) -> Any:
    return node.locks.ReleaseLock(lock_pb2.ReleaseLockRequest(name=NAME, token=token, **fields))


async def shown(node: Running, name: str = NAME) -> lock_pb2.Lock:
    answer = await node.locks.GetLock(lock_pb2.GetLockRequest(name=name))
    return answer.lock  # type: ignore[no-any-return]


def waiting(node: Running, count: int, name: str = NAME) -> Any:
    return until(lambda: len(node.machine.lock(name).waiters) == count, f"{count} wait")


class Clocked:
    """A node whose clock the test moves."""

    def __init__(self, node: Running, clock: ManualClock) -> None:
        self.node, self.clock = node, clock

    def pass_time(self, length_ms: int) -> None:
        self.clock.ms += length_ms
        self.node.node.locking.keeper._touch()


@asynccontextmanager
async def clocked(directory: Path) -> AsyncIterator[Clocked]:
    clock = ManualClock(1_000_000)
    async with running(directory, clock=Clock(clock.now_ms, clock.now_ms)) as node:
        yield Clocked(node, clock)


class KeepAlive:
    """A stream of keepalives."""

    def __init__(self, node: Running) -> None:
        self.call: Any = node.locks.KeepAliveLock()
        self.sequence = 0

    async def keep(self, *grants: tuple[str, int]) -> lock_pb2.KeepAliveLockResponse:
        self.sequence += 1
        held = [lock_pb2.HeldLock(name=name, token=token) for name, token in grants]
        await self.call.write(lock_pb2.KeepAliveLockRequest(sequence=self.sequence, locks=held))
        return await self.read()

    async def read(self) -> lock_pb2.KeepAliveLockResponse:
        async with asyncio.timeout(5):
            answer = await self.call.read()
        assert answer is not grpc.aio.EOF
        return answer  # type: ignore[no-any-return]


def kept(answer: lock_pb2.KeepAliveLockResponse) -> Sequence[int]:
    return [each.token for each in answer.kept]


def lost(answer: lock_pb2.KeepAliveLockResponse) -> Sequence[int]:
    return [each.token for each in answer.lost]
