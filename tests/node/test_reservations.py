import random
from collections.abc import Callable

import pytest

from node.tasks.placement import Resources
from node.tasks.reservations import PATIENCE_MS, Reservations, expected_start_ms
from tests.node.toy_workers import ToyWorker, worker

QUEUE, OTHER = 1, 2


def reserve(
    kept: Reservations,
    number: int,
    resources: Resources,
    *workers: ToyWorker,
    now_ms: int = 0,
    queue: int = QUEUE,
) -> str | None:
    made = kept.reserve(queue, number, resources, [(one, one.taken()) for one in workers], now_ms)
    return made.worker_id if made else None


# When there is room ---------------------------------------------------------------------------------------------------


def test_a_task_is_expected_to_start_when_enough_has_ended() -> None:
    one = worker(cpu=4.0)
    one.start(1, {"cpu": 1.0}, end_ms=300)
    one.start(2, {"cpu": 2.0}, end_ms=100)
    one.start(3, {"cpu": 1.0}, end_ms=200)

    starts = [expected_start_ms(one, {"cpu": cpu}, one.taken(), 0) for cpu in (0.0, 1.0, 2.0, 3.0, 4.0)]

    assert starts == [0, 100, 100, 200, 300]


def test_what_is_late_is_expected_to_end_at_any_moment() -> None:
    one = worker(cpu=1.0)
    one.start(1, {"cpu": 1.0}, end_ms=100)

    assert expected_start_ms(one, {"cpu": 1.0}, one.taken(), 5_000) == 5_000


def test_a_worker_without_credit_has_room_when_a_task_ends() -> None:
    one = worker(slots=1, cpu=4.0)
    one.start(1, {}, end_ms=70)

    assert expected_start_ms(one, {"cpu": 1.0}, one.taken(), 0) == 70


def test_nothing_can_be_said_if_what_is_in_the_way_is_not_known_to_end() -> None:
    one = worker(cpu=1.0)
    one.start(1, {"cpu": 1.0}, end_ms=70)

    assert expected_start_ms(one, {"cpu": 1.0}, [], 0) is None


# What is kept and what may go there meanwhile -------------------------------------------------------------------------


def test_the_worker_is_kept_where_the_task_is_expected_to_start_first() -> None:
    slow, soon = worker("a", cpu=4.0), worker("b", cpu=4.0)
    slow.start(1, {"cpu": 1.0}, end_ms=500)
    soon.start(2, {"cpu": 3.0}, end_ms=400)

    assert reserve(Reservations(), 9, {"cpu": 4.0}, slow, soon) == "b"


def test_only_what_ends_in_time_or_is_left_over_may_start_at_a_kept_worker() -> None:
    one, kept = worker("a", cpu=4.0, gpu=1.0), Reservations()
    one.start(1, {"cpu": 2.0}, end_ms=400)
    reserve(kept, 9, {"cpu": 3.0}, one)

    assert kept.allows("a", QUEUE, 2, {"cpu": 2.0}, 400)
    assert not kept.allows("a", QUEUE, 2, {"cpu": 2.0}, 401)
    assert kept.allows("a", QUEUE, 2, {"cpu": 1.0}, 10_000)
    assert kept.allows("a", QUEUE, 2, {"gpu": 1.0}, 10_000)
    assert kept.allows("a", QUEUE, 9, {"cpu": 3.0}, 10_000)
    assert kept.allows("b", QUEUE, 2, {"cpu": 2.0}, 10_000)
    assert not kept.allows("a", OTHER, 9, {"cpu": 2.0}, 10_000)


def test_what_is_left_over_is_given_away_once() -> None:
    one, kept = worker("a", cpu=4.0), Reservations()
    one.start(1, {"cpu": 2.0}, end_ms=400)
    reserve(kept, 9, {"cpu": 3.0}, one)
    kept.started("a", QUEUE, 2, {"cpu": 1.0}, 10_000)

    assert not kept.allows("a", QUEUE, 3, {"cpu": 1.0}, 10_000)


def test_the_last_place_of_a_worker_is_kept_too() -> None:
    one, kept = worker("a", slots=2, cpu=4.0, gpu=1.0), Reservations()
    one.start(1, {"cpu": 4.0}, end_ms=400)
    reserve(kept, 9, {"cpu": 3.0}, one)
    kept.started("a", QUEUE, 2, {"gpu": 0.5}, 10_000)

    assert not kept.allows("a", QUEUE, 3, {"gpu": 0.5}, 10_000)


def test_what_is_late_is_not_counted_on_to_be_left_over() -> None:
    one, kept = worker("a", cpu=4.0), Reservations()
    one.start(1, {"cpu": 2.0}, end_ms=400)
    one.start(2, {"cpu": 1.0}, end_ms=100)
    reserve(kept, 9, {"cpu": 3.0}, one, now_ms=200)

    assert not kept.allows("a", QUEUE, 3, {"cpu": 1.0}, 401)


def test_what_the_reserved_task_does_not_ask_for_is_not_kept() -> None:
    one, kept = worker("a", cpu=1.0, gpu=1.0), Reservations()
    one.start(1, {"cpu": 1.0}, end_ms=400)
    one.start(2, {"gpu": 1.0}, end_ms=900)
    reserve(kept, 9, {"cpu": 1.0}, one)
    one.end(2)

    assert kept.allows("a", QUEUE, 3, {"gpu": 1.0}, 10_000)


def test_the_moment_once_said_is_not_moved_by_what_runs_longer() -> None:
    one, kept = worker("a", cpu=4.0), Reservations()
    one.start(1, {"cpu": 2.0}, end_ms=400)
    reserve(kept, 9, {"cpu": 4.0}, one)
    reserve(kept, 9, {"cpu": 4.0}, one, now_ms=900)

    assert not kept.allows("a", QUEUE, 2, {"cpu": 1.0}, 950)


def test_it_is_moved_to_an_earlier_time_by_what_ends_early() -> None:
    one, kept = worker("a", cpu=4.0), Reservations()
    one.start(1, {"cpu": 2.0}, end_ms=400)
    one.start(2, {"cpu": 2.0}, end_ms=200)
    reserve(kept, 9, {"cpu": 4.0}, one)
    one.end(1)
    reserve(kept, 9, {"cpu": 4.0}, one, now_ms=100)

    assert not kept.allows("a", QUEUE, 3, {"cpu": 1.0}, 300)
    assert kept.allows("a", QUEUE, 3, {"cpu": 1.0}, 200)


def test_a_queue_keeps_one_worker_for_the_task_that_is_first() -> None:
    one, two, kept = worker("a", cpu=1.0), worker("b", cpu=2.0), Reservations()
    one.start(1, {"cpu": 1.0}, end_ms=400)
    two.start(2, {"cpu": 2.0}, end_ms=600)

    assert reserve(kept, 8, {"cpu": 1.0}, one, two) == "a"
    assert reserve(kept, 9, {"cpu": 2.0}, two) == "b"
    assert kept.allows("a", QUEUE, 3, {"cpu": 1.0}, 10_000)
    assert len(kept) == 1


def test_a_worker_is_free_again_when_the_task_started_elsewhere_or_waits_no_more() -> None:
    one, kept = worker("a", cpu=1.0), Reservations()
    one.start(1, {"cpu": 1.0}, end_ms=400)
    ends: list[Callable[[], None]] = [
        lambda: kept.started("b", QUEUE, 9, {"cpu": 1.0}, 10),
        lambda: kept.started("a", QUEUE, 9, {"cpu": 1.0}, 10),
        lambda: kept.release(QUEUE),
        lambda: kept.worker_gone("a"),
    ]
    for end in ends:
        reserve(kept, 9, {"cpu": 1.0}, one)
        end()
        assert (len(kept), kept.of(QUEUE)) == (0, None)
        assert kept.allows("a", QUEUE, 2, {"cpu": 1.0}, 10_000)


def test_another_worker_is_kept_when_the_first_one_is_gone() -> None:
    one, two, kept = worker("a", cpu=1.0), worker("b", cpu=1.0), Reservations()
    one.start(1, {"cpu": 1.0}, end_ms=400)
    two.start(2, {"cpu": 1.0}, end_ms=600)
    reserve(kept, 9, {"cpu": 1.0}, one, two)

    assert reserve(kept, 9, {"cpu": 1.0}, two) == "b"
    assert kept.allows("a", QUEUE, 3, {"cpu": 1.0}, 10_000)


def test_two_queues_that_keep_the_same_worker_do_not_wait_for_each_other() -> None:
    one, kept = worker("a", cpu=1.0), Reservations()
    one.start(1, {"cpu": 1.0}, end_ms=400)
    reserve(kept, 8, {"cpu": 1.0}, one, queue=QUEUE)
    reserve(kept, 9, {"cpu": 1.0}, one, queue=OTHER)

    assert kept.allows("a", QUEUE, 8, {"cpu": 1.0}, 10_000)
    assert not kept.allows("a", OTHER, 9, {"cpu": 1.0}, 10_000)
    kept.started("a", QUEUE, 8, {"cpu": 1.0}, 10_000)
    assert kept.allows("a", OTHER, 9, {"cpu": 1.0}, 20_000)


def test_what_the_first_reserved_task_takes_is_not_left_beside_the_second() -> None:
    one, kept = worker("a", cpu=3.0), Reservations()
    one.start(1, {"cpu": 3.0}, end_ms=400)
    reserve(kept, 8, {"cpu": 1.0}, one, queue=QUEUE)
    reserve(kept, 9, {"cpu": 1.0}, one, queue=OTHER)
    kept.started("a", QUEUE, 8, {"cpu": 1.0}, 10_000)

    assert kept.allows("a", QUEUE, 5, {"cpu": 1.0}, 10_000)
    assert not kept.allows("a", QUEUE, 5, {"cpu": 2.0}, 10_000)


def test_nothing_is_kept_for_a_task_that_only_comes_after_the_one_that_a_worker_is_kept_for() -> None:
    one, kept = worker("a", cpu=2.0), Reservations()
    one.start(1, {"cpu": 1.0}, end_ms=400)
    reserve(kept, 8, {"cpu": 2.0}, one, queue=QUEUE)

    assert not kept.allows("a", OTHER, 9, {"cpu": 1.0}, 10_000)
    assert reserve(kept, 9, {"cpu": 1.0}, one, queue=OTHER) is None
    assert kept.allows("a", OTHER, 7, {"cpu": 1.0}, 400)


def test_a_worker_is_not_kept_before_the_task_has_looked_for_room_for_a_while() -> None:
    kept = Reservations()

    due = [kept.is_due(QUEUE, 9, now_ms) for now_ms in (100, 100 + PATIENCE_MS - 1, 100 + PATIENCE_MS)]

    assert due == [False, False, True]
    assert not kept.is_due(OTHER, 9, 100 + PATIENCE_MS)


def test_tasks_that_find_room_one_after_another_are_each_patient_anew() -> None:
    kept = Reservations()
    for number in range(100):
        assert not kept.is_due(QUEUE, number, number * 50)
        assert not kept.is_due(QUEUE, number, number * 50 + 40)
        assert kept
        kept.started("a", QUEUE, number, {}, 10_000)
        assert not kept


def test_tasks_that_take_turns_in_being_first_share_their_patience() -> None:
    kept = Reservations()

    due = [kept.is_due(QUEUE, number % 2, number * PATIENCE_MS // 10) for number in range(11)]

    assert due == [False] * 10 + [True]


# The promise ----------------------------------------------------------------------------------------------------------


class Cluster:
    """Workers under a stream of small tasks that never lets them go empty; one large task comes at `LARGE_MS`."""

    LARGE, LARGE_MS, STREAM_MS = 0, 2_000, 60_000

    def __init__(self, seed: int, *, keeps: bool, late: float) -> None:
        self.rng, self.keeps, self.late = random.Random(seed), keeps, late
        self.workers = [worker(name, slots=100, cpu=8.0) for name in "abc"]
        self.ends: list[tuple[int, ToyWorker, int]] = []
        self.kept = Reservations()
        self.promised_ms: int | None = None
        self.longest_ms = 0  # when the last of what ran at the promise really ends
        self.filled_in = 0

    def large_starts_ms(self) -> int:
        """Simulates until the large task starts."""
        for now_ms in range(0, 2 * self.STREAM_MS, 10):
            for end_ms, one, number in [end for end in self.ends if end[0] <= now_ms]:
                one.end(number)
                self.ends.remove((end_ms, one, number))
            if now_ms >= self.LARGE_MS:
                if free := [one for one in self.workers if one.has_room({"cpu": 8.0})]:
                    assert self.kept.allows(free[0].worker_id, QUEUE, self.LARGE, {"cpu": 8.0}, now_ms + 500)
                    return now_ms
                if self.keeps:
                    self.keep(now_ms)
            if now_ms < self.STREAM_MS:
                self.small(now_ms)
        raise AssertionError("never")

    def keep(self, now_ms: int) -> None:
        reserve(self.kept, self.LARGE, {"cpu": 8.0}, *self.workers, now_ms=now_ms)
        made = self.kept.of(QUEUE)
        assert made is not None
        if self.promised_ms is None:
            self.promised_ms = made.start_ms
            self.longest_ms = max(end_ms for end_ms, one, _ in self.ends if one.worker_id == made.worker_id)
        assert made.start_ms <= self.promised_ms

    def small(self, now_ms: int) -> None:
        while True:
            number, size_ms = self.rng.randrange(1 << 40), self.rng.randrange(50, 1_500)
            needs = {"cpu": self.rng.choice([1.0, 2.0, 3.0])}
            fitting = [
                one
                for one in self.workers
                if one.has_room(needs)
                and self.kept.allows(one.worker_id, QUEUE, number, needs, now_ms + size_ms)
            ]
            if not fitting:
                return
            one, run_ms = fitting[0], int(size_ms * self.rng.uniform(1.0, self.late))
            self.kept.started(one.worker_id, QUEUE, number, needs, now_ms + size_ms)
            one.start(number, needs, end_ms=now_ms + size_ms)
            self.ends.append((now_ms + run_ms, one, number))
            made = self.kept.of(QUEUE)
            self.filled_in += made is not None and made.worker_id == one.worker_id


@pytest.mark.parametrize("seed", range(5))
def test_a_large_task_starts_as_soon_as_it_was_said_while_small_ones_keep_coming(seed: int) -> None:
    cluster = Cluster(seed, keeps=True, late=1.0)

    start_ms = cluster.large_starts_ms()

    assert cluster.promised_ms is not None
    assert start_ms <= cluster.promised_ms + 10  # the step of the simulation
    assert cluster.filled_in > 0, "the worker was not left idle meanwhile"


@pytest.mark.parametrize("seed", range(5))
def test_tasks_that_run_longer_than_expected_delay_it_by_no_more_than_that(seed: int) -> None:
    cluster = Cluster(seed, keeps=True, late=3.0)

    start_ms = cluster.large_starts_ms()

    # What ran then ends in the end; what was let in later is at most three times as long as expected.
    assert cluster.promised_ms is not None
    let_in_ms = cluster.LARGE_MS + 3 * (cluster.promised_ms - cluster.LARGE_MS)
    assert start_ms <= max(cluster.longest_ms, let_in_ms) + 10


def test_without_a_reservation_it_would_wait_for_the_end_of_the_stream() -> None:
    assert Cluster(0, keeps=False, late=1.0).large_starts_ms() >= Cluster.STREAM_MS
