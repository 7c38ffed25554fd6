"""How queues of messages, what is in them and their bindings are shown, and what options make of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import typer
from rich.console import Console, RenderableType

from taskraft import Binding
from taskraft._queue_values import peeked_message
from taskraft._values import queue_info
from taskraft.cli import peek, queue_view
from taskraft.cli.queue_options import parse_binding
from taskraft.v1 import queue_pb2


def text_of(view: RenderableType) -> str:
    """What a person sees, without colour."""
    console = Console(width=120, highlight=False, emoji=False, color_system=None)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


def test_a_queue_in_full_says_what_is_in_it_and_how_it_is_delivered() -> None:
    queue = queue_pb2.Queue(
        name="queues/orders",
        kind=queue_pb2.QUEUE_KIND_MESSAGE,
        max_attempts=5,
        dead_letter_queue="queues/orders-dead",
        bindings=[
            queue_pb2.Binding(pattern="orders.*.created"),
            queue_pb2.Binding(pattern="refunds.>", headers={"country": "p[t]"}),
        ],
        max_in_flight_per_key=1,
        hold_key=True,
    )
    queue.max_age.FromSeconds(3_600)
    queue.stats.messages, queue.stats.delayed_messages, queue.stats.delayed_bytes = 12, 1_000, 2_048
    rates = queue.stats.message_rates
    rates.window.FromSeconds(60)
    rates.published, rates.delivered, rates.acknowledged, rates.throughput = 600, 590, 580, 9.7
    rates.waiting.p99.FromMilliseconds(250)

    text = text_of(queue_view.details(queue_info(queue)))

    for word in (
        "orders-dead",
        "1,000, 2.0 KiB",
        "orders.*.created",
        "refunds.> country=p[t]",
        "1 of a key at once, delayed ones hold their key",
        "600 in (10.0/s)",
        "9.7 messages/s",
        "250 ms",
    ):
        assert word in text, f"{word} is missing in:\n{text}"


def test_a_plain_queue_does_not_speak_of_what_it_does_not_use() -> None:
    text = text_of(queue_view.details(queue_info(queue_pb2.Queue(name="queues/q"))))

    for word in ("delayed", "dead letters", "bindings", "keys", "max age", "max attempts", "compaction"):
        assert word not in text, f"{word} in:\n{text}"


def test_a_stream_shows_its_groups() -> None:
    queue = queue_pb2.Queue(name="queues/s", kind=queue_pb2.QUEUE_KIND_STREAM, compaction=True)
    queue.stats.groups.add(name="billing", position=41, pending_messages=7_000, leased_messages=3)

    text = text_of(queue_view.details(queue_info(queue)))

    assert "stream" in text
    assert "by key" in text
    assert [word for word in ("billing", "41", "7,000") if word not in text] == []


def peeked(**fields: Any) -> queue_pb2.PeekedMessage:
    return queue_pb2.PeekedMessage(sequence=7, attempts=2, **fields)


def test_a_message_is_a_line_with_what_it_says_about_its_way() -> None:
    message = queue_pb2.Message(body=b"one\ntwo", headers={"a": "b"}, key="k", priority=9)
    letter = queue_pb2.DeadLetter(
        source="queues/orders", reason=queue_pb2.DEAD_LETTER_REASON_MAX_ATTEMPTS, attempts=5
    )

    line = peek.row(peeked_message(peeked(message=message, leased=True, dead_letter=letter)))

    assert "\n" not in line
    assert "[a=b, key k, priority 9, delivered, max attempts in orders after 5 attempts]" in line
    assert peek.row(peeked_message(peeked(message=queue_pb2.Message(body=b"x")))).endswith("  x")


def test_a_message_as_json_says_where_a_dead_letter_comes_from() -> None:
    letter = queue_pb2.DeadLetter(
        source="queues/orders",
        source_sequence=3,
        reason=queue_pb2.DEAD_LETTER_REASON_EXPIRED,
        group="billing",
    )
    letter.dead_letter_time.FromDatetime(datetime(2030, 1, 1, tzinfo=UTC))

    fields = peek.peeked_json(peeked_message(peeked(dead_letter=letter)))

    assert fields["dead_letter"].reason == "expired"
    assert (fields["dead_letter"].source, fields["dead_letter"].group) == ("orders", "billing")
    assert (fields["body"], fields["sequence"], fields["leased"]) == ("", 7, False)


def test_a_binding_is_a_pattern_and_perhaps_headers() -> None:
    assert parse_binding("orders.>") == Binding("orders.>")
    assert parse_binding("orders.* country=pt kind=a=b") == Binding(
        "orders.*", {"country": "pt", "kind": "a=b"}
    )


@pytest.mark.parametrize("text", ["", " ", "orders.> country"])
def test_what_is_no_binding_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_binding(text)
