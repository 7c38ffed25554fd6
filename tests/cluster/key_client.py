"""A producer or a consumer of a queue with ordering keys, as a program that writes down all that happens to it.

It runs until it is killed, or until it reads a line from its standard input; then a producer ends when what it has begun
is stored. Several messages are worked on at once, each for some milliseconds; some are given back at their first attempt, and
those whose body begins with `poison` at each.
"""

import argparse
import asyncio
import contextlib
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from taskraft import Client, Message, OutgoingMessage
from taskraft.errors import TaskraftError
from tests.cluster.cluster import Cluster
from tests.cluster.key_order import Event, Reader, What, dump
from tests.cluster.processes import end, python, start, wait_for

_BACK_EVERY = 37
_PREFETCH = 40
_WORK_MS_MAX = 8
_PAUSE_S = 0.05


class Clients:
    """Producers and consumers of one queue, and what they wrote down."""

    def __init__(self, cluster: Cluster, queue: str) -> None:
        self._cluster, self._queue = cluster, queue
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._files: list[Path] = []
        self._left: list[Event] = []
        self._reader = Reader()

    def start(self, role: str, name: str, **options: Any) -> None:
        """Begins to consume or produce."""
        file, log = (self._cluster.folder / f"{self._queue}-{name}.{kind}" for kind in ("events", "log"))
        given = {"role": role, "name": name, "queue": self._queue, "file": file} | options
        words = [word for option, value in given.items() for word in (f"--{option}", str(value))]
        command = python("tests.cluster.key_client", "--addresses", self._cluster.addresses, *words)
        self._running[name] = start(command, prefix=self._cluster.prefix, log=log, talk=True)
        self._files.append(file)

    def kill(self, name: str) -> None:
        """A consumer is gone, with all that it had."""
        self._left.append(Event(what="left", at_ms=time.monotonic() * 1000, who=name))
        end(self._running.pop(name))

    def finish(self, name: str) -> None:
        """Lets a producer end, and waits until it has."""
        process = self._running.pop(name)
        assert process.stdin is not None
        process.stdin.write("finish\n")
        process.stdin.flush()
        assert process.wait(timeout=60) == 0, f"{name} failed, see its log"
        end(process)

    def events(self) -> list[Event]:
        """All that was written down so far, in no order."""
        return [*self._reader.read(self._files), *self._left]

    def wait_done(self, messages: int) -> None:
        """Until so many more messages are done."""
        goal = self._done() + messages
        wait_for(lambda: self._done() >= goal, f"{messages} more messages to be done", timeout_s=60)

    def _done(self) -> int:
        return sum(event.what == "done" for event in self.events())

    def close(self) -> None:
        """Ends all that still run."""
        for process in self._running.values():
            end(process)


class Program:
    """One producer or consumer."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._file = options.file.open("a")
        self._random = random.Random(options.name)
        self._finishing = asyncio.Event()

    def note(self, what: What, key: str, sequence: int, body: str = "") -> None:
        event = Event(
            what=what,
            at_ms=time.monotonic() * 1000,
            who=self._options.name,
            key=key,
            sequence=sequence,
            body=body,
        )
        self._file.write(dump(event) + "\n")
        self._file.flush()

    async def run(self) -> None:
        work = asyncio.create_task(self._produce() if self._options.role == "produce" else self._consume())
        waiting = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        await asyncio.wait([work, waiting], return_when=asyncio.FIRST_COMPLETED)
        self._finishing.set()
        await work

    async def _produce(self) -> None:
        options, number = self._options, 0
        async with Client(options.addresses, timeout=60) as client:
            queue = client.queue(options.queue)
            while not self._finishing.is_set():
                messages = []
                for _ in range(options.batch):
                    number += 1
                    poison = "poison" if options.poison and number % options.poison == 0 else "good"
                    key = f"k{self._random.randrange(options.keys)}"
                    messages.append(OutgoingMessage(f"{poison}-{options.name}-{number}".encode(), key=key))
                (receipt,) = await queue.publish_many(messages)
                for sequence, message in enumerate(messages, receipt.first_sequence):
                    self.note("published", message.key, sequence, message.body.decode())
                await asyncio.sleep(_PAUSE_S)

    async def _consume(self) -> None:
        options = self._options
        async with (
            Client(options.addresses, timeout=60) as client,
            client.queue(options.queue).consume(prefetch=_PREFETCH, consumer_id=options.name) as consumer,
            asyncio.TaskGroup() as group,
        ):
            async for message in consumer:
                group.create_task(self._work_on(message))

    async def _work_on(self, message: Message) -> None:
        self.note("begun", message.key, message.sequence)
        await asyncio.sleep(self._random.randrange(_WORK_MS_MAX) / 1000)
        poison = message.body.startswith(b"poison")
        back = poison or (message.attempt == 1 and message.sequence % _BACK_EVERY == 0)
        self.note("back" if back else "done", message.key, message.sequence)
        with contextlib.suppress(TaskraftError):  # it comes again, and that is judged
            await (message.nack() if back else message.ack())


def options() -> argparse.Namespace:
    """What the test asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--addresses", required=True, help="gRPC addresses, separated by commas")
    parser.add_argument("--role", choices=["produce", "consume"], required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--file", type=Path, required=True, help="the file to append events to")
    parser.add_argument("--keys", type=int, default=30, help="how many keys there are")
    parser.add_argument("--batch", type=int, default=20, help="messages in one publish")
    parser.add_argument(
        "--poison", type=int, default=0, help="each so many messages one that is always given back"
    )
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(Program(options()).run())
