"""A Pull whose time is over in the very moment in which its message comes."""

import asyncio
import time

from node.api.queues import served
from taskraft.v1 import queue_pb2
from tests.node.dispatch_desk import Desk, in_loop


@in_loop
async def test_what_comes_in_the_moment_in_which_the_wait_ends_is_delivered() -> None:
    desk = Desk(config=queue_pb2.Queue(max_attempts=1))
    pull = desk.pull(1)
    waiting = asyncio.create_task(served(desk.queue, pull, 20))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.021, desk.publish, 1)

    time.sleep(0.03)  # both are due in the same turn of the event loop, the end of the wait first

    assert await waiting
    desk.queue.withdraw(pull, keep=True)
    desk.pump()
    assert not any(command.HasField("move_messages") for command in desk.commit())
