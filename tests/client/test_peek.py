from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

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


def test_dead_letters_are_moved_page_by_page_and_not_faster_than_is_wanted(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_limits, "REDRIVE_MESSAGES", 4)

    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("other")
        queue = client.queue("q")
        await queue.publish_many([b"%d" % n for n in range(10)])

        slow = await queue.redrive("other", limit=3, rate=10)
        rest = await queue.redrive("queues/other", reason="expired", source="q", key="k", headers={"a": "b"})

        assert (slow, rest) == (3, 7)
        assert [request.max_messages for request in broker.redrives] == [3, 4, 4]
        assert [request.first_sequence for request in broker.redrives] == [1, 1, 8]
        last = broker.redrives[-1]
        assert (last.target, last.source, last.key) == ("queues/other", "queues/q", "k")
        assert last.reason == queue_pb2.DEAD_LETTER_REASON_EXPIRED
        assert len({request.request_id for request in broker.redrives}) == 3

    play(story)


def test_a_rate_spreads_pages_over_time(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("other")
        await client.queue("q").publish_many([b"x"] * 6)
        started = time.monotonic()

        assert await client.queue("q").redrive("other", rate=4) == 6

        assert time.monotonic() - started >= 1
        assert [request.max_messages for request in broker.redrives] == [4, 4]

    play(story)


@pytest.mark.parametrize(("reason", "rate"), [("bored", None), (None, 0), (None, -1)])
def test_a_redrive_that_cannot_be_is_refused(play: Play, reason: Any, rate: float | None) -> None:
    async def story(broker: Broker, client: Client) -> None:
        with pytest.raises(ValueError, match=r"reason|rate"):
            await client.queue("q").redrive("other", reason=reason, rate=rate)
        assert not broker.redrives

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
