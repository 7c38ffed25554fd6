from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskraft import After, NewTask
from taskraft._new_task import Ids, dependencies, head, tail
from taskraft._submitter import pieces_of
from taskraft.v1 import task_pb2


def parsed(wire: bytes) -> task_pb2.Task:
    [task] = task_pb2.SubmitTasksRequest.FromString(wire).tasks
    return task


def test_a_task_without_settings_is_its_id_type_queue_and_payload() -> None:
    plain = [NewTask(type="t", queue=queue, payload=b"p", content_type=how) for queue in "qr" for how in "cd"]

    tasks = [parsed(one.wire("a")) for one in plain]

    assert tasks == [
        task_pb2.Task(name="tasks/a", queue=f"queues/{queue}", type="t", payload=b"p", content_type=how)
        for queue in "qr"
        for how in "cd"
    ]


def test_a_setting_of_a_wrong_type_is_not_taken_for_none() -> None:
    with pytest.raises(TypeError, match=r"^tenant="):
        NewTask(type="t", queue="q", tenant=0).wire("a")  # type: ignore[arg-type]


def test_a_task_is_written_as_protobuf_writes_it() -> None:
    new = NewTask(
        type="resize",
        queue="images",
        payload=b"p" * 300,
        priority=-3,
        size=2.5,
        resources={"cpu": 2},
        worker_labels={"zone": "eu"},
        after=["a", After("b", "ended"), "tasks/c"],
        lease=20,
        max_attempts=5,
        backoff=0.25,
        timeout=60,
        tenant="x",
        limit_key="k",
        preemptible=True,
        labels={"l": "1"},
        headers={"h": "2"},
    )

    task = parsed(new.wire("id-1"))

    expected = task_pb2.Task(
        name="tasks/id-1",
        queue="queues/images",
        type="resize",
        payload=b"p" * 300,
        content_type="application/json",
        priority=-3,
        size=timedelta(seconds=2.5),
        resources={"cpu": 2.0},
        worker_labels={"zone": "eu"},
        dependencies=[
            task_pb2.Dependency(task="tasks/a", condition=task_pb2.DEPENDENCY_CONDITION_SUCCEEDED),
            task_pb2.Dependency(task="tasks/b", condition=task_pb2.DEPENDENCY_CONDITION_ENDED),
            task_pb2.Dependency(task="tasks/c", condition=task_pb2.DEPENDENCY_CONDITION_SUCCEEDED),
        ],
        lease=timedelta(seconds=20),
        max_attempts=5,
        backoff=timedelta(milliseconds=250),
        timeout=timedelta(seconds=60),
        tenant="x",
        limit_key="k",
        preemptible=True,
        labels={"l": "1"},
        headers={"h": "2"},
    )
    assert task == expected


def test_zero_is_a_length_too() -> None:
    """The broker refuses it; taking it for "not said" would hide the mistake."""
    assert task_pb2.Task.FromString(head("t", "q", "", {"lease": 0})).HasField("lease")
    assert not task_pb2.Task.FromString(head("t", "q", "", {"lease": None})).HasField("lease")


@pytest.mark.parametrize(
    "setting",
    [{"priority": "high"}, {"lease": "10s"}, {"resources": ["cpu"]}, {"labels": {"a": 1}}, {"tenant": 3}],
)
def test_a_setting_of_the_wrong_type_is_named(setting: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^{next(iter(setting))}="):
        head("t", "q", "", setting)


def test_times_are_counted_from_the_submit() -> None:
    before = datetime.now(UTC)
    task = task_pb2.Task.FromString(tail([], delay=5, deadline=60))
    after = datetime.now(UTC)

    assert before <= task.not_before.ToDatetime(UTC) - timedelta(seconds=5) <= after
    assert before <= task.deadline.ToDatetime(UTC) - timedelta(seconds=60) <= after


def test_the_later_of_delay_and_not_before_counts() -> None:
    moment = datetime(2090, 1, 1, tzinfo=UTC)

    assert task_pb2.Task.FromString(tail([], delay=5, not_before=moment)).not_before.ToDatetime(UTC) == moment
    assert tail([]) == b""


def test_the_condition_that_was_asked_for_is_kept_where_the_result_is_needed_too() -> None:
    edges = dependencies([After("a", "ended")], parents=["a", "b"])

    assert [(edge.task, edge.condition) for edge in edges] == [("tasks/a", 3), ("tasks/b", 1)]


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="succeeded, any_succeeded, ended"):
        dependencies([After("a", "finished")])  # type: ignore[arg-type]


def test_ids_grow_and_are_never_the_same() -> None:
    ids = Ids()
    many = [ids.one(), *ids.take(5_000), ids.one()]

    assert many == sorted(set(many))
    assert {len(one) for one in many} == {32}
    assert abs(int(many[0][:12], 16) - time.time() * 1_000) < 60_000


def test_threads_do_not_make_the_same_ids() -> None:
    ids, seen = Ids(), list[str]()
    threads = [threading.Thread(target=lambda: seen.extend(ids.one() for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 2_000


def test_two_processes_do_not_make_the_same_ids() -> None:
    """In the same millisecond the random bits tell them apart, after a fork too."""
    one, other = Ids(), Ids()
    one._last = other._last = 1 << 67

    assert one.one()[:17] == other.one()[:17]
    assert one.one()[17:] != other.one()[17:]

    before = one.one()[17:]
    one.renew()
    assert one.one()[17:] != before


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([10] * 4_500, [2_000, 2_000, 500]),
        ([400_000] * 5, [2, 2, 1]),
        ([1_100_000, 10, 10], [1, 2]),
        ([10], [1]),
        ([], []),
    ],
)
def test_many_tasks_travel_in_parts_that_a_call_can_hold(sizes: list[int], parts: list[int]) -> None:
    elements = [b"x" * size for size in sizes]

    pieces = list(pieces_of(elements))

    assert [count for _, count in pieces] == parts
    assert b"".join(wire for wire, _ in pieces) == b"".join(elements)
