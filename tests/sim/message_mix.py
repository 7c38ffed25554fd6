"""The queues of a run with messages, and who uses them how."""

import asyncio
from collections.abc import Callable
from typing import Any

from google.protobuf import duration_pb2

from taskraft.v1 import queue_pb2
from tests.sim import processors
from tests.sim.consumers import Habits, PullConsumer, StreamConsumer
from tests.sim.message_world import MessageWorld
from tests.sim.processes import Process
from tests.sim.producers import Making, Producer

MESSAGE, STREAM = queue_pb2.QUEUE_KIND_MESSAGE, queue_pb2.QUEUE_KIND_STREAM
DROP_OLDEST = queue_pb2.OVERFLOW_POLICY_DROP_OLDEST


def queue(name: str, kind: int = MESSAGE, **settings: Any) -> queue_pb2.Queue:
    """Short times, so that they matter within a run."""
    made = queue_pb2.Queue(name=f"queues/{name}", kind=kind, **settings)  # type: ignore[arg-type]
    made.ack_deadline.FromMilliseconds(1_000)
    return made


def bound(*patterns: str, **headers: str) -> list[queue_pb2.Binding]:
    return [queue_pb2.Binding(pattern=pattern, headers=headers) for pattern in patterns]


QUEUES = [
    queue("plain"),
    queue("single"),
    queue("small", max_messages=40),
    queue("moving", max_messages=60, overflow_policy=DROP_OLDEST),
    queue("urgent"),
    queue("keyed", max_in_flight_per_key=1),
    queue("holding", max_in_flight_per_key=1, hold_key=True),
    queue("dead"),
    queue("tried", max_attempts=3, dead_letter_queue="queues/dead"),
    queue("orders", bindings=bound("orders.>")),
    queue("created", bindings=bound("orders.*.created", "parts.new")),
    queue("chosen", bindings=bound("orders.>", kind="a")),
    queue("later", dead_letter_queue="queues/dead"),
    queue("brief", dead_letter_queue="queues/dead", max_age=duration_pb2.Duration(seconds=2)),
    queue("in"),
    queue("out"),
    queue("log", STREAM),
    queue("short", STREAM, max_messages=40),
    queue("hard", STREAM, max_attempts=2, dead_letter_queue="queues/dead"),
    queue("latest", STREAM, compaction=True),
]
OUTPUT = "queues/out"
INPUTS = [("queues/in", ""), ("queues/log", "processors")]


def plain(world: MessageWorld, message: queue_pb2.Message) -> None:
    """Nothing but a body, most of the time."""
    if world.dice.random() < 0.3:
        message.headers["kind"] = world.dice.choice(("a", "b"))


def urgent(world: MessageWorld, message: queue_pb2.Message) -> None:
    message.priority = world.dice.choice((0, 0, 0, 3, 9))


def keyed(world: MessageWorld, message: queue_pb2.Message) -> None:
    message.key = world.dice.choice(("", "x", "x", "y", "z"))


def timed(world: MessageWorld, message: queue_pb2.Message) -> None:
    """Delayed in one of the two ways, or short-lived, or both."""
    now_ms = int(world.now * 1000)
    match world.dice.choice(("", "delay", "deliver_time", "deliver_time")):
        case "delay":
            message.delay.FromMilliseconds(world.dice.choice((1, 200, 3_000)))
        case "deliver_time":
            message.deliver_time.FromMilliseconds(now_ms + world.dice.choice((-1_000, 300, 2_000)))
    if world.dice.random() < 0.3:
        message.ttl.FromMilliseconds(world.dice.choice((1, 300, 2_000)))
    if world.dice.random() < 0.1:
        message.priority = 5


TARGETS: dict[str, Making] = {
    "queues/plain": plain,
    "queues/single": plain,
    "queues/small": plain,
    "queues/moving": plain,
    "queues/urgent": urgent,
    "queues/keyed": keyed,
    "queues/holding": keyed,
    "queues/tried": plain,
    "topics/orders.1.created": plain,
    "topics/orders.1.paid": plain,
    "topics/parts.new": plain,
    "queues/later": timed,
    "queues/brief": plain,
    "queues/in": plain,
    "queues/log": plain,
    "queues/short": plain,
    "queues/hard": plain,
    "queues/latest": keyed,
}

STREAMS = [
    Habits(queue="queues/plain"),
    Habits(queue="queues/single", nack=0.0, leave=0.0),
    Habits(queue="queues/small"),
    Habits(queue="queues/moving"),
    Habits(queue="queues/urgent", credit=3),
    Habits(queue="queues/urgent", credit=2, nack=0.2),
    Habits(queue="queues/keyed"),
    Habits(queue="queues/keyed", nack=0.2),
    Habits(queue="queues/holding", nack=0.2),
    Habits(queue="queues/dead", nack=0.0, work_s=(0.0, 1.0), credit=3),
    Habits(queue="queues/tried", nack=0.5, reject=0.1),
    Habits(queue="queues/later"),
    Habits(queue="queues/brief", work_s=(0.0, 3.0)),
    Habits(queue="queues/orders"),
    Habits(queue="queues/chosen"),
    Habits(queue="queues/out"),
    Habits(queue="queues/log", group="one"),
    Habits(queue="queues/log", group="one", nack=0.2),
    Habits(queue="queues/log", group="moved"),
    Habits(queue="queues/short", group="one"),
    Habits(queue="queues/hard", group="one", nack=0.4, reject=0.05),
    Habits(queue="queues/latest", group="one"),
]
PULLS = [
    Habits(queue="queues/plain"),
    Habits(queue="queues/keyed"),
    Habits(queue="queues/tried", nack=0.3, reject=0.05, forget=0.2),
    Habits(queue="queues/created"),
    Habits(queue="queues/log", group="one"),
]
READERS = ["queues/log", "queues/short", "queues/latest"]


async def found(world: MessageWorld, me: Process) -> None:
    """Create the queues."""
    for wanted in QUEUES:
        request = queue_pb2.CreateQueueRequest(queue_id=wanted.name.removeprefix("queues/"), queue=wanted)
        request.queue.name = ""
        request.request_id = world.new_id("create")
        await world.insist(me, "CreateQueue", request, queue_pb2.CreateQueueResponse)


async def change(world: MessageWorld, me: Process) -> None:
    """Pause a queue, or let it go on; move a group; bring dead letters back; empty a queue."""
    name = world.new_id("change")
    world.changing.add(name)
    await _change(world, me)
    world.changing.discard(name)


async def _change(world: MessageWorld, me: Process) -> None:
    luck = world.dice.random()
    if luck < 0.2:
        await processors.seek(world, me, "queues/log", "moved")
    elif luck < 0.5:
        await processors.redrive(world, me, "queues/dead")
    elif luck < 0.55:
        purge = queue_pb2.PurgeQueueRequest(name="queues/moving", request_id=world.new_id("purge"))
        await world.insist(me, "PurgeQueue", purge, queue_pb2.PurgeQueueResponse)
    else:
        await _pause(world, me, world.dice.choice(QUEUES).name, paused=world.dice.random() < 0.3)


async def _pause(world: MessageWorld, me: Process, name: str, *, paused: bool) -> None:
    request = queue_pb2.UpdateQueueRequest(request_id=world.new_id("update"))
    request.queue.name, request.queue.paused = name, paused
    request.update_mask.paths.append("paused")
    await world.insist(me, "UpdateQueue", request, queue_pb2.UpdateQueueResponse)


async def unpause(world: MessageWorld, me: Process) -> None:
    """Let every queue run, when all else that was begun is done."""
    while world.changing:
        await asyncio.sleep(0.1)
    for wanted in QUEUES:
        await _pause(world, me, wanted.name, paused=False)


def people(world: MessageWorld) -> None:
    """All clients of a run."""
    mains: dict[str, Callable[[Process], Any]] = {}
    for number in range(3):
        mains[f"producer{number}"] = Producer(world, TARGETS).main
    for number, habits in enumerate(STREAMS):
        mains[f"stream{number}"] = StreamConsumer(world, habits).main
    for number, habits in enumerate(PULLS):
        mains[f"pull{number}"] = PullConsumer(world, habits).main
    for number, name in enumerate(READERS):
        mains[f"reader{number}"] = processors.StreamReader(world, name).main
    for number, (name, group) in enumerate(INPUTS):
        mains[f"processor{number}"] = processors.Processor(world, name, group, OUTPUT).main
    for name, main in mains.items():
        world.add_process(name, main)
