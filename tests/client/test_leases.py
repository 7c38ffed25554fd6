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
