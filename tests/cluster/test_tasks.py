"""Leaders and workers are killed and paused while tasks run; each task ends once, and what runs twice has a cause."""

import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from taskraft import NewTask, SyncClient, errors
from taskraft._task_values import TaskInfo
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import Say
from tests.cluster.processes import wait_for
from tests.cluster.task_app import add, app, count, sleep
from tests.cluster.task_worker import Workers, claim_success

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("tasks")) as cluster:
        app.addresses = cluster.addresses
        yield cluster
        app.close()


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    for node in shared.nodes:
        if not node.running:
            node.start()
    shared.wait_healthy()
    return shared


@pytest.fixture
def workers(cluster: Cluster, tmp_path: Path) -> Iterator[Workers]:
    found = Workers(cluster, tmp_path / "executions")
    yield found
    found.close()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[SyncClient]:
    with SyncClient(cluster.addresses) as connected:
        yield connected


def history(info: TaskInfo) -> list[str]:
    return [event.reason for event in info.events]


def test_tasks_that_run_when_the_leader_dies_end_once(cluster: Cluster, workers: Workers, say: Say) -> None:
    workers.start("w1", "--threads", "8")
    workers.start("w2", "--threads", "8")
    handles = sleep.map([0.5] * 100)
    workers.begun(20)

    leader = cluster.leader()
    leader.kill()
    assert handles.results(timeout=60) == [0.5] * 100

    assert workers.repeated() == {}
    say(f"100 tasks of 0.5 s on 16 threads, {leader} killed among them: none ran twice")


def test_leaders_that_die_one_after_another_repeat_nothing(cluster: Cluster, workers: Workers) -> None:
    workers.start("w1", "--threads", "4")
    handles = sleep.map([0.3] * 60)
    for begun in (4, 20, 36):
        workers.begun(begun)
        leader = cluster.leader()
        leader.kill()
        leader.start()
        cluster.wait_healthy()

    assert handles.results(timeout=60) == [0.3] * 60
    assert workers.repeated() == {}


def test_a_worker_that_dies_costs_one_attempt_of_what_it_had(
    cluster: Cluster, workers: Workers, client: SyncClient
) -> None:
    workers.start("w1", "--threads", "2")
    handle = sleep.submit(1.0)
    (first,) = workers.begun()

    workers.kill("w1")
    workers.start("w2")
    assert handle.result(timeout=30) == 1.0

    info = client.tasks.get(handle.id, full=True)
    assert info.attempt == 2
    assert workers.repeated() == {handle.id: 2}
    assert [one for one in history(info) if one != "SUBMITTED"] == [
        "LEASED",
        "LEASE_EXPIRED",
        "LEASED",
        "SUCCEEDED",
    ]
    assert max(one.lease for one in workers.executions()) > first.lease


def test_a_worker_that_was_paused_for_longer_than_its_lease_is_refused(
    cluster: Cluster, workers: Workers, client: SyncClient
) -> None:
    workers.start("w1", "--threads", "1")
    handle = sleep.submit(0.5)
    workers.begun()

    workers.send("w1", signal.SIGSTOP)
    workers.start("w2")
    assert handle.result(timeout=30) == 0.5
    workers.send("w1", signal.SIGCONT)
    wait_for(lambda: sum(one.what == "end" for one in workers.executions()) == 2, "the late end")
    again = sleep.submit(0.0)
    assert again.result(timeout=20) == 0.0

    info = client.tasks.get(handle.id, full=True)
    assert history(info).count("SUCCEEDED") == 1
    assert info.worker_id == "w2"


def test_a_worker_that_is_told_to_end_finishes_what_it_runs_and_hands_back_the_rest(
    cluster: Cluster, workers: Workers
) -> None:
    workers.start("w1", "--threads", "1")
    first = sleep.submit(0.5)
    workers.begun()
    others = sleep.map([0.01] * 5)

    workers.send("w1", signal.SIGTERM)
    assert workers.wait("w1") == 0, workers.log("w1")
    assert first.result(timeout=5) == 0.5
    workers.start("w2")

    assert others.results(timeout=20) == [0.01] * 5
    assert workers.repeated() == {}


def test_slices_go_on_where_they_stopped_across_the_death_of_a_worker(
    cluster: Cluster, workers: Workers
) -> None:
    workers.start("w1", "--threads", "1")
    handles = count.map([20, 20])
    workers.begun(4)  # both were sliced
    workers.kill("w1")
    workers.start("w2", "--threads", "1")

    assert handles.results(timeout=40) == [20, 20]
    starts = [int(one.what.removeprefix("from ")) for one in workers.executions()]
    assert sum(start > 0 for start in starts) >= 2


def test_a_workflow_survives_the_death_of_a_worker_and_of_the_leader(
    cluster: Cluster, workers: Workers, tmp_path: Path
) -> None:
    workers.start("w1", "--threads", "4")
    workers.start("w2", "--threads", "4")
    with app.workflow(tmp_path.name) as workflow:
        layers = [workflow.map(sleep, [0.02] * 40)]
        sums = [workflow.add(add, [1, *(0 for _ in range(3))]) for _ in range(20)]
        total = workflow.add(add, [one.output for one in sums])
        last = workflow.add(sleep.options(after=[total, *layers[0]]), 0.0)
    workers.begun(10)

    workers.kill("w1")
    cluster.leader().kill()

    assert last.result(timeout=60) == 0.0
    assert total.result(timeout=10) == 20
    assert workflow.handle.wait(timeout=20).state == "succeeded"
    ends = [one.task for one in workers.executions() if one.what == "end"]
    assert set(workers.repeated()) <= {one.task for one in workers.executions() if one.attempt > 1}
    assert len(set(ends)) == 62


def test_a_schedule_ticks_once_for_each_second_although_leaders_die(
    cluster: Cluster, workers: Workers, client: SyncClient, tmp_path: Path
) -> None:
    workers.start("w1")
    sleep.submit(0.0).result(timeout=20)
    app.schedule(tmp_path.name, add, args=([1],), interval=1, overlap="queue", missed="all")
    wait_for(lambda: client.schedules.get(tmp_path.name).fired_ticks >= 2, "two ticks")

    cluster.leader().kill()
    wait_for(lambda: client.schedules.get(tmp_path.name).fired_ticks >= 6, "six ticks")
    client.schedules.pause(tmp_path.name)
    info = client.schedules.get(tmp_path.name)

    ticks = sorted(
        int(task.id.rpartition(":")[2])
        for task in client.tasks.list(queue="work")
        if task.id.startswith(f"{tmp_path.name}:")
    )
    assert len(ticks) == info.fired_ticks
    assert [later - earlier for earlier, later in pairwise(ticks)] == [1_000] * (len(ticks) - 1)
    client.schedules.delete(tmp_path.name)


def test_an_outcome_for_the_lease_of_another_worker_is_refused_and_changes_nothing(
    cluster: Cluster, workers: Workers, client: SyncClient
) -> None:
    workers.start("w1")
    handle = sleep.submit(2.0)
    (execution,) = workers.begun()

    refused = claim_success(cluster.leader().grpc, "work", execution.lease)

    assert refused == {execution.lease: "LEASE_LOST"}
    assert handle.result(timeout=20) == 2.0
    assert workers.repeated() == {}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"resources": {"cpu": -1.0}}, "INVALID_FIELD"),
        ({"payload": b"x" * (1 << 20) + b"y"}, "PAYLOAD_TOO_LARGE"),
        ({"after": ["nobody"]}, "UNKNOWN_DEPENDENCY"),
        ({"priority": 1_001}, "INVALID_FIELD"),
    ],
)
def test_bad_tasks_are_refused_with_their_reason_and_nothing_is_stored(
    cluster: Cluster, client: SyncClient, change: dict[str, Any], error: str
) -> None:
    client.create_queue("bad", kind="task", exist_ok=True)
    before = client.get_queue("bad").stats.published_messages
    task = NewTask(**{"queue": "bad", "type": "job", **change})

    with pytest.raises(errors.TaskraftError) as caught:
        client.tasks.submit(task)

    assert caught.value.reason == error
    assert client.get_queue("bad").stats.published_messages == before


def test_cycles_unknown_policies_and_impossible_times_are_refused_with_their_reason(
    cluster: Cluster, client: SyncClient
) -> None:
    client.create_queue("bad", kind="task", exist_ok=True)
    circle = [
        NewTask(queue="bad", type="job", id="a", after=["b"]),
        NewTask(queue="bad", type="job", id="b", after=["a"]),
    ]

    with pytest.raises(errors.Cycle, match=r"tasks/[ab] -> tasks/[ab] -> tasks/[ab]"):
        client.tasks.submit_many(circle)
    with pytest.raises((errors.InvalidArgument, ValueError), match="policy"):
        client.create_queue("worse", kind="task", policy="lifo")  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidArgument, match="cron"):
        client.schedules.create("never", NewTask(queue="bad", type="job"), cron="0 0 30 2 *")

    assert client.get_queue("bad").stats.messages == 0
