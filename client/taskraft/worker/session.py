"""The worker's end of the Work stream, kept up across leaders.

The reader hands what arrives to the `Listener` at once and waits for nothing; the writer sends what the outbox has
whenever the last write is done; heartbeats and the watch over a silent broker have tasks of their own. A stream that
breaks is opened again at the leader, by the same worker_id and instance_id, and names the leases that are held.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NoReturn, Protocol

import grpc

from taskraft import _limits, errors
from taskraft._retry import Backoff, Deadline, is_hopeless
from taskraft._streams import obey, run_stream
from taskraft.v1 import worker_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from taskraft._pool import Pool
    from taskraft.worker.outbox import Outbox

    Stream = grpc.aio.StreamStreamCall[worker_pb2.WorkRequest, worker_pb2.WorkResponse]

HELD_MAX = 100_000  # the broker's limit of one hello
HEARTBEATS_MISSED_MAX = 3  # unanswered: the stream is taken for dead
WELCOME_S = 5.0  # how long a broker may take to answer hello
REPLACED = "WORKER_REPLACED"  # another process has our worker_id: it would be replaced in turn
OVERDUE_MAX = 10_000  # the broker's limit of one heartbeat
FIND_S = 5.0  # how long one search for the leader may take before it is logged and begun again

_log = logging.getLogger("taskraft.worker")


class Listener(Protocol):
    """What a session tells of its stream; called in the loop, must not block."""

    def held(self) -> Iterable[int]:
        """The leases that are held, outcomes aside."""

    def welcomed(self, lost: set[int]) -> None:
        """A stream is open. Of what was held these leases are lost."""

    def broken(self) -> None:
        """The stream is gone; another one is looked for."""

    def assigned(self, assignments: Sequence[worker_pb2.Assignment]) -> None:
        """Tasks to run."""

    def revoked(self, lease_ids: Sequence[int], reason: worker_pb2.RevokeReason) -> None:
        """Leases to give up."""

    def settled(self) -> None:
        """Outcomes were committed or refused."""

    def drain_requested(self, reason: str) -> None:
        """The broker asks the worker to stop."""

    def load(self) -> float:
        """How busy the worker is, for the next heartbeat."""

    def overdue(self) -> list[int]:
        """Leases that were asked to yield and do not, for the next heartbeat."""


class Session:
    """All streams of one worker, one after the other.

    `hello` is what each of them begins with, `held_lease_ids` aside. `run` returns when `closing` was set and the outbox
    is settled, and raises what makes working impossible, such as QueueNotFound.
    """

    def __init__(self, pool: Pool, hello: worker_pb2.Hello, outbox: Outbox, listener: Listener) -> None:
        self._pool = pool
        self._hello = hello
        self._outbox = outbox
        self._listener = listener
        self._work = asyncio.Event()
        self._heard_s = 0.0
        self._heartbeat_s = _limits.SILENCE_S
        self._sequence = 0
        self._answered = 0
        self.connected = False
        self.closing = False
        self.turnaround_s = 0.0  # smoothed: from writing an outcome to hearing that it is committed
        self._wrote_s: dict[int, float] = {}

    @property
    def silent_s(self) -> float:
        """How long nothing was heard of the broker."""
        return asyncio.get_running_loop().time() - self._heard_s

    def wake(self) -> None:
        """There is something in the outbox, or it is time to close."""
        self._work.set()

    async def run(self) -> None:
        backoff, self._heard_s = Backoff(), asyncio.get_running_loop().time()
        left = told = False
        while not left:
            try:
                address = await self._pool.find(Deadline(FIND_S))
            except errors.Unavailable as error:
                fields = {"addresses": ",".join(self._pool.addresses), "reason": str(error)}
                _log.log(logging.DEBUG if told else logging.WARNING, "no_leader", extra={"fields": fields})
                told = True
                left = self.closing  # nobody is there to be told
                continue
            told = False
            failure = await self._stream(address)
            was_connected, self.connected = self.connected, False
            left = self.closing and self._outbox.settled
            self._outbox.broken()
            self._listener.broken()
            if left:
                continue
            _log.info("stream_ended", extra={"fields": {"address": address, "reason": str(failure)}})
            if (
                is_hopeless(failure)
                or failure.code is grpc.StatusCode.FAILED_PRECONDITION
                or failure.reason == REPLACED
            ):
                raise failure
            self._pool.heed(failure, address)
            if was_connected:
                backoff.reset()
            if self._pool.leader in (None, address):
                await asyncio.sleep(backoff.next_s())

    async def _stream(self, address: str) -> errors.TaskraftError:
        """Keep one stream until it ends; returns why it did."""
        open_stream: grpc.aio.StreamStreamMultiCallable[worker_pb2.WorkRequest, worker_pb2.WorkResponse]
        open_stream = self._pool.channel(address).stream_stream(
            "/taskraft.v1.WorkerService/Work",
            request_serializer=worker_pb2.WorkRequest.SerializeToString,
            response_deserializer=worker_pb2.WorkResponse.FromString,
        )
        stream = open_stream(metadata=self._pool.metadata)
        self._wrote_s.clear()
        self._answered = self._sequence
        welcomed = asyncio.Event()
        asked = [*self._listener.held(), *self._outbox.held()][:HELD_MAX]
        opened_s = asyncio.get_running_loop().time()
        return await run_stream(
            stream,
            self._read(stream, asked, welcomed),
            self._write(stream, asked, welcomed),
            self._beat(welcomed),
            self._watch(address, opened_s, welcomed),
        )

    async def _read(self, stream: Stream, asked: list[int], welcomed: asyncio.Event) -> NoReturn:
        listener, clock = self._listener, asyncio.get_running_loop().time
        while (response := await stream.read()) is not grpc.aio.EOF:
            assert isinstance(response, worker_pb2.WorkResponse)
            self._heard_s = clock()
            match response.WhichOneof("response"):
                case "assign":
                    listener.assigned(response.assign.assignments)
                case "acked":
                    self._time(response.acked.lease_ids)
                    self._outbox.acked(response.acked.lease_ids)
                    listener.settled()
                case "rejected":
                    self._time(response.rejected.lease_ids)
                    self._refused(response.rejected)
                    listener.settled()
                case "revoke":
                    listener.revoked(response.revoke.lease_ids, response.revoke.reason)
                case "welcome":
                    self._welcome(response.welcome, asked)
                    welcomed.set()
                case "heartbeat_ack":
                    self._answered = response.heartbeat_ack.sequence
                case "drain":
                    listener.drain_requested(response.drain.reason)
                case "reconnect":
                    await obey(response.reconnect, self._pool)
            self._work.set()
        raise errors.Unavailable("the broker closed the stream")

    def _refused(self, rejected: worker_pb2.Rejected) -> None:
        """Work that was done and does not count is worth a line; what was stopped anyway is not."""
        done = [one for one in self._outbox.rejected(rejected.lease_ids) if not one.HasField("yield")]
        if done:
            fields = {"leases": [one.lease_id for one in done[:10]], "reason": rejected.reason}
            _log.warning("outcome_refused", extra={"fields": fields})

    def _welcome(self, welcome: worker_pb2.Welcome, asked: list[int]) -> None:
        lost = set(asked).difference(welcome.held_lease_ids)
        self._outbox.forget(lost)
        if interval_s := welcome.heartbeat_interval.ToNanoseconds() / 1e9:
            self._heartbeat_s = interval_s
        self.connected = True
        _log.info(
            "connected",
            extra={
                "fields": {"session": welcome.session_id, "held": len(asked) - len(lost), "lost": len(lost)}
            },
        )
        self._listener.welcomed(lost)

    async def _write(self, stream: Stream, asked: list[int], welcomed: asyncio.Event) -> NoReturn:
        hello = worker_pb2.Hello()
        hello.CopyFrom(self._hello)
        hello.held_lease_ids.extend(asked)
        await stream.write(worker_pb2.WorkRequest(hello=hello))
        await welcomed.wait()
        clock = asyncio.get_running_loop().time
        while True:
            self._work.clear()
            for request in self._outbox.frames():
                if request.HasField("outcomes"):
                    self._wrote_s[request.outcomes.outcomes[0].lease_id] = clock()
                await stream.write(request)
            if self.closing and self._outbox.settled:
                await stream.done_writing()
                await asyncio.sleep(_limits.GOODBYE_S)
                raise errors.ShuttingDown("closed")
            if not self._outbox:
                await self._work.wait()

    def _time(self, lease_ids: Iterable[int]) -> None:
        """Learn how long the broker takes to commit, from the first outcome of each frame."""
        for lease_id in self._wrote_s.keys() & set(lease_ids) if self._wrote_s else ():
            took_s = asyncio.get_running_loop().time() - self._wrote_s.pop(lease_id)
            self.turnaround_s += (took_s - self.turnaround_s) * (0.125 if self.turnaround_s else 1.0)

    async def _beat(self, welcomed: asyncio.Event) -> NoReturn:
        """Say that the worker lives, as often as the broker wants to hear it; end a stream that does not answer."""
        await welcomed.wait()
        while True:
            self._sequence += 1
            self._outbox.heartbeat = worker_pb2.Heartbeat(
                load=self._listener.load(),
                sequence=self._sequence,
                overdue_lease_ids=self._listener.overdue()[:OVERDUE_MAX],
            )
            self._work.set()
            await asyncio.sleep(self._heartbeat_s)
            if (
                self._sequence - self._answered >= HEARTBEATS_MISSED_MAX
                and self.silent_s > self._heartbeat_s * HEARTBEATS_MISSED_MAX
            ):
                raise errors.Unavailable("the broker does not answer heartbeats")

    async def _watch(self, address: str, opened_s: float, welcomed: asyncio.Event) -> NoReturn:
        """Notice a leader that is silent because it is not the leader any more."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_limits.SILENCE_S)
            if not welcomed.is_set() and clock() - opened_s > WELCOME_S:
                raise errors.Unavailable(f"{address} does not answer hello")
            if clock() - max(self._heard_s, opened_s) < _limits.SILENCE_S:
                continue
            await self._pool.check()
            if self._pool.leader not in (None, address):
                raise errors.Unavailable(f"{address} is silent and another node leads")
