"""Tasks in the store: commands take effect wholly or not at all, copies are whole, older stores are taken over."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from node.state import handlers
from node.state.results import Refused
from node.state.store import StoreFailedError
from node.state.tables import Position, Tables
from node.state.task_schema import TASK_SCHEMA
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2, task_pb2
from tests.node.old_stores import make_version_1
from tests.node.task_log import (
    QUEUE,
    Tasks,
    advance,
    lease,
    on,
    retry,
    schedule_settings,
    settle,
    submit,
    success,
    task,
)
from tests.node.task_mirror import Mirror
from tests.sim.state_log import Follower, MemoryLog, create, delete, publish, purge

TABLES = [line.split()[5] for line in TASK_SCHEMA if "CREATE TABLE" in line]


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(tmp_path / "state")


def everything(tasks: Tasks) -> dict[str, list[Any]]:
    """All rows of all tables of tasks."""
    tasks.machine._tables.flush()
    execute = tasks.machine._store.execute
    return {table: execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}


def fill(tasks: Tasks) -> None:
    """Something in every table."""
    schedule = command_pb2.CreateSchedule(schedule=schedule_settings(), next_tick_ms=9_000_000)
    tasks.do(command_pb2.Command(create_schedule=schedule))
    long = task("b", tenant="x", payload=b"long" * 100)
    tasks.do(submit(task("a"), long, task("c", on("a", "b")), workflow="w"))
    tasks.lease("a", "b")
    tasks.do(settle([success(tasks.row("a"), b"result" * 20)]))
    said = command_pb2.RecordedProgress(number=2, lease_id=tasks.row("b").lease_id, checkpoint=b"half")
    tasks.do(command_pb2.Command(record_progress=command_pb2.RecordProgress(tasks=[said])))
    tasks.do(create("queues/gone", kind=queue_pb2.QUEUE_KIND_TASK))
    tasks.do(submit(task("dead", queue="queues/gone")))
    tasks.do(delete("queues/gone"))


def break_down(monkeypatch: pytest.MonkeyPatch, kind: str, log_index: int) -> None:
    """The commands of this kind in that entry fail after they have done everything."""
    handler = handlers.HANDLERS[kind]

    def broken(tables: Tables, at: Position, command: Any) -> Any:
        result = handler(tables, at, command)
        if at.log_index == log_index:
            tables.tasks.flush()
            raise RuntimeError("a mistake of ours")
        return result

    monkeypatch.setitem(handlers.HANDLERS, kind, broken)


@pytest.mark.parametrize(
    "kind", ["submit_tasks", "lease_tasks", "settle_tasks", "purge_queue", "delete_queue"]
)
def test_a_mistake_of_ours_in_one_command_undoes_all_of_it_and_nothing_else(
    tasks: Tasks, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks.do(submit(task("a"), task("b"), task("c")))
    tasks.lease("a")
    settled = settle([success(tasks.row("a"), b"x")])
    commands = {
        "submit_tasks": submit(task("new", tenant="new"), task("b", priority=1), workflow="w"),
        "lease_tasks": lease([2]),
        "settle_tasks": settled,
        "purge_queue": purge(QUEUE),
        "delete_queue": delete(QUEUE),
    }
    mirror = Mirror()
    tasks.machine.listeners.append(mirror)
    mirror.ready, mirror.leased = ready_of(tasks), {one.lease_id: one for one in tasks.machine.leased_tasks()}
    before = everything(tasks)
    break_down(monkeypatch, kind, tasks.machine.applied + 1)

    alone, refused = tasks.together(create("queues/beside"), commands[kind])

    assert not isinstance(alone, Refused)
    assert isinstance(refused, Refused)
    assert refused.reason == "INTERNAL"
    assert everything(tasks) == before
    mirror.compare(tasks.machine)
    after = tasks.do(commands[kind])  # and it works as if nothing had happened
    assert not isinstance(after, Refused)
    mirror.compare(tasks.machine)


def ready_of(tasks: Tasks) -> dict[tuple[int, int], dict[int, Any]]:
    queue_id = tasks.machine.queue(QUEUE).id
    return {
        (queue_id, lane.id): {one.number: one for one in tasks.machine.ready(lane.id, None, -1)}
        for lane in tasks.machine.lanes(queue_id)
    }


def test_commands_before_and_after_a_broken_one_take_effect(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_down(monkeypatch, "lease_tasks", tasks.machine.applied + 1)

    first, broken, last = tasks.together(submit(task("a")), lease([1]), submit(task("b")))

    assert isinstance(broken, Refused)
    assert tasks.states("ab") == ["QUEUED", "QUEUED"]
    assert [tasks.row(each).number for each in "ab"] == [1, 2]
    assert not isinstance(first, Refused)
    assert not isinstance(last, Refused)


def test_a_task_that_is_done_before_the_next_commit_is_written_once(tasks: Tasks) -> None:
    statements: list[str] = []
    tasks.machine.commit_now()
    tasks.machine._store.connection.set_trace_callback(statements.append)

    tasks.do(submit(task("a")))
    tasks.lease("a")
    tasks.do(settle([success(tasks.row("a"), b"x")]))
    tasks.machine.commit_now()

    assert len([each for each in statements if each.startswith(("INSERT INTO tasks ", "UPDATE tasks "))]) == 1
    tasks.follower.crash()
    assert tasks.states("a") == ["SUCCEEDED"]


def test_commands_of_one_entry_see_each_other(tasks: Tasks) -> None:
    results = tasks.together(
        submit(task("a"), task("b", on("a"))),
        lease([1]),
        submit(task("a", priority=9), task("c", on("b"))),
        purge(QUEUE),
        submit(task("d")),
    )

    assert [type(result).__name__ for result in results] == [
        "Submitted",
        "Granted",
        "Submitted",
        "Purged",
        "Submitted",
    ]
    assert results[3].count == 2
    assert tasks.states("ad") == ["LEASED", "QUEUED"]
    assert tasks.machine.task("tasks/b") is None


def test_a_restart_finds_everything(tasks: Tasks) -> None:
    fill(tasks)
    before = everything(tasks), tasks.machine.fingerprint(), tasks.machine.next_due_ms()
    assert all(before[0].values()), "every table has a row"

    tasks.follower.restart()

    assert (everything(tasks), tasks.machine.fingerprint(), tasks.machine.next_due_ms()) == before
    assert tasks.machine.checkpoints([2]) == {2: b"half"}
    assert tasks.machine.results([1, 2, 3]).keys() == {1}
    assert tasks.row("c").has_parents is True


@pytest.mark.parametrize("table", TABLES)
def test_the_fingerprint_sees_every_table(tasks: Tasks, table: str) -> None:
    fill(tasks)
    tasks.machine.commit_now()
    before = tasks.machine.fingerprint()

    tasks.machine._store.execute(f"DELETE FROM {table}")

    assert tasks.machine.fingerprint() != before


def test_a_snapshot_holds_all_tasks(tasks: Tasks, tmp_path: Path) -> None:
    fill(tasks)
    tasks.machine.commit_now()
    meta = tasks.machine.snapshot(tmp_path / "snapshot")
    other = Follower(MemoryLog(), tmp_path / "other")
    other.do(create("queues/old", kind=queue_pb2.QUEUE_KIND_TASK), submit(task("old", queue="queues/old")))
    mirror = Mirror()
    other.machine.listeners.append(mirror)

    other.machine.install(tmp_path / "snapshot", meta)

    assert other.machine.fingerprint() == tasks.machine.fingerprint()
    assert other.machine.task("tasks/old") is None
    row = other.machine.task("tasks/c")
    assert row is not None
    assert row.number == 3
    assert other.machine.next_due_ms() == tasks.machine.next_due_ms()


def test_a_store_of_before_there_were_tasks_is_taken_over(tmp_path: Path) -> None:
    follower = Follower(MemoryLog(), tmp_path / "state")
    follower.do(create("queues/m"), publish("queues/m", b"kept"))
    follower.machine.close()
    make_version_1(tmp_path / "state" / "store-1.db")

    follower = Follower(follower.log, tmp_path / "state")

    assert follower.machine.applied == 2
    assert follower.bodies("queues/m") == [b"kept"]
    follower.do(create(QUEUE, kind=queue_pb2.QUEUE_KIND_TASK), submit(task("a")))
    row = follower.machine.task("tasks/a")
    assert row is not None
    assert row.number == 1
    follower.restart()
    assert follower.machine.task("tasks/a") is not None


def test_a_snapshot_of_before_there_were_tasks_is_taken_over(tmp_path: Path) -> None:
    source = Follower(MemoryLog(), tmp_path / "source")
    source.do(create("queues/m"), publish("queues/m", b"kept"))
    source.machine.commit_now()
    meta = source.machine.snapshot(tmp_path / "snapshot")
    make_version_1(tmp_path / "snapshot")
    target = Follower(MemoryLog(), tmp_path / "target")

    target.machine.install(tmp_path / "snapshot", meta)

    assert target.machine.fingerprint() == source.machine.fingerprint()


def test_a_look_ahead_answers_and_leaves_no_trace(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    before = tasks.machine.fingerprint(), everything(tasks)
    wanted = submit(task("a", priority=1), task("b", tenant="new"), workflow="w").submit_tasks

    seen = tasks.machine.outlook(wanted)

    assert (tasks.machine.fingerprint(), everything(tasks)) == before
    assert tasks.do(command_pb2.Command(submit_tasks=wanted)) == seen
    assert tasks.row("b").number == 2


def test_memory_does_not_grow_with_the_tasks_that_wait(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.limits.TASK_ROWS_CACHED", 100)
    monkeypatch.setattr("node.limits.TASK_ROWS_UNWRITTEN", 100)
    monkeypatch.setattr("node.limits.TASK_CACHE_BYTES_MAX", 10_000)
    for batch in range(20):
        tasks.do(submit(*(task(f"t{batch}.{place}") for place in range(50))))

    held = tasks.machine._tables.tasks
    assert len(held._rows) <= 100
    assert held.contents._recent_bytes <= 10_000
    assert tasks.row("t0.0").number == 1
    tasks.succeed("t0.0", "t19.49")
    tasks.do(advance())
    assert tasks.machine.queue_counts(tasks.machine.queue(QUEUE).id).queued == 998


def test_a_disk_that_is_full_while_someone_reads_ends_the_node_and_the_log_brings_all_back(
    tasks: Tasks,
) -> None:
    tasks.do(submit(*(task(f"t{place}") for place in range(500))))
    execute = tasks.machine._store.execute
    (pages,) = execute("PRAGMA page_count").fetchone()
    execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(sqlite3.OperationalError, match="full"):
        tasks.machine.tasks_list()  # which needs all rows written

    with pytest.raises(StoreFailedError, match="start again"):
        tasks.do(submit(task("more")))
    tasks.follower.restart()
    tasks.follower.catch_up()
    assert len(tasks.machine.tasks_list()[0]) == 501


def test_what_sqlite_has_rolled_back_by_itself_is_not_built_upon(tasks: Tasks) -> None:
    tasks.do(submit(task("a")))
    tasks.machine._store.execute("ROLLBACK")  # as it does when a read needs space that is not there

    with pytest.raises(StoreFailedError, match="rolled back"):
        tasks.do(submit(task("b")))
    with pytest.raises(StoreFailedError):
        tasks.machine.commit_now()
    tasks.follower.restart()
    tasks.follower.catch_up()
    assert tasks.states("ab") == ["QUEUED", "QUEUED"]


@pytest.mark.parametrize("sizes", [(10, 10), (10, 300), (300, 10), (300, 300)])
@pytest.mark.parametrize("between", ["nothing", "commit", "restart"])
def test_what_was_submitted_last_is_found_whatever_its_size(
    tasks: Tasks, sizes: tuple[int, int], between: str
) -> None:
    for priority, size in enumerate(sizes):
        tasks.do(submit(task("a", priority=priority, payload=b"%d" % priority * size)))
        match between:
            case "commit":
                tasks.machine.commit_now()
            case "restart":
                tasks.follower.restart()

    tasks.machine._tables.tasks.contents._recent.clear()  # others were used since
    found = task_pb2.Task.FromString(tasks.machine.specs([1])[1])
    assert found.payload == b"1" * sizes[1]
    tasks.follower.restart()
    assert task_pb2.Task.FromString(tasks.machine.specs([1])[1]) == found


@pytest.mark.parametrize("size", [0, 1, 60, 62, 64, 5_000])
def test_a_result_of_any_size_is_found_after_a_restart_and_gone_with_a_retry(tasks: Tasks, size: int) -> None:
    tasks.do(submit(task("a"), workflow="w"))
    tasks.lease("a")
    tasks.do(settle([success(tasks.row("a"), b"x" * size)]))
    tasks.follower.restart()

    found = tasks.machine.results([1])
    shown = tasks.machine.shown([tasks.row("a")], task_pb2.TASK_VIEW_FULL)[0].result.data
    assert [task_pb2.TaskResult.FromString(one).data for one in found.values()] == [b"x" * size] * bool(size)
    assert shown == b"x" * size

    tasks.do(retry(workflow="w", all_=True))
    tasks.follower.restart()
    assert tasks.machine.results([1]) == {}
    assert tasks.machine._store.execute("SELECT count(*) FROM task_results").fetchone() == (0,)
