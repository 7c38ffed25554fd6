"""Schedules and workers against a real node: nothing here depends on what a stand-in believes."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from taskraft import App, NewTask, errors
from taskraft.local import Layout, LocalCluster, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from taskraft import SyncSchedules


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real node in another process."""
    directory: Path = tmp_path_factory.mktemp("node")
    layout = Layout.plan(directory, nodes=1, port=free_port(1))
    loop = asyncio.new_event_loop()
    cluster = LocalCluster(layout)
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(cluster.__aenter__())
            yield cluster.address
            runner.run(cluster.stop())
    finally:
        loop.close()


@pytest.fixture
def app(address: str) -> Iterator[App]:
    with App(address, queue="reports", timeout=10) as one:
        yield one


@pytest.fixture
def schedules(app: App) -> SyncSchedules:
    app.client.create_queue("reports", kind="task", exist_ok=True)
    return app.client.schedules


TASK = NewTask(type="report", queue="reports", payload=b'{"args":[1]}', priority=3)


def test_a_schedule_has_its_settings_and_its_next_ticks(schedules: SyncSchedules) -> None:
    start = datetime(2090, 1, 1, tzinfo=UTC)

    info = schedules.create(
        "monthly",
        TASK,
        cron="0 3 1 * *",
        time_zone="Europe/Lisbon",
        overlap="queue",
        missed="all",
        missed_window=60,
        jitter=2.5,
        start_time=start,
        end_time=start + timedelta(days=40),
    )

    assert (info.name, info.cron, info.interval, info.time_zone) == (
        "monthly",
        "0 3 1 * *",
        None,
        "Europe/Lisbon",
    )
    assert (info.overlap, info.missed, info.missed_window, info.jitter) == ("queue", "all", 60, 2.5)
    assert (info.start_time, info.end_time) == (start, start + timedelta(days=40))
    assert info.next_tick_times == (start.replace(hour=3), start.replace(month=2, hour=3))
    assert (info.task.type, info.task.queue, info.task.payload, info.task.priority) == (
        *("report", "reports"),
        *(b'{"args":[1]}', 3),
    )
    assert (info.fired_ticks, info.overlapped_ticks, info.missed_ticks, info.last_task_id) == (0, 0, 0, "")
    assert schedules.get("monthly") == schedules.get("schedules/monthly") == info


def test_the_same_schedule_again_is_no_error_and_another_one_replaces_it_on_request(
    schedules: SyncSchedules,
) -> None:
    first = schedules.create("again", TASK, cron="0 3 * * *", overlap="queue")

    assert schedules.create("again", TASK, cron="0 3 * * *", overlap="queue").etag == first.etag
    with pytest.raises(errors.ScheduleExists):
        schedules.create("again", TASK, interval=60)
    replaced = schedules.create("again", TASK, interval=60, replace=True)

    assert (replaced.cron, replaced.interval, replaced.overlap) == (None, 60, "skip")
    assert replaced.etag != first.etag


def test_a_schedule_is_changed_paused_triggered_and_deleted(schedules: SyncSchedules) -> None:
    info = schedules.create("s", TASK, interval=3_600)

    changed = schedules.update("s", etag=info.etag, cron="0 4 * * *", missed="none")
    with pytest.raises(errors.EtagMismatch):
        schedules.update("s", etag=info.etag, jitter=1)

    assert (changed.cron, changed.interval, changed.missed, changed.task) == (
        "0 4 * * *",
        None,
        "none",
        info.task,
    )
    assert schedules.pause("s").paused
    assert not schedules.resume("s").paused
    assert schedules.trigger("s").startswith("s:")
    assert "s" in [one.name for one in schedules.list()]
    schedules.delete("s")
    with pytest.raises(errors.ScheduleNotFound):
        schedules.get("s")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"cron": "nonsense"}, "schedule.cron"),
        ({"cron": "0 3 * * *", "overlap": "maybe"}, "overlap_policy"),
        ({"cron": "0 3 * * *", "time_zone": "Moon/Sea"}, "schedule.time_zone"),
        ({"interval": 0}, "schedule.interval"),
    ],
)
def test_times_that_make_no_sense_are_refused(
    schedules: SyncSchedules, settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        schedules.create("x", TASK, **settings)

    assert caught.value.metadata["field"] == field
    with pytest.raises(TypeError, match="no setting named evry; did you mean every"):
        schedules.update("x", evry=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"interval": "2s"}, "interval is a number of seconds or a timedelta, not '2s'"),
        ({"every": True}, "every is a number of seconds or a timedelta, not True"),
        ({"cron": 5}, "cron=5 is not what the setting takes"),
        ({"every": 5, "start_time": "now"}, "start_time is a datetime, not 'now'"),
        ({"every": 5, "cron": "0 3 * * *"}, "one of cron, every and interval"),
    ],
)
def test_settings_of_a_wrong_type_are_named(app: App, settings: dict[str, Any], why: str) -> None:
    @app.task
    def report() -> None: ...

    with pytest.raises(TypeError, match=why):
        app.schedule("x", report, **settings)
    with pytest.raises(TypeError, match=r"a function that @app\.task made a task, not 'report'"):
        app.schedule("x", "report", every=5)  # type: ignore[arg-type]


def test_every_is_in_seconds_or_a_timedelta(schedules: SyncSchedules) -> None:
    lengths = [
        schedules.create("e", TASK, every=one, replace=True).interval for one in (90, timedelta(hours=2))
    ]

    assert lengths == [90, 7_200]


def test_an_app_schedules_its_tasks_and_again_with_other_settings(app: App) -> None:
    @app.task(queue="fresh", priority=7)
    def report(day: str, *, full: bool = False) -> None: ...

    first = app.schedule("nightly", report, args=["mon"], kwargs={"full": True}, cron="0 3 * * *")
    second = asyncio.run(app.aschedule("nightly", report, args=["tue"], cron="0 4 * * *"))

    assert first.task.payload == b'{"args":["mon"],"kwargs":{"full":true}}'
    assert (first.task.type, first.task.queue, first.task.priority) == ("report", "fresh", 7)
    assert (second.cron, second.task.payload) == ("0 4 * * *", b'{"args":["tue"]}')
    assert app.client.get_queue("fresh").kind == "task"
    with pytest.raises(TypeError, match="missing a required argument: 'day'"):
        app.schedule("nightly", report, cron="0 3 * * *")
    with pytest.raises(ValueError, match="cannot depend on other tasks"):
        app.schedule("nightly", report, args=[app.handle("x")], cron="0 3 * * *")


def test_without_workers_there_are_none(app: App) -> None:
    assert list(app.client.workers.list()) == []
    with pytest.raises(errors.WorkerNotFound):
        app.client.workers.drain("nobody")


def test_the_broker_names_what_it_refuses(app: App) -> None:
    @app.task
    def work(n: int = 0) -> None: ...

    with pytest.raises(errors.UnknownDependency) as unknown:
        work.options(after=["nobody"]).submit()
    with pytest.raises(errors.InvalidArgument) as negative:
        work.options(resources={"cpu": -1}).submit()
    with pytest.raises(errors.Cycle) as cycle, app.workflow("w") as w:
        w.add(work.options(after=["w:1"]))
        w.add(work.options(after=["w:0"]))
    app.client.create_queue("messages")
    with pytest.raises(errors.WrongQueueKind):
        work.options(queue="messages").submit()
    with pytest.raises(errors.TaskNotFound):
        app.handle("nobody").result(5)

    assert unknown.value.metadata["dependency"] == "tasks/nobody"
    assert negative.value.metadata["field"] == 'tasks[0].resources["cpu"]'
    assert "tasks/w:0 -> tasks/w:1" in cycle.value.message


def test_one_forgotten_task_among_thousands_does_not_stop_the_waiting_for_the_others(app: App) -> None:
    @app.task
    def work(n: int = 0) -> None: ...

    handles = work.map(range(2_000))
    gone = app.handle("nobody")
    caught: list[Exception] = []

    def wait() -> None:
        for one in (gone, handles[0]):
            try:
                one.result(10)
            except errors.TaskraftError as error:
                caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert handles.cancel() == 2_000
    thread.join(20)

    assert [type(error) for error in caught] == [errors.TaskNotFound, errors.TaskCancelled]
    with pytest.raises(errors.TaskCancelled):
        handles.results(10)
