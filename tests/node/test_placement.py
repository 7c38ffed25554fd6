import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from node.tasks.placement import Capacity, can_ever_run, choose
from node.tasks.reasons import Reason
from taskraft.internal.v1.command_pb2 import Demand
from taskraft.v1.queue_pb2 import (
    PLACEMENT_LEAST_LOADED,
    PLACEMENT_PACK,
    PLACEMENT_SPREAD,
    PLACEMENT_UNSPECIFIED,
)
from tests.node.toy_workers import ToyWorker, worker

UNHURRIED = settings(deadline=None)  # what a time is depends on who else works here
QUEUE, OTHER = 1, 2

amounts = some.dictionaries(
    some.sampled_from(["cpu", "gpu", "memory"]), some.floats(1e-3, 64, allow_nan=False), max_size=3
)


def chosen(candidates: list[ToyWorker], placement: int) -> str | None:
    found = choose(candidates, placement, QUEUE)
    return found.worker_id if found else None


# Capacity -------------------------------------------------------------------------------------------------------------


@UNHURRIED
@given(amounts, some.lists(some.tuples(amounts, some.booleans()), max_size=60))
def test_capacity_is_never_exceeded(
    total: dict[str, float], steps: list[tuple[dict[str, float], bool]]
) -> None:
    capacity, running = Capacity(total), list[dict[str, float]]()
    for resources, ends in steps:
        if capacity.fits(resources):
            capacity.take(resources)
            running.append(resources)
        if ends and running:
            capacity.give(running.pop(0))

        for name in {name for one in running for name in one}:
            assert sum(one.get(name, 0.0) for one in running) <= total[name] * (1 + 1e-8)

    for resources in running:
        capacity.give(resources)
    assert capacity.used == {}


def test_sums_of_fractions_fit_as_in_decimal() -> None:
    capacity = Capacity({"cpu": 0.3})
    capacity.take({"cpu": 0.1})

    assert 0.1 + 0.2 > 0.3
    assert capacity.fits({"cpu": 0.2})
    assert not capacity.fits({"cpu": 0.2001})


def test_a_small_amount_is_not_lost_beside_a_large_one() -> None:
    capacity = Capacity({"bytes": 64e9})
    capacity.take({"bytes": 63e9})
    capacity.take({"bytes": 10.0})
    capacity.give({"bytes": 63e9})

    assert capacity.used == {"bytes": 10.0}


def test_a_resource_that_a_worker_does_not_name_it_does_not_have() -> None:
    assert not Capacity({"cpu": 4.0}).fits({"gpu": 0.001})
    assert Capacity({"cpu": 4.0}).lacks({"gpu": 0.001, "cpu": 4.0}) == ["gpu"]


def test_a_task_without_demands_fits_a_full_worker() -> None:
    capacity = Capacity({"cpu": 1.0})
    capacity.take({"cpu": 5.0})

    assert capacity.fits({})
    assert capacity.free() == {"cpu": -4.0}


# Which workers can run a task -----------------------------------------------------------------------------------------


def demand() -> Demand:
    return Demand(type="render", resources={"gpu": 2.0}, worker_labels={"zone": "a"})


@pytest.mark.parametrize(
    ("types", "labels", "gpus", "expected"),
    [
        ({"render"}, {"zone": "a", "disk": "ssd"}, 2.0, None),
        (set(), {"zone": "a"}, 4.0, None),
        ({"encode"}, {"zone": "a"}, 4.0, Reason.NO_WORKER_FOR_TYPE),
        (set(), {"zone": "b"}, 4.0, Reason.WORKER_LABELS),
        (set(), {}, 4.0, Reason.WORKER_LABELS),
        (set(), {"zone": "a"}, 1.9, Reason.RESOURCES),
    ],
)
def test_what_a_worker_lacks_is_named(
    types: set[str], labels: dict[str, str], gpus: float, expected: Reason | None
) -> None:
    candidate = worker(gpu=gpus)
    candidate.types, candidate.labels = frozenset(types), labels

    assert can_ever_run(candidate, demand()) == expected


def test_a_busy_worker_can_still_ever_run_what_it_has_in_total() -> None:
    candidate = worker(gpu=2.0)
    candidate.labels = {"zone": "a"}
    candidate.start(1, {"gpu": 2.0})

    assert can_ever_run(candidate, demand()) is None
    assert not candidate.capacity.fits(demand().resources)


# Which one gets it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", [PLACEMENT_LEAST_LOADED, PLACEMENT_PACK, PLACEMENT_SPREAD])
def test_nobody_is_chosen_of_none_and_the_first_by_id_of_equals(placement: int) -> None:
    assert chosen([], placement) is None
    assert chosen([worker("b"), worker("a"), worker("c")], placement) == "a"


@pytest.mark.parametrize("placement", [PLACEMENT_LEAST_LOADED, PLACEMENT_UNSPECIFIED])
def test_least_loaded_goes_by_what_workers_report(placement: int) -> None:
    busy, idle = worker("a"), worker("b")
    busy.load, idle.load = 0.8, 0.1

    assert chosen([busy, idle], placement) == "b"


def test_least_loaded_counts_what_was_given_since_the_report() -> None:
    candidates = [worker("a", slots=4), worker("b", slots=4)]
    candidates[1].load = 0.1
    given_to = ""
    for number in range(8):
        one = choose(candidates, PLACEMENT_LEAST_LOADED, QUEUE)
        assert one is not None
        one.start(number, {})
        given_to += one.worker_id

    assert given_to == "abababab"


def test_least_loaded_gives_a_large_worker_more() -> None:
    candidates = [worker("large", slots=12), worker("small", slots=4)]
    for number in range(8):
        one = choose(candidates, PLACEMENT_LEAST_LOADED, QUEUE)
        assert one is not None
        one.start(number, {})

    assert [one.held for one in candidates] == [6, 2]


def test_pack_fills_the_fullest_by_slots_or_by_resources() -> None:
    slots, gpus, idle = worker("c", gpu=4.0), worker("d", gpu=4.0), worker("a", gpu=4.0)
    slots.start(1, {})
    gpus.start(2, {"gpu": 3.0})

    assert chosen([idle, slots], PLACEMENT_PACK) == "c"
    assert chosen([idle, slots, gpus], PLACEMENT_PACK) == "d"


def test_pack_uses_no_more_workers_than_it_must() -> None:
    candidates = [worker(f"w{n}", slots=4) for n in range(5)]
    for number in range(9):
        one = choose([one for one in candidates if one.has_room({})], PLACEMENT_PACK, QUEUE)
        assert one is not None
        one.start(number, {})

    assert sorted(one.held for one in candidates) == [0, 0, 1, 4, 4]


def test_spread_goes_by_the_tasks_of_this_queue_and_then_by_load() -> None:
    a, b, c = worker("a"), worker("b"), worker("c")
    a.start(1, {}, queue_id=QUEUE)
    b.start(2, {}, queue_id=OTHER)
    b.start(3, {}, queue_id=OTHER)
    c.start(4, {}, queue_id=OTHER)

    assert chosen([a, b, c], PLACEMENT_SPREAD) == "c"
    assert chosen([a, b], PLACEMENT_SPREAD) == "b"
