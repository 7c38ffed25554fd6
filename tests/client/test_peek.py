from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from taskraft import Client, _limits
from taskraft._positions import position_of
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.client.broker import Broker

    Play = Callable[[Callable[[Broker, Client], Awaitable[None]]], None]


def test_all_messages_are_looked_at_page_by_page(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_limits, "PEEK_MESSAGES", 3)

    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish_many([b"%d" % n for n in range(8)])
        await queue.publish(b"last", {"a": "b"}, key="k", priority=2)
        pulled = await queue.pull(max_messages=1)

        found = [message async for message in queue.peek()]

        assert [message.sequence for message in found] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        assert [message.leased for message in found][:2] == [True, False]
        assert found[0].attempts == 1
        last = found[-1]
        assert (last.body, last.headers, last.key, last.priority) == (b"last", {"a": "b"}, "k", 2)
        assert len(pulled) == 1

    play(story)


@pytest.mark.parametrize(("limit", "sequences"), [(0, []), (2, [4, 5]), (5, [4, 5, 6, 7, 8])])
def test_a_look_begins_where_it_is_told_and_ends_after_so_many(
    play: Play, monkeypatch: pytest.MonkeyPatch, limit: int, sequences: list[int]
) -> None:
    monkeypatch.setattr(_limits, "PEEK_MESSAGES", 3)

    async def story(broker: Broker, client: Client) -> None:
        queue = client.queue("q")
        await queue.publish_many([b"x"] * 9)

        assert [message.sequence async for message in queue.peek(4, limit=limit)] == sequences

    play(story)


def test_a_position_is_a_sequence_a_time_or_an_end() -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)

    assert position_of(7) == queue_pb2.Position(sequence=7)
    assert position_of(noon).time.ToDatetime(UTC) == noon
    assert position_of(noon.astimezone().replace(tzinfo=None)).time.ToDatetime(UTC) == noon
    assert position_of("beginning").beginning
    assert position_of("end").end
    with pytest.raises(ValueError, match="a position is"):
        position_of("middle")  # type: ignore[arg-type]
