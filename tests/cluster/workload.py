"""Producers and consumers of one queue, as a program that writes down all that happens to them.

It runs in the clients' room until it reads `finish` from its standard input: then the producers stop, the
consumers go on until the queue is empty, and the program ends with 0. Every event goes to the history file
as soon as it is known, in the form of tests/cluster/history.py.

Consumers take turns in how they confirm: the odd ones ask for each batch and wait, the even ones take
message by message and settle now and then.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import grpc

from taskraft import Client, Consumer
from taskraft.errors import CommitUnknown, InvalidArgument, LeaseLost, QueueFull, TaskraftError
from taskraft.v1 import cluster_pb2, cluster_pb2_grpc
from tests.cluster.history import Acked, Delivered, Disturbed, Event, Nacked, Published, dump

_AROUND_ELECTION_MS = 2_000
"""A change of leader that any node reports may send messages back this long before and after it."""
_NACK_EVERY = 199
_SETTLE_EVERY = 40
_RETRY_S = 0.05


def now_ms() -> float:
    """The machine's monotonic clock, which all processes share."""
    return time.monotonic() * 1000


class Recorder:
    """Appends events to the history file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def add(self, event: Event) -> None:
        """Writes one line, complete when this returns."""
        self._file.write(dump(event) + "\n")
        self._file.flush()

    def acked(self, consumer: str, sequences: Iterable[int]) -> None:
        """Notes confirmed acknowledgements, as few ranges as there are."""
        at_ms = now_ms()
        for first, last in spans(sequences):
            self.add(Acked(consumer=consumer, first=first, last=last, at_ms=at_ms))


def spans(sequences: Iterable[int]) -> list[tuple[int, int]]:
    """The ranges that cover exactly these numbers."""
    found: list[tuple[int, int]] = []
    for sequence in sorted(sequences):
        if found and found[-1][1] + 1 == sequence:
            found[-1] = (found[-1][0], sequence)
        else:
            found.append((sequence, sequence))
    return found


def name_of(body: bytes) -> str:
    """The part of a body that says which one it is."""
    return body.partition(b"|")[0].decode()


class Workload:
    """All producers and consumers, and the file they write to."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._record = Recorder(options.history)
        self._finishing = asyncio.Event()
        self._producers_done = False

    def _client(self) -> Client:
        return Client(self._options.addresses, timeout=self._options.timeout)

    async def run(self) -> None:
        """From the creation of the queue until it is empty again."""
        async with self._client() as client, asyncio.TaskGroup() as group:
            options = self._options
            await client.create_queue(options.queue, ack_deadline=options.lease)
            consumers: list[asyncio.Task[None]] = []

            def start_consumers() -> None:
                consumers.extend(
                    group.create_task(self._consume(number)) for number in range(1, options.consumers + 1)
                )

            watches = [group.create_task(self._watch(each)) for each in options.addresses.split(",")]
            producers = [
                group.create_task(self._produce(f"p{number}")) for number in range(1, options.producers + 1)
            ]
            if not options.late:
                start_consumers()
            drained = group.create_task(self._drained(client))
            await asyncio.to_thread(sys.stdin.readline)
            self._finishing.set()
            await asyncio.wait(producers)
            self._producers_done = True
            if options.late:
                start_consumers()
            await drained
            for task in [*watches, *consumers]:
                task.cancel()

    async def _drained(self, client: Client) -> None:
        """Reads how many messages the queue has, all the time, until it is empty at the end."""
        while (await client.get_queue(self._options.queue)).stats.messages > 0 or not self._producers_done:
            await asyncio.sleep(_RETRY_S)

    async def _produce(self, name: str) -> None:
        """Publishes batch after batch, at the pace asked for, and never the same body twice."""
        options = self._options
        padding = b"|" + b"." * options.body_bytes
        number, due = 0, time.monotonic()
        async with self._client() as client:
            queue = client.queue(options.queue)
            while not self._finishing.is_set():
                first, number = number + 1, number + options.batch
                bodies = [f"{name}:{each}".encode() + padding for each in range(first, number + 1)]
                began_ms = now_ms()
                sequence, error = 0, None
                try:
                    (receipt,) = await queue.publish_many(bodies)
                    assert receipt.count == len(bodies)
                    sequence = receipt.first_sequence
                except TaskraftError as refused:
                    error = refused
                self._record.add(
                    Published(
                        producer=name,
                        first=first,
                        last=number,
                        outcome="ok"
                        if error is None
                        else "refused"
                        if isinstance(error, QueueFull | InvalidArgument)
                        else "unknown",
                        began_ms=began_ms,
                        at_ms=now_ms(),
                        first_sequence=sequence,
                        reason=error.reason if error is not None else "",
                    )
                )
                due = max(due + options.batch / options.rate, time.monotonic() + (_RETRY_S if error else 0))
                await asyncio.sleep(due - time.monotonic())

    async def _consume(self, number: int) -> None:
        name = f"c{number}"
        async with (
            self._client() as client,
            client.queue(self._options.queue).consume(
                prefetch=self._options.prefetch, consumer_id=name
            ) as consumer,
        ):
            if number % 2:
                await self._batch_by_batch(name, consumer)
            else:
                await self._message_by_message(name, consumer)

    async def _batch_by_batch(self, name: str, consumer: Consumer) -> None:
        async for batch in consumer.batches():
            self._delivered(name, batch.first_sequence, batch.bodies(), batch.attempt)
            try:
                await batch.ack(confirm=True)
            except (LeaseLost, CommitUnknown):
                continue
            self._record.acked(name, range(batch.first_sequence, batch.first_sequence + len(batch)))

    async def _message_by_message(self, name: str, consumer: Consumer) -> None:
        handed_over: set[int] = set()
        async for message in consumer:
            self._delivered(name, message.sequence, [message.body], message.attempt)
            if message.sequence % _NACK_EVERY == 0 and message.attempt == 1:
                sequence = message.sequence
                self._record.add(Nacked(consumer=name, first=sequence, last=sequence, at_ms=now_ms()))
                await message.nack()
                continue
            await message.ack()
            handed_over.add(message.sequence)
            if len(handed_over) >= _SETTLE_EVERY:
                for lost in await consumer.settle():
                    handed_over.difference_update(range(lost.first, lost.last + 1))
                self._record.acked(name, handed_over)
                handed_over.clear()

    def _delivered(self, name: str, first_sequence: int, bodies: list[bytes], attempt: int) -> None:
        self._record.add(
            Delivered(
                consumer=name,
                first_sequence=first_sequence,
                bodies=tuple(map(name_of, bodies)),
                attempt=attempt,
                at_ms=now_ms(),
            )
        )

    async def _watch(self, address: str) -> None:
        """Writes down each change of leader that this node reports."""
        known: tuple[str, int] | None = None
        async with grpc.aio.insecure_channel(address) as channel:
            stub = cluster_pb2_grpc.ClusterServiceStub(channel)
            while True:
                try:
                    async for answer in stub.WatchCluster(cluster_pb2.WatchClusterRequest()):
                        seen = (answer.cluster.leader_id, answer.cluster.term)
                        if known is not None and seen != known:
                            self._elected(seen[1])
                        known = seen
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(_RETRY_S)

    def _elected(self, term: int) -> None:
        around = {"began_ms": now_ms() - _AROUND_ELECTION_MS, "at_ms": now_ms() + _AROUND_ELECTION_MS}
        self._record.add(Disturbed(cause=f"change of leader, term {term}", **around))


def options() -> argparse.Namespace:
    """What the test asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--addresses", required=True, help="gRPC addresses, separated by commas")
    parser.add_argument("--queue", required=True, help="the queue, which is created")
    parser.add_argument("--history", type=Path, required=True, help="the file to append events to")
    parser.add_argument("--lease", type=float, required=True, help="the queue's ack deadline in seconds")
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--consumers", type=int, default=2)
    parser.add_argument("--rate", type=float, default=500, help="messages per second and producer")
    parser.add_argument("--batch", type=int, default=10, help="messages per publish")
    parser.add_argument("--body-bytes", type=int, default=100)
    parser.add_argument("--prefetch", type=int, default=200)
    parser.add_argument("--timeout", type=float, default=30, help="of each call, in seconds")
    parser.add_argument("--late", type=int, default=0, help="1: consumers start when the producers stop")
    return parser.parse_args()


async def main() -> None:
    """Runs the workload."""
    await Workload(options()).run()


if __name__ == "__main__":
    asyncio.run(main())
