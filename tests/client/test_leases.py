"""A consumer's ledger: what is reported as lost when a lease ends at a bad moment."""

import pytest

from taskraft._leases import Leases


def leases_with(first: int, last: int) -> Leases:
    leases = Leases(prefetch=100, prefetch_bytes=1000)
    leases.delivered(first, last, size_bytes=10)
    return leases


@pytest.mark.parametrize("noted_before", [False, True])
def test_an_acknowledgement_of_a_message_whose_lease_ended_is_reported_as_lost(noted_before: bool) -> None:
    leases = leases_with(1, 3)

    if noted_before:
        leases.ack(2, 2)
    leases.gone([(2, 2)])
    if not noted_before:
        leases.ack(2, 2)
    leases.collect()

    assert leases.take_lost() == [(2, 2)]
    assert list(leases.open) == [(1, 1), (3, 3)]
    assert leases.nothing_owed


def test_a_lease_that_ended_and_was_given_again_counts_when_it_is_acknowledged() -> None:
    leases = leases_with(1, 1)

    leases.gone([(1, 1)])
    leases.delivered(1, 1, size_bytes=10)
    leases.ack(1, 1)

    assert leases.take_acks(closing=False) == [(1, 1)]
    assert leases.take_lost() == []


def test_what_is_rejected_after_its_lease_ended_is_not_lost_work() -> None:
    leases = leases_with(1, 1)

    leases.gone([(1, 1)])
    leases.nack(1, 1, delay=0.0)
    leases.ack(1, 1)
    leases.collect()

    assert leases.take_lost() == []


def test_acknowledging_twice_loses_nothing() -> None:
    leases = leases_with(1, 2)

    leases.ack(1, 2)
    leases.take_acks(closing=False)
    leases.ack(1, 2)
    leases.confirmed([(1, 2)])
    leases.collect()

    assert leases.take_lost() == []


def test_what_a_transaction_settles_is_not_acknowledged_again() -> None:
    leases = leases_with(1, 3)

    leases.enlist([(1, 2)])
    leases.ack(1, 1)
    assert leases.take_acks(closing=True) == []
    assert leases.held() == [(1, 3)], "a new stream asks for it, too"
    leases.delist([(1, 2)], done=True)

    leases.ack(1, 3)
    assert leases.take_acks(closing=True) == [(3, 3)]


def test_what_a_failed_transaction_was_to_settle_is_open_again_unless_it_was_lost() -> None:
    leases = leases_with(1, 3)

    leases.enlist([(1, 3)])
    leases.gone([(2, 2)])
    leases.delist([(1, 3)], done=False)

    leases.ack(1, 3)
    assert leases.take_acks(closing=True) == [(1, 1), (3, 3)]
    assert leases.take_lost() == [(2, 2)]


def test_a_transaction_that_was_done_loses_nothing_though_its_stream_broke() -> None:
    leases = leases_with(1, 2)

    leases.enlist([(1, 2)])
    leases.resumed(leases.held(), [])
    leases.delist([(1, 2)], done=True)
    leases.ack(1, 2)
    leases.collect()

    assert leases.take_lost() == []


def test_messages_of_a_transaction_on_its_way_take_credit_only_beyond_the_prefetch() -> None:
    leases = Leases(prefetch=10, prefetch_bytes=1000)
    leases.take_credit(starved=True)
    leases.delivered(1, 10, size_bytes=10)

    leases.enlist([(1, 10)])
    assert leases.take_credit(starved=True)[0] == 10
    leases.delivered(11, 20, size_bytes=10)
    leases.enlist([(11, 20)])
    assert leases.take_credit(starved=True)[0] == 0
    leases.delist([(1, 10)], done=True)
    assert leases.take_credit(starved=True)[0] == 10
