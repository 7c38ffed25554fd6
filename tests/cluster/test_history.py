"""The checker passes a history that keeps every promise and sees each way of breaking one."""

from dataclasses import replace
from pathlib import Path

from tests.cluster.history import (
    Acked,
    Delivered,
    Disturbed,
    Event,
    Left,
    Nacked,
    Published,
    check,
    dump,
    load,
    read,
)

LEASE_MS = 30_000.0


def published(first: int, last: int, at_ms: float, first_sequence: int, producer: str = "p") -> Published:
    return Published(
        producer=producer,
        first=first,
        last=last,
        outcome="ok",
        began_ms=at_ms - 1,
        at_ms=at_ms,
        first_sequence=first_sequence,
    )


def delivered(
    first_sequence: int, *bodies: str, at_ms: float, consumer: str = "c", attempt: int = 1
) -> Delivered:
    return Delivered(
        consumer=consumer, first_sequence=first_sequence, bodies=bodies, attempt=attempt, at_ms=at_ms
    )


def acked(first: int, last: int, at_ms: float, consumer: str = "c") -> Acked:
    return Acked(consumer=consumer, first=first, last=last, at_ms=at_ms)


def good() -> list[Event]:
    """Two batches of two messages, delivered and acknowledged."""
    return [
        published(1, 2, 10, 1),
        delivered(1, "p:1", "p:2", at_ms=11),
        published(3, 4, 20, 3),
        acked(1, 2, 21),
        delivered(3, "p:3", "p:4", at_ms=22),
        acked(3, 4, 30),
    ]


def problems(*history: Event) -> list[str]:
    """The kinds of problems that the checker names."""
    verdict = check(history, lease_ms=LEASE_MS)
    return [problem.partition(":")[0] for problem in verdict.problems]


def test_a_history_that_keeps_every_promise_has_no_problems() -> None:
    verdict = check(good(), lease_ms=LEASE_MS)

    assert verdict.problems == ()
    assert (verdict.published, verdict.acknowledged, verdict.delivered) == (4, 4, 4)
    assert verdict.redelivered == {}


def test_an_acknowledged_message_that_never_arrived_is_lost() -> None:
    history: list[Event] = [event for event in good() if event != delivered(3, "p:3", "p:4", at_ms=22)]

    assert problems(*history) == ["lost", "lost"]


def test_a_message_of_unknown_outcome_may_be_missing_or_arrive() -> None:
    unknown = Published(producer="p", first=5, last=6, outcome="unknown", began_ms=40, at_ms=50)

    assert problems(*good(), unknown) == []
    verdict = check([*good(), unknown, delivered(5, "p:5", at_ms=60)], lease_ms=LEASE_MS)

    assert verdict.problems == ()
    assert (verdict.unknown, verdict.recovered) == (2, 1)


def test_a_body_that_nobody_published_is_unexpected() -> None:
    assert problems(*good(), delivered(5, "p:9", at_ms=40)) == ["unexpected"]


def test_a_refused_message_that_arrives_is_unexpected() -> None:
    refused = Published(producer="p", first=5, last=5, outcome="refused", began_ms=31, at_ms=32)

    assert problems(*good(), refused) == []
    assert problems(*good(), refused, delivered(5, "p:5", at_ms=40)) == ["unexpected"]


def test_a_message_under_another_sequence_than_its_answer_named_has_moved() -> None:
    history: list[Event] = [published(1, 1, 10, 1), delivered(2, "p:1", at_ms=11), acked(2, 2, 12)]

    assert problems(*history) == ["moved"]


def test_a_body_under_two_sequences_was_stored_twice() -> None:
    assert problems(*good(), delivered(5, "p:4", at_ms=40)) == ["stored twice"]


def test_two_answers_that_name_one_sequence_are_seen() -> None:
    history: list[Event] = [
        published(1, 1, 10, 1),
        published(1, 1, 20, 1, "q"),
        delivered(1, "p:1", at_ms=30),
    ]

    assert problems(*history) == ["lost", "two in one place"]


def test_a_message_that_comes_back_after_its_confirmed_acknowledgement_is_seen_whatever_happened() -> None:
    disturbed = Disturbed(cause="new leader", began_ms=31, at_ms=39)
    back = delivered(4, "p:4", at_ms=40, consumer="d", attempt=2)

    assert problems(*good(), back) == ["came back"]
    assert problems(*good(), disturbed, back) == ["came back"]


def test_a_second_delivery_without_a_cause_is_unexplained() -> None:
    history: list[Event] = [event for event in good() if event != acked(3, 4, 30)]

    assert problems(*history, delivered(4, "p:4", at_ms=40, consumer="d", attempt=2)) == ["unexplained"]


def test_a_second_delivery_is_explained_by_a_nack_a_leaving_consumer_a_new_leader_or_an_ended_lease() -> None:
    history: list[Event] = [event for event in good() if event != acked(3, 4, 30)]
    again = delivered(4, "p:4", at_ms=40, consumer="d", attempt=2)

    def causes(*events: Event) -> dict[str, int]:
        verdict = check([*history, *events], lease_ms=LEASE_MS)
        return verdict.redelivered if not verdict.problems else {}

    assert causes(Nacked(consumer="c", first=4, last=4, at_ms=35), again) == {"nacked": 1}
    assert causes(Left(consumer="c", at_ms=35), again) == {"consumer left": 1}
    assert causes(Disturbed(cause="new leader", began_ms=30, at_ms=36), again) == {"new leader": 1}
    assert causes(replace(again, at_ms=22 + LEASE_MS)) == {"lease ran out": 1}


def test_what_happened_before_the_first_delivery_or_to_others_explains_nothing() -> None:
    history: list[Event] = [event for event in good() if event != acked(3, 4, 30)]
    again = delivered(4, "p:4", at_ms=40, consumer="d", attempt=2)

    assert problems(*history, Nacked(consumer="c", first=4, last=4, at_ms=21), again) == ["unexplained"]
    assert problems(*history, Nacked(consumer="c", first=3, last=3, at_ms=35), again) == ["unexplained"]
    assert problems(*history, Left(consumer="x", at_ms=35), again) == ["unexplained"]
    assert problems(*history, Disturbed(cause="pause", began_ms=1, at_ms=21), again) == ["unexplained"]
    assert problems(*history, Disturbed(cause="pause", began_ms=41, at_ms=60), again) == ["unexplained"]


def test_a_producer_whose_messages_are_stored_in_another_order_breaks_fifo() -> None:
    history: list[Event] = [
        published(1, 1, 10, 2),
        published(2, 2, 20, 1),
        delivered(1, "p:2", at_ms=30),
        delivered(2, "p:1", at_ms=31),
        acked(1, 2, 40),
    ]

    assert problems(*history) == ["not FIFO"]


def test_two_producers_may_interleave() -> None:
    history: list[Event] = [
        published(1, 1, 10, 2),
        published(1, 1, 11, 1, "q"),
        delivered(1, "q:1", "p:1", at_ms=30),
        acked(1, 2, 40),
    ]

    assert problems(*history) == []


def test_a_consumer_that_first_sees_an_older_message_later_breaks_fifo() -> None:
    stored = published(1, 2, 10, 1)
    newer, older = delivered(2, "p:2", at_ms=20), delivered(1, "p:1", at_ms=30)

    assert problems(stored, newer, older, acked(1, 2, 40)) == ["not FIFO"]
    assert problems(stored, newer, Disturbed(cause="new leader", began_ms=22, at_ms=25), older) == []
    assert problems(stored, newer, replace(older, attempt=2)) == []
    assert problems(stored, newer, replace(older, consumer="d")) == []


def test_many_problems_of_a_kind_are_counted_not_listed() -> None:
    verdict = check([published(1, 1000, 10, 1)], lease_ms=LEASE_MS)

    assert len(verdict.problems) == 6
    assert verdict.problems[-1] == "lost: 995 more"


def test_events_survive_the_file_and_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    events: list[Event] = [
        *good(),
        Nacked(consumer="c", first=1, last=2, at_ms=50),
        Left(consumer="c", at_ms=51),
        Disturbed(cause="kill", began_ms=1, at_ms=2),
    ]
    path = tmp_path / "history"
    path.write_text("".join(dump(event) + "\n" for event in events) + '{"event": "acke')

    assert [load(dump(event)) for event in events] == events
    assert read(path) == events
