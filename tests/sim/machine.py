"""The node's real state machine, SQLite store and all, as the state of a simulated node.

A killed process leaves its store at the last commit. A power cut leaves it, at worst, as the last checkpoint left it;
SQLite's own crash safety is not simulated.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from node.state.listener import Silence
from node.state.machine import Machine
from node.state.transactions import PARTS
from raft.records import SegmentInfo
from raft.types import StateMachine
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2 as public
from tests.sim.task_commands import BlindTasks

LOG_BYTES_MAX = 12 << 10
QUEUES = ("a", "b", "c")


class Installed(Silence):
    """Hears of snapshots that were installed: they are synced."""

    def __init__(self, keep: Callable[[], None]) -> None:
        self.reset = keep  # type: ignore[method-assign]


class MachineStore:
    """A node's state directory, and what a power cut would leave of it."""

    piece_bytes = 8 << 10
    compare_each = 7
    machine_class = Machine

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self._folder = folder / "state"
        self._durable = folder / "durable"
        self._dice = dice
        self._machine: Machine | None = None
        self._now_ms = 0

    def open(self) -> StateMachine:
        if not self._folder.exists() and self._durable.exists():
            shutil.copytree(self._durable, self._folder)
        self._machine = self.machine_class.open(self._folder, clock_ms=self._clock_ms, log_body=self._no_log)
        self._machine.listeners.append(Installed(self._keep))
        if not self._durable.exists():
            self.checkpoint()
        return self._machine

    def attach(self, log_body: Callable[[int], bytes]) -> None:
        """Give the machine the log's bodies, once there is a log."""
        assert self._machine is not None
        self._machine.log_body = log_body

    def unneeded(self, segments: list[SegmentInfo]) -> int:
        """Move what lives in old segments into the store, as the node does."""
        assert self._machine is not None
        index = self._machine.reclaim(segments, LOG_BYTES_MAX)
        while self._machine.reclaiming:
            index = self._machine.reclaim(segments, LOG_BYTES_MAX)
        return index

    @staticmethod
    def payload(dice: random.Random, number: int, now_ms: int) -> bytes:
        return some_batch(dice, number, now_ms)

    def crash(self, *, power_loss: bool) -> None:
        assert self._machine is not None
        self._machine._store.fail(KeyboardInterrupt())
        self._machine.close()
        self._machine = None
        if power_loss:
            shutil.rmtree(self._folder)

    def wipe(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.rmtree(self._durable, ignore_errors=True)

    def checkpoint(self) -> None:
        if self._machine is None:
            return
        checkpoint = self._machine.begin_checkpoint()
        checkpoint.run()
        self._machine.end_checkpoint(checkpoint)
        self._keep()

    def _keep(self) -> None:
        """A power cut would leave what there is now."""
        shutil.rmtree(self._durable, ignore_errors=True)
        shutil.copytree(self._folder, self._durable)

    def commands(self) -> list[bytes] | None:
        return None

    def close(self) -> None:
        if self._machine is not None:
            self._machine.close()

    def _clock_ms(self) -> int:
        self._now_ms += self._dice.choice((0, 5, 60))
        return self._now_ms

    @staticmethod
    def _no_log(index: int) -> bytes:
        raise KeyError(index)


def some_batch(dice: random.Random, number: int, now_ms: int) -> bytes:
    """A Raft entry's worth of commands on a few queues, of messages and of tasks, retries and mistakes included."""
    tasks = BlindTasks(dice, number, now_ms)

    def command() -> internal.Command:
        return tasks.command() if dice.random() < 0.5 else _some_command(dice, number)

    commands = [
        _transaction(dice, [command() for _ in range(dice.choice((1, 2, 5)))])
        if dice.random() < 0.2
        else command()
        for _ in range(dice.choice((1, 1, 2, 4)))
    ]
    return internal.Batch(time_ms=now_ms, commands=commands).SerializeToString()


def _transaction(dice: random.Random, commands: list[internal.Command]) -> internal.Command:
    """Those of the commands that can be part of one, as a transaction; now and then the others, too."""
    parts = [one for one in commands if one.WhichOneof("kind") in PARTS or dice.random() < 0.05]
    for part in parts:
        part.ClearField("request_id")
        if part.HasField("publish"):
            part.publish.producer_id = ""
    return internal.Command(transaction=internal.Transaction(commands=parts))


def _some_command(dice: random.Random, number: int) -> internal.Command:
    queue = f"queues/{dice.choice(QUEUES)}"
    first = dice.randint(1, 40)
    kinds = (
        "create",
        "publish",
        "publish",
        "publish",
        "ack",
        "ack",
        "delivered",
        "update",
        "purge",
        "delete",
    )
    match dice.choice((*kinds, *["other"] * 6)):
        case "other":
            command = _own_way(dice, queue, number)
        case "create":
            settings = public.Queue(name=queue, kind=public.QUEUE_KIND_MESSAGE, max_message_bytes=1 << 20)
            settings.max_messages = dice.choice((0, 30))
            settings.overflow_policy = dice.choice((1, 2))  # type: ignore[assignment]
            settings.ack_deadline.seconds = 30
            if dice.random() < 0.5:
                settings.bindings.add(pattern=dice.choice(("a.*", ">")))
                settings.max_age.seconds = 1
            if dice.random() < 0.3:
                settings.dead_letter_queue = f"queues/{dice.choice(QUEUES)}"
            command = internal.Command(create_queue=internal.CreateQueue(queue=settings))
        case "publish":
            messages = [public.Message(body=b"%d" % number) for _ in range(dice.randint(1, 12))]
            chunk = internal.Chunk(messages=messages).SerializeToString()
            publish = internal.Publish(queue=queue, count=len(messages), chunk=chunk)
            if dice.random() < 0.5:
                publish.producer_id, publish.producer_sequence = f"p{number % 3}", number // 3 + 1
            command = internal.Command(publish=publish)
        case "ack":
            ranges = [public.SequenceRange(first=first, last=first + dice.randint(0, 15))]
            command = internal.Command(ack=internal.Ack(queue=queue, ranges=ranges))
        case "delivered":
            again = internal.Redelivered(range=public.SequenceRange(first=first, last=first + 2), attempt=2)
            command = internal.Command(
                delivered=internal.Delivered(queue=queue, watermark=first + 5, redelivered=[again])
            )
        case "update":
            settings = public.Queue(name=queue, paused=dice.random() < 0.5)
            command = internal.Command(update_queue=internal.UpdateQueue(queue=settings, fields=["paused"]))
        case "purge":
            command = internal.Command(purge_queue=internal.PurgeQueue(name=queue))
        case _:
            command = internal.Command(delete_queue=internal.DeleteQueue(name=queue))
    if dice.random() < 0.2:
        command.request_id = f"r{dice.randint(max(0, number - 5), number)}"
    return command


def _own_way(dice: random.Random, queue: str, number: int) -> internal.Command:
    """Something about messages that go their own way: by priority, later, to several queues, or to another."""
    first = dice.randint(1, 40)
    some = public.SequenceRange(first=first, last=first + dice.randint(0, 15))
    match dice.choice(("send", "send", "topic", "move", "redrive", "advance", "advance")):
        case "send" | "topic" as kind:
            messages = [public.Message(body=b"%d" % number) for _ in range(dice.randint(1, 6))]
            for message in messages:
                message.priority = dice.choice((0, 0, 0, 4, 9))
                message.ttl.FromMilliseconds(dice.choice((1, 50, 2_000)))
                if dice.random() < 0.3:
                    message.delay.FromMilliseconds(dice.choice((1, 50, 700)))
            chunk = internal.Chunk(messages=messages).SerializeToString()
            to = queue if kind == "send" else f"topics/a.{dice.choice(QUEUES)}"
            publish = internal.Publish(queue=to, count=len(messages), chunk=chunk, marked=True)
            return internal.Command(publish=publish)
        case "move" | "redrive" as kind:
            reason = public.DEAD_LETTER_REASON_REJECTED if kind == "move" else None
            moved = [internal.MovedMessages(range=some, attempts=2)]
            return internal.Command(
                move_messages=internal.MoveMessages(queue=queue, messages=moved, reason=reason)
            )
        case _:
            spared = [internal.SparedMessages(queue=queue, ranges=[some])]
            return internal.Command(
                advance_queues=internal.AdvanceQueues(limit=dice.choice((1, 3, 100)), spared=spared)
            )
