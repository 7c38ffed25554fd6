"""What is stored of tasks: the whole row, however little of it a command has changed."""

from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.node.task_log import Tasks, cancel, on, retry, submit, task
from tests.node.test_task_model import Pair
from tests.sim.state_log import Follower


def assert_stored(follower: Follower) -> None:
    """After a restart all rows are what they were."""
    rows, _ = follower.machine.tasks_list(looked_at=1 << 20)
    said = [replace(row) for row in rows]
    follower.restart()
    stored, _ = follower.machine.tasks_list(looked_at=1 << 20)
    assert said
    assert stored == said


@pytest.mark.parametrize("seed", range(3))
def test_what_is_stored_of_a_task_is_what_the_row_said_before_a_restart(seed: int, tmp_path: Path) -> None:
    pair = Pair(seed, tmp_path / "state")
    for _ in range(4):
        for _ in range(25):
            pair.step()
        assert_stored(pair.follower)


def test_a_retried_task_that_ends_at_once_is_stored_as_it_is(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path / "state")
    passed_ms = tasks.now_ms + 50
    deadline = Timestamp(seconds=passed_ms // 1000, nanos=passed_ms % 1000 * 1_000_000)
    tasks.do(submit(task("a"), task("b", on("a"), deadline=deadline)))
    tasks.do(cancel("a"))
    tasks.do(retry("b"), tasks.now_ms + 100)
    assert tasks.states("b") == ["FAILED"]
    assert tasks.row("b").deadline_ms == 0
    assert_stored(tasks.follower)
