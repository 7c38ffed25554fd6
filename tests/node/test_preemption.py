import itertools

from hypothesis import given, settings
from hypothesis import strategies as some

from node.tasks.placement import Resources
from node.tasks.preemption import Running, victims
from tests.node.toy_workers import ToyWorker, worker

UNHURRIED = settings(deadline=None)  # what a time is depends on who else works here


def holding(one: ToyWorker, *running: Running) -> tuple[ToyWorker, list[Running]]:
    for task in running:
        one.start(task.number, task.resources)
    return (one, list(running))


def task(
    number: int, priority: int, *, started_ms: int = 0, preemptible: bool = True, **resources: float
) -> Running:
    return Running(number, priority, preemptible, resources, started_ms)


def numbers(found: list[Running]) -> list[int]:
    return [one.number for one in found]


def test_the_task_of_lowest_priority_is_stopped() -> None:
    full = holding(worker(cpu=2.0), task(1, 5, cpu=1.0), task(2, 3, cpu=1.0))

    assert numbers(victims(9, {"cpu": 1.0}, [full])) == [2]


def test_of_equal_priorities_the_one_that_started_last_is_stopped() -> None:
    full = holding(worker(cpu=2.0), task(1, 3, cpu=1.0, started_ms=50), task(2, 3, cpu=1.0, started_ms=90))

    assert numbers(victims(9, {"cpu": 1.0}, [full])) == [2]


def test_a_task_of_equal_priority_or_that_is_not_preemptible_is_never_stopped() -> None:
    full = holding(worker(cpu=2.0), task(1, 9, cpu=1.0), task(2, 3, cpu=1.0, preemptible=False))

    assert victims(9, {"cpu": 1.0}, [full]) == []


def test_nothing_is_stopped_if_that_does_not_make_enough_room() -> None:
    full = holding(worker(cpu=2.0), task(1, 9, cpu=1.0), task(2, 3, cpu=1.0))

    assert victims(9, {"cpu": 2.0}, [full]) == []


def test_nothing_is_stopped_where_there_is_room() -> None:
    full = holding(worker("a", cpu=1.0), task(1, 3, cpu=1.0))

    assert victims(9, {"cpu": 1.0}, [full, holding(worker("b", cpu=1.0))]) == []


def test_all_victims_are_on_one_worker() -> None:
    first = holding(worker("a", cpu=2.0), task(1, 1, cpu=1.0), task(2, 9, cpu=1.0))
    second = holding(worker("b", cpu=2.0), task(3, 2, cpu=1.0), task(4, 2, cpu=1.0))

    assert sorted(numbers(victims(9, {"cpu": 2.0}, [first, second]))) == [3, 4]


def test_a_worker_whose_victims_matter_less_comes_before_one_with_fewer_victims() -> None:
    few = holding(worker("a", cpu=2.0), task(1, 5, cpu=2.0))
    many = holding(worker("b", cpu=2.0), task(2, 1, cpu=1.0), task(3, 1, cpu=1.0))

    assert sorted(numbers(victims(9, {"cpu": 2.0}, [few, many]))) == [2, 3]


def test_of_workers_whose_victims_matter_equally_the_one_with_fewer_is_taken() -> None:
    few = holding(worker("b", cpu=2.0), task(1, 1, cpu=2.0))
    many = holding(worker("a", cpu=2.0), task(2, 1, cpu=1.0), task(3, 1, cpu=1.0))

    assert numbers(victims(9, {"cpu": 2.0}, [many, few])) == [1]


def test_then_the_one_where_the_least_work_is_lost() -> None:
    long = holding(worker("a", cpu=1.0), task(1, 1, cpu=1.0, started_ms=10))
    recent = holding(worker("b", cpu=1.0), task(2, 1, cpu=1.0, started_ms=99))

    assert numbers(victims(9, {"cpu": 1.0}, [long, recent])) == [2]


def test_a_place_is_made_at_a_worker_that_takes_no_more_tasks() -> None:
    full = holding(worker(slots=2, cpu=9.0), task(1, 2, cpu=1.0), task(2, 1, cpu=1.0))

    assert numbers(victims(9, {"cpu": 1.0}, [full])) == [2]


def test_a_task_that_gives_back_nothing_of_what_is_missing_is_left_alone() -> None:
    full = holding(worker(cpu=2.0, gpu=1.0), task(1, 1, cpu=1.0, started_ms=9), task(2, 1, gpu=1.0))

    assert numbers(victims(9, {"gpu": 1.0}, [full])) == [2]


def test_one_large_task_is_stopped_rather_than_several_small_ones() -> None:
    full = holding(
        worker(slots=8, cpu=8.0), *(task(n, 1, cpu=1.0, started_ms=n) for n in range(4)), task(9, 1, cpu=4.0)
    )

    assert numbers(victims(5, {"cpu": 4.0}, [full])) == [9]


def test_a_task_that_others_made_superfluous_is_left_alone() -> None:
    both = task(1, 1, started_ms=9, cpu=1.0, gpu=1.0)
    full = holding(worker(cpu=3.0, gpu=3.0), both, task(2, 1, cpu=2.0), task(3, 1, gpu=2.0))

    assert sorted(numbers(victims(5, {"cpu": 2.0, "gpu": 2.0}, [full]))) == [2, 3]


def test_of_very_many_workers_only_so_many_are_compared() -> None:
    alike = [holding(worker(f"w{n:03}", cpu=1.0), task(n, 5, cpu=1.0)) for n in range(200)]
    alike[-1] = holding(worker("w199", cpu=1.0), task(199, 1, cpu=1.0))

    assert numbers(victims(9, {"cpu": 1.0}, alike)) == [0]
    assert numbers(victims(9, {"cpu": 1.0}, alike[::-1])) == [199]


amounts = some.fixed_dictionaries({"cpu": some.integers(1, 6)}, optional={"gpu": some.integers(1, 6)})
tasks = some.lists(
    some.builds(
        Running,
        number=some.just(0),
        priority=some.integers(0, 3),
        preemptible=some.booleans(),
        resources=amounts,
        started_ms=some.integers(0, 5),
    ),
    max_size=7,
)


def enough(one: ToyWorker, resources: Resources, chosen: tuple[Running, ...]) -> bool:
    free = one.capacity.free()
    for ended in chosen:
        for name, amount in ended.resources.items():
            free[name] += amount
    return one.credit + len(chosen) > 0 and all(free[name] >= amount for name, amount in resources.items())


@UNHURRIED
@given(tasks, amounts, some.integers(0, 4), some.integers(0, 2))
def test_victims_are_enough_and_none_too_many(
    running: list[Running], wanted: dict[str, float], priority: int, spare: int
) -> None:
    running = [one._replace(number=n) for n, one in enumerate(running)]
    total = {name: max(6.0, sum(one.resources.get(name, 0.0) for one in running)) for name in ("cpu", "gpu")}
    one, held = holding(worker(slots=len(running) + spare, cpu=total["cpu"], gpu=total["gpu"]), *running)

    found = victims(priority, wanted, [(one, held)])

    allowed = [other for other in running if other.preemptible and other.priority < priority]
    sets = [
        chosen
        for count in range(len(allowed) + 1)
        for chosen in itertools.combinations(allowed, count)
        if enough(one, wanted, chosen)
    ]
    if not sets or sets[0] == ():
        assert found == []
        return
    assert set(numbers(found)) <= set(numbers(allowed))
    assert enough(one, wanted, tuple(found))
    assert not any(enough(one, wanted, less) for less in itertools.combinations(found, len(found) - 1))
    least = min(max(victim.priority for victim in chosen) for chosen in sets)
    assert max(victim.priority for victim in found) == least
    if "gpu" not in wanted:
        assert len(found) == min(len(s) for s in sets if max(victim.priority for victim in s) == least)
