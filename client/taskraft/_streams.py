"""What publishing and consuming share: a stream with its tasks, which end together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc

from taskraft import _failures, _limits, errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from google.protobuf.message import Message

    from taskraft._pool import Pool
    from taskraft.v1 import queue_pb2

_T = TypeVar("_T")


async def run_stream(
    stream: grpc.aio.StreamStreamCall[Any, Any], *parts: Coroutine[Any, Any, NoReturn]
) -> errors.TaskraftError:
    """Run the parts of a stream until one of them fails; returns why, when all have ended."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return reason_of([task.exception() for task in tasks if task in done])
    finally:
        for task in tasks:
            task.cancel()
        stream.cancel()
        await asyncio.wait(tasks)


def reason_of(failures: list[BaseException | None]) -> errors.TaskraftError:
    """Why a stream ended: what we found out ourselves, or else its status. Our own mistakes are raised."""
    for failure in failures:
        if isinstance(failure, errors.TaskraftError):
            return failure
    for failure in failures:
        if isinstance(failure, grpc.aio.AioRpcError):
            return _failures.from_call(failure)
    for failure in failures:
        if failure is not None and not isinstance(
            failure, asyncio.InvalidStateError | asyncio.CancelledError
        ):
            raise failure
    return errors.Unavailable("the stream was closed")


async def answers(
    pool: Pool, address: str, method: str, request: Message, parse: Callable[[bytes], _T]
) -> AsyncGenerator[_T]:
    """What the node at `address` answers to a call that answers with a stream, until it ends that well.

    Raises the TaskraftError that it ends with, Unavailable if the node is silent and another one leads meanwhile.
    """
    open_stream: grpc.aio.UnaryStreamMultiCallable[bytes, _T] = pool.channel(address).unary_stream(
        f"/taskraft.v1.{method}", response_deserializer=parse
    )
    stream = open_stream(request.SerializeToString(), metadata=pool.metadata)
    reading: asyncio.Future[Any] | None = None
    try:
        while True:
            reading = asyncio.ensure_future(stream.read())
            while not (await asyncio.wait([reading], timeout=_limits.SILENCE_S))[0]:
                await pool.check()
                if pool.leader not in (None, address):
                    raise errors.Unavailable(f"{address} is silent and another node leads")
            answer = reading.result()
            if answer is grpc.aio.EOF:
                return
            yield answer
    except grpc.aio.AioRpcError as error:
        raise _failures.from_call(error) from None
    finally:
        stream.cancel()
        if reading is not None and not reading.done():
            reading.cancel()
            await asyncio.wait([reading])


async def obey(advice: queue_pb2.Reconnect, pool: Pool) -> NoReturn:
    """The broker asks for a new stream."""
    for endpoint in advice.endpoints[:1]:
        pool.follow(endpoint)
    await asyncio.sleep(advice.after.ToNanoseconds() / 1e9)
    raise errors.ShuttingDown("the broker asked for a new stream")
