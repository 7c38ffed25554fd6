"""LockService, on the leader: bytes in, bytes out, ApiError or an error of the log raised."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import grpc
from google.protobuf.message import DecodeError

from node import commands, limits
from node.api import lock_input, validate
from node.api.forward import Context
from node.api.pages import page_token, read_page_token
from node.broker import Broker
from node.errors import ApiError, DiskLow, Internal, Malformed, SlowReader, translate
from node.locking import Locking
from node.locks.calls import refusal
from node.locks.keepalive import Stream
from node.replication import Replicated
from node.state import lock_transitions
from node.state.lock_rows import HELD, LOST, WAITING, LockRow
from node.state.results import Claimed, Success
from node.state.rows import duration
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import lock_pb2

_log = logging.getLogger(__name__)

ITEM_OVERHEAD_BYTES: Final = 8  # what stands before a lock in its page
UNWRITTEN_MAX: Final = 100  # answers to one stream that is not read


class State(Protocol):
    """The part of the state machine that knows locks."""

    def lock(self, name: str) -> LockRow:
        """The lock of the full name; one that is idle has no claims."""
        ...

    def locks(self, after_name: str = "", limit: int = -1) -> Iterator[LockRow]:
        """Locks in use by name, those after one."""
        ...


class Locks:
    """LockService's methods by name."""

    def __init__(
        self,
        *,
        state: State,
        locking: Locking,
        broker: Broker,
        replica: Replicated,
        disk_low: Callable[[], bool],
    ) -> None:
        self._state, self._locking = state, locking
        self._broker, self._replica, self._disk_low = broker, replica, disk_low

    async def AcquireLock(self, data: bytes) -> bytes:
        request = lock_pb2.AcquireLockRequest.FromString(data)
        request_id = validate.request_id(request.request_id)
        acquire, wait_ms = lock_input.acquisition(request)
        if self._disk_low():
            raise DiskLow
        result = await self._commit(command_pb2.Command(request_id=request_id, acquire_lock=acquire))
        assert isinstance(result, Claimed)
        claim = await self._locking.calls.granted(acquire.name, result.number, wait_ms / 1000)
        if claim is None:
            raise refusal(lock_transitions.held(self._state.lock(acquire.name)))
        return lock_pb2.AcquireLockResponse(token=claim.token, ttl=duration(claim.ttl_ms)).SerializeToString()

    async def ReleaseLock(self, data: bytes) -> bytes:
        request = lock_pb2.ReleaseLockRequest.FromString(data)
        request_id = validate.request_id(request.request_id)
        release = lock_input.release(request)
        await self._commit(command_pb2.Command(request_id=request_id, release_lock=release))
        return lock_pb2.ReleaseLockResponse().SerializeToString()

    async def GetLock(self, data: bytes) -> bytes:
        request = lock_pb2.GetLockRequest.FromString(data)
        name = validate.lock_name(request.name)
        await self._replica.read_barrier()
        shown = self._shown(self._state.lock(name), limits.LOCK_CLAIMS_SHOWN)
        return lock_pb2.GetLockResponse(lock=shown).SerializeToString()

    async def ListLocks(self, data: bytes) -> bytes:
        request = lock_pb2.ListLocksRequest.FromString(data)
        size = validate.page_size(request.page_size)
        after = read_page_token(request.page_token)
        await self._replica.read_barrier()
        response = lock_pb2.ListLocksResponse()
        read = written = 0
        for lock in self._state.locks(after, size + 1):
            shown = self._shown(lock, limits.LOCK_CLAIMS_LISTED)
            written += shown.ByteSize() + ITEM_OVERHEAD_BYTES
            over = (
                len(response.locks) == size or read > limits.PAGE_ROWS_MAX or written > limits.PAGE_BYTES_MAX
            )
            if response.locks and over:
                response.next_page_token = page_token(response.locks[-1].name)
                break
            read += len(lock.claims)
            response.locks.append(shown)
        return response.SerializeToString()

    def _shown(self, lock: LockRow, claims_max: int) -> lock_pb2.Lock:
        """A lock with so many of its claims of each kind."""
        left_ms = self._locking.keeper.left_ms
        return lock_pb2.Lock(
            name=lock.name,
            permits=lock.permits if lock.claims else 0,
            holders=[claim.as_holder(left_ms(claim)) for claim in lock.in_state(HELD, claims_max)],
            holder_count=len(lock.holders),
            waiters=[claim.as_waiter() for claim in lock.in_state(WAITING, claims_max)],
            waiter_count=len(lock.waiters),
            lost_holders=[claim.as_lost(left_ms(claim)) for claim in lock.in_state(LOST, claims_max)],
            lost_holder_count=len(lock.lost),
        )

    async def _commit(self, command: command_pb2.Command) -> Success:
        return await self._broker.submit(commands.plain(command))

    # KeepAliveLock ------------------------------------------------------------------------------------------------

    async def KeepAliveLock(self, context: Context) -> None:
        """See the contract. The two directions run as two tasks."""
        stream = self._locking.keepalive.open()
        answers: list[lock_pb2.KeepAliveLockResponse] = []
        reading = asyncio.create_task(self._read(context, stream, answers))
        reading.add_done_callback(lambda _: stream.signal.set())
        try:
            while True:
                stream.signal.clear()
                if answers:
                    await context.write(answers.pop(0).SerializeToString())
                elif (news := stream.news()) is not None:
                    await context.write(news.SerializeToString())
                elif stream.error is not None:
                    raise stream.error
                elif reading.done():
                    return
                else:
                    await stream.signal.wait()
        finally:
            reading.cancel()
            self._locking.keepalive.close(stream)
            await asyncio.wait([reading])

    async def _read(
        self, context: Context, stream: Stream, answers: list[lock_pb2.KeepAliveLockResponse]
    ) -> None:
        """Keep alive what the client asks for until it is done, one request after the other; whatever goes wrong ends the
        stream.
        """
        try:
            while (data := await context.read()) is not grpc.aio.EOF:  # type: ignore[comparison-overlap]
                request = lock_pb2.KeepAliveLockRequest.FromString(data)
                grants = lock_input.grants(request)
                answers.append(await self._locking.keepalive.keep(stream, request.sequence, grants))
                stream.signal.set()
                if len(answers) > UNWRITTEN_MAX:
                    raise SlowReader
        except DecodeError:
            stream.end(Malformed())
        except Exception as error:  # noqa: BLE001  one stream ends, the node goes on
            stream.end(_error(error))


def _error(error: Exception) -> ApiError:
    answer = translate(error)
    if answer is None:
        _log.error("stream_failed", extra={"fields": {"stream": "KeepAliveLock"}}, exc_info=error)
        return Internal()
    return answer
