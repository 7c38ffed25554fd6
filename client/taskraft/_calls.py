"""Unary calls to the leader, repeated until they succeed, fail for good or run out of time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import grpc

from taskraft import _failures, _limits, errors
from taskraft._retry import Backoff, Deadline, is_transient

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from taskraft._pool import Pool

_T = TypeVar("_T")


async def call(
    pool: Pool,
    method: str,
    request: Message | bytes | Callable[[], bytes],
    answer: Callable[[bytes], _T],
    *,
    timeout_s: float,
) -> _T:
    """Call `method` ("QueueService/Publish") on the leader. A `request` that can be called is made anew for each attempt.

    The same request, and so the same request_id, is sent again after UNAVAILABLE, NOT_LEADER, NO_LEADER,
    COMMIT_UNKNOWN and OVERLOADED. When the time is over, the last failure is raised, or DeadlineExceeded if there
    was none.
    """
    deadline, backoff = Deadline(timeout_s), Backoff()
    if not isinstance(request, bytes) and not callable(request):
        request = request.SerializeToString()
    failure: errors.TaskraftError = errors.DeadlineExceeded(f"no answer in {timeout_s:g} s")
    while True:
        address = await pool.find(deadline)
        try:
            wire = request if isinstance(request, bytes) else request()
            return answer(await _try(pool, address, method, wire, deadline))
        except grpc.aio.AioRpcError as error:
            reason = _failures.from_call(error)
        if isinstance(reason, errors.DeadlineExceeded) and reason.reason == "DEADLINE_EXCEEDED":
            raise failure
        if not is_transient(reason):
            raise reason
        failure = reason
        pool.heed(reason, address)
        if pool.leader in (None, address):
            await asyncio.sleep(min(backoff.next_s(), max(0.0, deadline.left_s())))
        if deadline.left_s() <= 0:
            raise failure


async def _try(pool: Pool, address: str, method: str, wire: bytes, deadline: Deadline) -> bytes:
    """One attempt; given up as UNAVAILABLE when the node is silent and another one leads meanwhile."""
    send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = pool.channel(address).unary_unary(
        f"/taskraft.v1.{method}"
    )
    attempt = send(wire, timeout=max(0.001, deadline.left_s()), metadata=pool.metadata)
    answer = asyncio.ensure_future(_answer(attempt))
    try:
        while not (await asyncio.wait([answer], timeout=_limits.SILENCE_S))[0]:
            await pool.check()
            if pool.leader not in (None, address):
                raise _gone(address)
        return answer.result()
    finally:
        if not answer.done():
            answer.cancel()


async def _answer(attempt: grpc.aio.UnaryUnaryCall[bytes, bytes]) -> bytes:
    return await attempt


def _gone(address: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        details=f"{address} is silent and another node leads",
    )
