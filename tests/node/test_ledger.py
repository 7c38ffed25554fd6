import random
from typing import Any

import pytest

from node.dispatch.ledger import Again, Ledger, Turn
from node.dispatch.spans import Span, Spans


def leased(
    ledger: Ledger, holder: str, first: int, last: int, *, attempt: int = 1, expires_ms: int = 0
) -> None:
    ledger.lease(holder, first, last, Turn(attempt, expires_ms, 1, 1))


def test_a_message_goes_to_one_holder_only() -> None:
    ledger = Ledger(first_live=1, watermark=0)
    leased(ledger, "one", 1, 5)

    settled, lost = ledger.settle("two", [(1, 5)])

    assert settled == []
    assert lost == [(1, 5)]
    assert ledger.leased("one") == 5


def test_a_holder_settles_what_it_has_and_is_told_what_it_has_not() -> None:
    ledger = Ledger(first_live=1, watermark=0)
    leased(ledger, "c", 1, 5)

    settled, lost = ledger.settle("c", [(4, 7)])

    assert [(span.first, span.last) for span in settled] == [(4, 5)]
    assert lost == [(6, 7)]
    assert ledger.leased("c") == 3
    assert ledger.leased_total == 5


def test_ranges_that_overlap_are_settled_once() -> None:
    ledger = Ledger(first_live=1, watermark=0)
    leased(ledger, "c", 1, 5)

    settled, lost = ledger.settle("c", [(1, 3), (2, 5)])

    assert sum(span.messages for span in settled) == 5
    assert lost == []


def test_an_acknowledgement_that_came_to_nothing_makes_the_messages_ready_again() -> None:
    ledger = Ledger(first_live=1, watermark=0)
    leased(ledger, "c", 1, 5, attempt=2)
    ledger.settle("c", [(1, 5)])
    ledger.removed([(1, 2)])

    ledger.unsettle([(1, 5)])

    assert list(ledger.returned) == [Span(3, 5, Again(2, "leader_changed"))]


def test_what_a_holder_had_is_ready_again_when_it_leaves() -> None:
    ledger = Ledger(first_live=1, watermark=0)
    leased(ledger, "c", 1, 2, attempt=3)

    ledger.release("c")

    assert list(ledger.returned) == [Span(1, 2, Again(3, "consumer_lost"))]
    assert ledger.leased("c") == 0


def test_a_message_given_back_with_a_delay_is_ready_when_its_time_has_come() -> None:
    ledger = Ledger(first_live=1, watermark=0)
    leased(ledger, "c", 1, 1)
    ledger.give_back("c", [(1, 1)], due_ms=50)

    ledger.wake(49)
    early = bool(ledger.returned)
    ledger.wake(50)

    assert not early
    assert list(ledger.returned) == [Span(1, 1, Again(1, "rejected"))]


def test_a_second_delay_is_not_cut_short_by_the_first() -> None:
    ledger = Ledger(first_live=1, watermark=0)
    leased(ledger, "c", 1, 1)
    ledger.give_back("c", [(1, 1)], due_ms=50)
    ledger.claim("c", [(1, 1)], 0)
    ledger.give_back("c", [(1, 1)], due_ms=500)

    ledger.wake(50)

    assert not ledger.returned
    ledger.wake(500)
    assert ledger.returned.count == 1


def test_leases_end_one_by_one() -> None:
    ledger = Ledger(first_live=1, watermark=0)
    leased(ledger, "pull", 1, 2, expires_ms=100)
    leased(ledger, "pull", 3, 4, expires_ms=200)

    assert ledger.expire("pull", 100) == 200
    assert list(ledger.returned) == [Span(1, 2, Again(1, "lease_expired"))]
    assert ledger.expire("pull", 200) is None
    assert ledger.leased("pull") == 0


def test_an_extended_lease_ends_later() -> None:
    ledger = Ledger(first_live=1, watermark=0)
    leased(ledger, "pull", 1, 4, expires_ms=100)

    assert ledger.extend("pull", [(2, 3), (9, 9)], 300) == [(9, 9)]
    ledger.expire("pull", 100)

    assert ledger.leased("pull") == 2


def test_a_new_leader_grants_a_claim_that_nobody_else_has() -> None:
    ledger = Ledger(first_live=1, watermark=10)

    assert ledger.claim("back", [(3, 5)], 0) == [(3, 5)]
    assert ledger.claim("other", [(4, 8)], 0) == [(6, 8)]
    assert [(span.first, span.last) for span in ledger.returned] == [(1, 2), (9, 10)]


def test_a_claim_beyond_what_was_recorded_is_granted_and_not_delivered_again() -> None:
    ledger = Ledger(first_live=1, watermark=0)

    assert ledger.claim("back", [(2, 3)], 0) == [(2, 3)]

    assert ledger.fresh(6) == (1, 1)
    leased(ledger, "c", 1, 1)
    assert ledger.fresh(6) == (4, 5)


def test_a_claim_is_not_granted_while_its_acknowledgement_is_on_its_way() -> None:
    ledger = Ledger(first_live=1, watermark=0)
    leased(ledger, "old", 1, 3)
    ledger.settle("old", [(1, 2)])
    ledger.release("old")

    assert ledger.claim("new", [(1, 3)], 0) == [(3, 3)]


def test_what_is_gone_is_nobodys() -> None:
    ledger = Ledger(first_live=1, watermark=0)
    leased(ledger, "c", 1, 4)
    ledger.give_back("c", [(1, 1)], None)
    ledger.give_back("c", [(2, 2)], 50)

    ledger.removed([(1, 4)])
    ledger.wake(50)

    assert not ledger.returned
    assert ledger.leased_total == 0


@pytest.mark.parametrize("seed", range(30))
def test_every_live_message_is_in_one_place_whatever_happens(seed: int) -> None:
    rng = random.Random(seed)
    ledger, live, now_ms = Ledger(first_live=1, watermark=rng.choice([0, 4])), set(range(1, 41)), 0
    for _ in range(200):
        now_ms += rng.randrange(10)
        first = rng.randrange(1, 41)
        last, holder = min(40, first + rng.randrange(5)), rng.choice("abc")
        match rng.choice(
            ["fresh", "again", "settle", "unsettle", "back", "release", "claim", "gone", "time", "reserve"]
        ):
            case "fresh":
                if found := ledger.fresh(41):
                    leased(ledger, holder, found[0], min(found[1], found[0] + 3), expires_ms=now_ms + 20)
            case "again":
                if ledger.returned:
                    span = ledger.returned.first()
                    leased(ledger, holder, span.first, span.last, attempt=span.value.attempts + 1)
            case "settle":
                ledger.settle(holder, [(first, last)])
            case "unsettle":
                ledger.unsettle([(first, last)])
            case "back":
                ledger.give_back(holder, [(first, last)], rng.choice([None, now_ms + 15]))
            case "release":
                ledger.release(holder)
            case "claim":
                ledger.claim(holder, [(seq, seq) for seq in range(first, last + 1) if seq in live], 0)
            case "reserve":
                ledger.restore([(first, last)])
                ledger.reserve([(seq, seq) for seq in range(last + 1, last + 4) if seq in live])
            case "gone":
                live -= set(range(first, last + 1))
                ledger.removed([(first, last)])
            case "time":
                ledger.wake(now_ms)
                ledger.expire(holder, now_ms)

        places: list[Spans[Any]] = [ledger.returned, ledger.aside, ledger.settling, ledger.reserved]
        places += [ledger._delayed, *ledger._held.values()]
        tracked = [seq for spans in places for span in spans for seq in range(span.first, span.last + 1)]
        ahead = {seq for span in ledger.ahead for seq in range(span.first, span.last + 1)}
        assert len(tracked) == len(set(tracked))
        assert {seq for seq in live if seq < ledger.cursor} <= set(tracked)
        assert {seq for seq in tracked if seq >= ledger.cursor} <= ahead
