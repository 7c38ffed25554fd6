"""The queues of a run with messages, and who uses them how."""

from collections.abc import Callable
from typing import Any

from taskraft.v1 import queue_pb2
from tests.sim.calls import Ended
from tests.sim.consumers import Habits, PullConsumer, StreamConsumer
from tests.sim.message_world import MessageWorld
from tests.sim.processes import Process
from tests.sim.producers import Making, Producer

MESSAGE, STREAM = queue_pb2.QUEUE_KIND_MESSAGE, queue_pb2.QUEUE_KIND_STREAM
DROP_OLDEST = queue_pb2.OVERFLOW_POLICY_DROP_OLDEST


def queue(name: str, kind: int = MESSAGE, **settings: Any) -> queue_pb2.Queue:
    """Short times, so that they matter within a run."""
    made = queue_pb2.Queue(name=f"queues/{name}", kind=kind, **settings)  # type: ignore[arg-type]
    if kind == MESSAGE:
        made.ack_deadline.FromMilliseconds(1_000)
    return made


QUEUES = [
    queue("plain"),
    queue("single"),
    queue("small", max_messages=40),
    queue("moving", max_messages=60, overflow_policy=DROP_OLDEST),
]


def plain(world: MessageWorld, message: queue_pb2.Message) -> None:
    """Nothing but a body."""
    if world.dice.random() < 0.1:
        message.headers["kind"] = world.dice.choice(("a", "b"))


TARGETS: dict[str, Making] = {
    "queues/plain": plain,
    "queues/single": plain,
    "queues/small": plain,
    "queues/moving": plain,
}

STREAMS = [
    Habits(queue="queues/plain"),
    Habits(queue="queues/plain", nack=0.2),
    Habits(queue="queues/single", nack=0.0, leave=0.0),
    Habits(queue="queues/small"),
    Habits(queue="queues/moving"),
]
PULLS = [Habits(queue="queues/plain"), Habits(queue="queues/small")]


async def found(world: MessageWorld, me: Process) -> None:
    """Create the queues."""
    for wanted in QUEUES:
        request = queue_pb2.CreateQueueRequest(queue_id=wanted.name.removeprefix("queues/"), queue=wanted)
        request.queue.name = ""
        request.request_id = world.new_id("create")
        await world.insist(me, "CreateQueue", request, queue_pb2.CreateQueueResponse)


async def change(world: MessageWorld, me: Process) -> None:
    """Pause a queue, or let it go on."""
    name = world.dice.choice(QUEUES).name
    request = queue_pb2.UpdateQueueRequest(request_id=world.new_id("update"))
    request.queue.name, request.queue.paused = name, world.dice.random() < 0.3
    request.update_mask.paths.append("paused")
    try:
        await world.insist(me, "UpdateQueue", request, queue_pb2.UpdateQueueResponse)
    except Ended as error:
        world.counts[f"refused {error.reason}"] += 1


async def unpause(world: MessageWorld, me: Process) -> None:
    """Let every queue run."""
    for wanted in QUEUES:
        request = queue_pb2.UpdateQueueRequest(request_id=world.new_id("update"))
        request.queue.name = wanted.name
        request.update_mask.paths.append("paused")
        await world.insist(me, "UpdateQueue", request, queue_pb2.UpdateQueueResponse)


def people(world: MessageWorld) -> None:
    """All clients of a run."""
    mains: dict[str, Callable[[Process], Any]] = {}
    for number in range(3):
        mains[f"producer{number}"] = Producer(world, TARGETS).main
    for number, habits in enumerate(STREAMS):
        mains[f"stream{number}"] = StreamConsumer(world, habits).main
    for number, habits in enumerate(PULLS):
        mains[f"pull{number}"] = PullConsumer(world, habits).main
    for name, main in mains.items():
        world.add_process(name, main)
