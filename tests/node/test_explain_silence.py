"""What is said of a task whose worker is not heard of."""

from pathlib import Path

from node.tasks.outlook import Outlook
from taskraft.v1 import task_pb2
from tests.node.scheduling import House, house


def explained(home: House, name: str) -> task_pb2.ExplainTaskResponse:
    return Outlook(home.machine, home.scheduler, clock=home.clock).explain(home.task(name))


def test_a_task_of_a_worker_that_is_heard_of_just_runs(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.queue()
        home.submit("a")
        home.worker("w1", credit=1).receive()
        home.tick(5_000)

        answer = explained(home, "a")

        assert not answer.obstacles
        assert answer.HasField("finish")


def test_a_task_whose_workers_stream_is_broken_says_when_another_one_gets_it(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.queue()
        home.submit("a")
        worker = home.worker("w1", credit=1)
        worker.receive()
        home.tick(1_000)
        worker.cut()
        home.tick(4_000)

        answer = explained(home, "a")

        (obstacle,) = answer.obstacles
        assert obstacle.reason == "WORKER_SILENT"
        text = "its worker w1 is not heard of; if it stays away, the task goes to another one in 6 s"
        assert obstacle.message == text
        assert not answer.HasField("finish")
        worker.back()
        assert not explained(home, "a").obstacles
        assert home.state("a") == "LEASED"


def test_a_task_whose_worker_sends_no_heartbeats_says_so_too(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.queue(lease={"seconds": 60})
        home.submit("a")
        home.worker("w1", credit=1).receive()
        home.tick(30_000, heartbeats=False)

        (obstacle,) = explained(home, "a").obstacles
        assert obstacle.reason == "WORKER_SILENT"
