"""The classic small scheduler: tasks have an id, a priority and a size. A good first example of what this project does.

Tasks are submitted to a queue that nobody works on yet, so that we see how it decides: what a task that comes twice is
answered, and in which order the tasks would start.
"""

from collections.abc import Iterator

import pytest

from taskraft import NewTask, SyncClient, testing
from tests.cluster.processes import wait_for


@pytest.fixture(scope="module")
def client() -> Iterator[SyncClient]:
    with testing.node() as address, SyncClient(address) as connected:
        yield connected


def submit(client: SyncClient, queue: str, task_id: str, priority: int, size: float) -> str:
    task = NewTask(queue=queue, type="job", id=f"{queue}-{task_id}", priority=priority, size=size)
    return client.tasks.submit(task).outcome


def order(client: SyncClient, queue: str) -> list[str]:
    """The waiting tasks in the order in which they would start."""
    tasks = client.tasks.list(queue=queue, order="schedule")
    return [task.id.removeprefix(f"{queue}-") for task in tasks]


def test_a_task_that_is_submitted_again_with_a_higher_priority_is_replaced(client: SyncClient) -> None:
    client.create_queue("first", kind="task", policy="priority")

    assert submit(client, "first", "backup", priority=1, size=60) == "created"
    assert submit(client, "first", "report", priority=5, size=10) == "created"
    assert order(client, "first") == ["report", "backup"]

    assert submit(client, "first", "backup", priority=9, size=60) == "replaced"
    assert order(client, "first") == ["backup", "report"]


@pytest.mark.parametrize("priority", [5, 4])
def test_a_task_that_is_submitted_again_with_the_same_or_a_lower_priority_was_scheduled_already(
    client: SyncClient, priority: int
) -> None:
    queue = f"second-{priority}"
    client.create_queue(queue, kind="task", policy="priority")
    submit(client, queue, "report", priority=5, size=10)

    assert submit(client, queue, "report", priority=priority, size=10) == "already_scheduled"
    assert client.tasks.get(f"{queue}-report").priority == 5


def test_the_order_is_that_of_the_policy_and_changes_with_it(client: SyncClient) -> None:
    client.create_queue("third", kind="task", policy="priority")
    for task_id, priority, size in [("a", 1, 30), ("b", 3, 20), ("c", 2, 10)]:
        submit(client, "third", task_id, priority, size)
    assert order(client, "third") == ["b", "c", "a"]

    client.update_queue(
        "third", policy="shortest_job_first"
    )  # what waits is put in its new order in a moment
    wait_for(lambda: order(client, "third") == ["c", "b", "a"], "the shortest job first")

    client.update_queue("third", policy="fifo")
    wait_for(lambda: order(client, "third") == ["a", "b", "c"], "the first one first")
