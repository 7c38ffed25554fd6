"""Schedules in the state: each tick is fired once, and what overlaps is decided by what has ended."""

from pathlib import Path
from typing import Any

import pytest

from node.state.listener import Silence
from node.state.results import Done, Refused, Triggered
from node.state.schedule_rows import OF_SERVER
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import schedule_pb2, task_pb2
from tests.node.task_log import QUEUE, Tasks, duration, on, schedule_settings, settle, submit, success, task
from tests.sim.state_log import create, delete, update

FIRST = 60_000
FROM_SERVER = 40  # numbers of the fields of Task that the server sets, but `workflow`
SKIP = schedule_pb2.OVERLAP_POLICY_SKIP
QUEUE_UP = schedule_pb2.OVERLAP_POLICY_QUEUE
CANCEL_RUNNING = schedule_pb2.OVERLAP_POLICY_CANCEL_RUNNING


class Heard(Silence):
    def __init__(self) -> None:
        self.names: list[str] = []

    def schedule_changed(self, name: str) -> None:
        self.names.append(name)


class Schedules(Tasks):
    """A machine with a schedule that ticks each minute."""

    def create(self, next_tick_ms: int = FIRST, **settings: Any) -> Any:
        created = command_pb2.CreateSchedule(
            schedule=schedule_settings(**settings), next_tick_ms=next_tick_ms
        )
        return command_pb2.Command(create_schedule=created)

    def update(self, *fields: str, next_tick_ms: int = FIRST, etag: str = "", **settings: Any) -> Any:
        settings.setdefault("cron", "")
        changed = schedule_pb2.Schedule(name="schedules/s", etag=etag, **settings)
        return command_pb2.Command(
            update_schedule=command_pb2.UpdateSchedule(
                schedule=changed, fields=fields, next_tick_ms=next_tick_ms
            )
        )

    def fire(self, tick_ms: int, *, missed: int = 0, etag: str | None = None, step: int = 1) -> Any:
        return command_pb2.Command(
            fire_schedule=command_pb2.FireSchedule(
                name="schedules/s",
                etag=self.schedule.etag if etag is None else etag,
                tick_ms=tick_ms,
                missed=missed > 0,
                count=missed or 1,
                next_tick_ms=tick_ms + 60_000 * step,
            )
        )

    @property
    def schedule(self) -> Any:
        return self.machine.schedule("schedules/s")

    @property
    def counted(self) -> tuple[int, int, int]:
        """Ticks fired, overlapped and missed."""
        row = self.schedule
        return row.fired, row.overlapped, row.missed


@pytest.fixture
def state(tmp_path: Path) -> Schedules:
    schedules = Schedules(tmp_path / "state")
    schedules.do(schedules.create())
    return schedules


def trigger(name: str) -> command_pb2.Command:
    return command_pb2.Command(
        trigger_schedule=command_pb2.TriggerSchedule(name="schedules/s", task=f"tasks/{name}")
    )


def drop(name: str = "schedules/s", etag: str = "") -> command_pb2.Command:
    return command_pb2.Command(delete_schedule=command_pb2.DeleteSchedule(name=name, etag=etag))


def test_a_schedule_is_shown_with_its_defaults(state: Schedules) -> None:
    shown = state.schedule.to_proto()
    assert shown.overlap_policy == SKIP
    assert shown.missed_policy == schedule_pb2.MISSED_POLICY_LATEST
    assert shown.missed_window == duration(3_600_000)
    assert shown.create_time == shown.update_time
    assert not shown.HasField("last_tick_time")
    assert state.schedule.next_tick_ms == FIRST


def test_the_same_schedule_is_created_once_and_another_one_of_its_name_refused(state: Schedules) -> None:
    etag = state.schedule.etag
    assert state.do(state.create(next_tick_ms=99)).schedule.etag == etag
    assert state.schedule.next_tick_ms == FIRST
    assert state.refusal(state.create(cron="0 * * * *")).reason == "SCHEDULE_EXISTS"


def test_what_the_server_sets_is_no_part_of_a_scheduled_task(tmp_path: Path) -> None:
    state = Schedules(tmp_path / "state")
    given = task_pb2.Task(
        name="tasks/x",
        queue=QUEUE,
        type="t",
        payload=b"p",
        dependencies=on("nobody"),
        attempt=3,
        lease_id=9,
        labels={"b": "1", "a": "2"},
    )
    state.do(state.create(task=given))
    assert state.schedule.config.task == task_pb2.Task(
        queue=QUEUE, type="t", payload=b"p", labels={"a": "2", "b": "1"}
    )


def test_all_that_the_server_sets_in_a_task_is_known_as_such() -> None:
    set_by_server = {field.name for field in task_pb2.Task.DESCRIPTOR.fields if field.number >= FROM_SERVER}
    assert set(OF_SERVER) == set_by_server | {"name", "dependencies", "workflow"}


def test_a_tick_is_fired_once(state: Schedules) -> None:
    command = state.fire(FIRST)
    assert state.do(command) == Triggered(f"tasks/s:{FIRST}")
    assert state.state(f"s:{FIRST}") == "QUEUED"
    refused = state.refusal(command)
    assert (refused.reason, refused.metadata["next_tick_ms"]) == ("TICK_NOT_NEXT", str(FIRST + 60_000))
    assert state.counted == (1, 0, 0)
    shown = state.schedule.to_proto()
    assert shown.last_task == f"tasks/s:{FIRST}"
    assert shown.last_tick_time.ToMilliseconds() == FIRST
    assert state.machine.tasks_list()[0] == [state.row(f"s:{FIRST}")]


def test_a_tick_is_not_fired_by_settings_that_are_gone(state: Schedules) -> None:
    decided = state.fire(FIRST)
    state.do(state.update("paused", paused=True))
    assert state.refusal(decided).reason == "ETAG_MISMATCH"
    assert state.machine.tasks_list()[0] == []


def test_a_tick_is_left_out_while_the_task_of_an_earlier_one_has_not_ended(state: Schedules) -> None:
    state.do(state.fire(FIRST))
    assert state.do(state.fire(FIRST + 60_000)) == Done()
    state.lease(f"s:{FIRST}")
    state.do(state.fire(FIRST + 120_000))
    assert state.counted == (1, 2, 0)
    assert state.schedule.last_task == f"tasks/s:{FIRST}"
    state.do(settle([success(state.row(f"s:{FIRST}"))]))
    assert state.do(state.fire(FIRST + 180_000)) == Triggered(f"tasks/s:{FIRST + 180_000}")


def test_a_tick_may_be_queued_behind_the_task_of_an_earlier_one(tmp_path: Path) -> None:
    state = Schedules(tmp_path / "state")
    state.do(state.create(overlap_policy=QUEUE_UP))
    for tick in (FIRST, FIRST + 60_000):
        state.do(state.fire(tick))
    assert state.states([f"s:{FIRST}", f"s:{FIRST + 60_000}"]) == ["QUEUED", "QUEUED"]
    assert state.counted == (2, 0, 0)


def test_a_tick_may_cancel_the_task_of_an_earlier_one(tmp_path: Path) -> None:
    state = Schedules(tmp_path / "state")
    state.do(state.create(overlap_policy=CANCEL_RUNNING))
    state.do(state.fire(FIRST))
    state.lease(f"s:{FIRST}")
    state.do(trigger("by-hand"))
    state.do(submit(task("other")))
    state.do(state.fire(FIRST + 60_000))
    assert state.states([f"s:{FIRST}", "by-hand", f"s:{FIRST + 60_000}", "other"]) == [
        "CANCELLED",
        "CANCELLED",
        "QUEUED",
        "QUEUED",
    ]


def test_missed_ticks_are_counted_and_left_out(state: Schedules) -> None:
    assert state.do(state.fire(FIRST, missed=7, step=7)) == Done()
    assert state.counted == (0, 0, 7)
    assert state.schedule.next_tick_ms == FIRST + 7 * 60_000
    assert state.machine.tasks_list()[0] == []


def test_a_tick_whose_task_is_refused_is_still_the_next_one(state: Schedules) -> None:
    state.do(delete(QUEUE))
    assert state.refusal(state.fire(FIRST)).reason == "QUEUE_NOT_FOUND"
    assert (state.schedule.next_tick_ms, state.counted) == (FIRST, (0, 0, 0))
    state.do(create(QUEUE, kind=2))
    assert state.do(state.fire(FIRST)) == Triggered(f"tasks/s:{FIRST}")


def test_a_full_queue_takes_no_tick_and_cancels_nothing(tmp_path: Path) -> None:
    state = Schedules(tmp_path / "state")
    state.do(state.create(overlap_policy=CANCEL_RUNNING))
    state.do(state.fire(FIRST))
    state.do(submit(task("other")))
    state.do(update(QUEUE, ["max_messages"], max_messages=1))
    assert state.refusal(state.fire(FIRST + 60_000)).reason == "QUEUE_FULL"
    assert state.states([f"s:{FIRST}", "other"]) == ["QUEUED", "QUEUED"]
    assert state.counted == (1, 0, 0)


@pytest.mark.parametrize("limit", ["max_messages", "max_bytes"])
@pytest.mark.parametrize("runs", [False, True])
def test_what_a_tick_cancels_makes_room_for_its_own_task(tmp_path: Path, limit: str, runs: bool) -> None:
    state = Schedules(tmp_path / "state")
    state.do(state.create(overlap_policy=CANCEL_RUNNING))
    state.do(state.fire(FIRST))
    room: dict[str, Any] = {"max_messages": 1, "max_bytes": state.row(f"s:{FIRST}").bytes + 8}
    state.do(update(QUEUE, [limit], **{limit: room[limit]}))
    if runs:
        state.lease(f"s:{FIRST}")

    assert state.do(state.fire(FIRST + 60_000)) == Triggered(f"tasks/s:{FIRST + 60_000}")
    assert state.states([f"s:{FIRST}", f"s:{FIRST + 60_000}"]) == ["CANCELLED", "QUEUED"]


def test_what_a_tick_cancels_in_another_queue_makes_no_room_in_its_own(tmp_path: Path) -> None:
    state = Schedules(tmp_path / "state")
    state.do(state.create(overlap_policy=CANCEL_RUNNING))
    state.do(state.fire(FIRST))
    state.do(create("queues/full", kind=2, max_messages=1))
    state.do(submit(task("other", queue="queues/full")))
    elsewhere = task_pb2.Task(queue="queues/full", type="tick")
    state.do(state.update("task", task=elsewhere))

    assert state.refusal(state.fire(FIRST + 60_000)).reason == "QUEUE_FULL"
    assert state.state(f"s:{FIRST}") == "QUEUED"


def test_settings_change_one_by_one_with_the_tick_that_follows(state: Schedules) -> None:
    etag = state.schedule.etag
    changed = state.update(
        "interval", "jitter", interval=duration(5_000), jitter=duration(100), next_tick_ms=77, cron=None
    )
    shown = state.do(changed).schedule
    assert (shown.WhichOneof("times"), shown.interval, shown.jitter) == (
        "interval",
        duration(5_000),
        duration(100),
    )
    assert shown.etag != etag
    assert shown.task.payload == b"p"
    assert state.schedule.next_tick_ms == 77
    assert state.refusal(state.update("paused", paused=True, etag=etag)).reason == "ETAG_MISMATCH"
    assert state.refusal(state.update("name")).reason == "INVALID_FIELD"
    assert not state.do(state.update("jitter", next_tick_ms=77)).schedule.HasField("jitter")


def test_a_change_that_changes_nothing_keeps_the_etag_and_the_next_tick(state: Schedules) -> None:
    etag = state.schedule.etag
    assert state.do(state.update("paused", next_tick_ms=1)).schedule.etag == etag
    assert state.schedule.next_tick_ms == FIRST


@pytest.mark.parametrize("changed", [{"overlap_policy": QUEUE_UP}, {"paused": True}, {"jitter": duration(9)}])
def test_a_change_that_was_decided_before_ticks_were_settled_brings_none_of_them_back(
    state: Schedules, changed: dict[str, Any]
) -> None:
    state.do(state.fire(FIRST, missed=5, step=5))
    state.do(state.update(*changed, **changed, next_tick_ms=FIRST))
    assert state.schedule.next_tick_ms == FIRST + 5 * 60_000
    assert state.refusal(state.fire(FIRST, missed=2, step=2)).reason == "TICK_NOT_NEXT"
    assert state.counted == (0, 0, 5)


def test_a_tick_that_was_fired_while_the_times_changed_is_not_fired_again(state: Schedules) -> None:
    state.do(state.fire(FIRST))
    state.do(state.update("cron", cron="*/1 * * * *", next_tick_ms=FIRST))
    state.do(state.fire(FIRST))
    assert state.counted == (1, 0, 0)
    assert state.schedule.next_tick_ms == FIRST + 60_000


def test_the_tasks_of_a_deleted_schedule_stay(state: Schedules) -> None:
    state.do(state.fire(FIRST))
    assert state.refusal(drop(etag="old")).reason == "ETAG_MISMATCH"
    state.do(drop())
    assert state.schedule is None
    assert state.state(f"s:{FIRST}") == "QUEUED"
    for command in (drop(), trigger("x"), state.update("paused"), state.fire(FIRST, etag="")):
        assert state.refusal(command).reason == "SCHEDULE_NOT_FOUND"


def test_a_schedule_made_again_does_not_repeat_a_tick_that_its_namesake_fired(state: Schedules) -> None:
    state.do(state.fire(FIRST))
    state.do(drop())
    state.do(state.create())
    assert state.do(state.fire(FIRST)) == Triggered(f"tasks/s:{FIRST}")
    assert len(state.machine.tasks_list()[0]) == 1


def test_a_task_is_triggered_beside_the_ticks(state: Schedules) -> None:
    assert state.do(trigger("now")) == Triggered("tasks/now")
    assert state.state("now") == "QUEUED"
    assert (state.schedule.next_tick_ms, state.schedule.last_task, state.counted) == (FIRST, "", (0, 0, 0))


def test_schedules_are_listed_by_name_and_every_change_is_told(state: Schedules) -> None:
    heard = Heard()
    state.machine.listeners.append(heard)
    state.do(state.create(name="schedules/b"))
    state.do(state.create(name="schedules/t"))
    assert [row.name for row in state.machine.schedules()] == ["schedules/b", "schedules/s", "schedules/t"]
    assert [row.name for row in state.machine.schedules("schedules/b", 1)] == ["schedules/s"]
    state.do(state.fire(FIRST))
    state.do(state.update("paused", paused=True))
    state.do(drop("schedules/b"))
    assert heard.names == ["schedules/b", "schedules/t", "schedules/s", "schedules/s", "schedules/b"]


def test_a_tick_that_is_refused_changes_nothing_even_in_one_entry_with_others(state: Schedules) -> None:
    fire, early = state.fire(FIRST), state.fire(FIRST + 60_000)
    results = state.together(early, fire, fire, state.fire(FIRST + 60_000))
    assert [type(result) for result in results] == [Refused, Triggered, Refused, Done]
    assert state.counted == (1, 1, 0)
