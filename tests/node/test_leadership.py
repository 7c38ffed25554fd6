"""Who waits for a change of leader can be cancelled at any moment, also in the one in which it comes."""

import asyncio

import pytest

from node.leadership import Leadership
from tests.node.memory_replica import MemoryReplica


@pytest.mark.parametrize("turns", range(5))
def test_a_cancellation_is_not_lost_when_the_change_comes_at_the_same_time(turns: int) -> None:
    async def story() -> None:
        leadership = Leadership(MemoryReplica.__new__(MemoryReplica))
        waiting = asyncio.create_task(leadership.changed(10.0))
        await asyncio.sleep(0.01)

        leadership.announce()
        for _ in range(turns):
            await asyncio.sleep(0)
        asked = waiting.cancel()
        await asyncio.wait([waiting])

        assert waiting.cancelled() == asked

    asyncio.run(story())
