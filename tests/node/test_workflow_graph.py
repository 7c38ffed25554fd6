"""Cycles among dependencies are found and named."""

import random

from hypothesis import given
from hypothesis import strategies as st

from node.workflow_graph import describe, find_cycle

GRAPHS = st.integers(1, 8).flatmap(
    lambda count: st.lists(
        st.lists(st.integers(0, count), max_size=4), min_size=count, max_size=count
    )  # the number `count` itself is a task that the graph does not hold
)


def chain(count: int, order: list[int]) -> dict[str, list[str]]:
    """Task i waits for task i - 1; they are given in `order`."""
    return {f"tasks/{i}": [f"tasks/{i - 1}"] if i else [] for i in order[:count]}


def test_tasks_that_come_after_what_they_wait_for_have_no_cycle() -> None:
    assert find_cycle({"a": [], "b": ["a"], "c": ["a", "b", "elsewhere"]}) == []


def test_tasks_may_be_given_in_any_order() -> None:
    assert find_cycle(chain(50, random.Random(1).sample(range(50), 50))) == []


def test_a_cycle_is_named_in_its_order_from_the_task_that_was_given_first() -> None:
    graph = {"tasks/x": ["tasks/b"], "tasks/a": ["tasks/b"], "tasks/b": ["tasks/c"], "tasks/c": ["tasks/a"]}
    cycle = find_cycle(graph)
    assert cycle == ["tasks/a", "tasks/b", "tasks/c"]
    assert describe(cycle) == "tasks/a -> tasks/b -> tasks/c -> tasks/a"


def test_a_task_that_waits_for_itself_is_a_cycle() -> None:
    assert describe(find_cycle({"tasks/a": [], "tasks/b": ["tasks/a", "tasks/b"]})) == "tasks/b -> tasks/b"


@given(GRAPHS)
def test_a_cycle_is_named_exactly_if_there_is_one(edges: list[list[int]]) -> None:
    graph = {str(i): [str(other) for other in others] for i, others in enumerate(edges)}
    cycle = find_cycle(graph)
    for name, other in zip(cycle, cycle[1:] + cycle[:1], strict=True):
        assert other in graph[name]
    assert len(set(cycle)) == len(cycle)
    reach = {name: {other for other in others if other in graph} for name, others in graph.items()}
    for _ in graph:  # the transitive closure
        reach = {name: others.union(*(reach[other] for other in others)) for name, others in reach.items()}
    assert bool(cycle) == any(name in others for name, others in reach.items())


def test_ten_thousand_tasks_with_a_hundred_thousand_dependencies_are_looked_through() -> None:
    rng, count = random.Random(7), 10_000
    order = rng.sample(range(count), count)
    graph = {f"tasks/{i}": [f"tasks/{rng.randrange(i)}" for _ in range(10)] if i else [] for i in order}
    assert find_cycle(graph) == []
    graph["tasks/0"] = ["tasks/9999"]
    assert find_cycle(graph)


def test_a_chain_of_ten_thousand_is_no_problem_for_the_stack() -> None:
    count = 10_000
    graph = chain(count, list(range(count - 1, -1, -1)))
    assert find_cycle(graph) == []
    graph["tasks/0"] = [f"tasks/{count - 1}"]
    assert len(find_cycle(graph)) == count
