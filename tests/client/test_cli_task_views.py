"""How tasks, workflows, workers, schedules and their queues are shown, and what submits are made of."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from rich.console import Console, RenderableType

from taskraft import Estimate, Explanation, Obstacle
from taskraft._schedules import schedule_info
from taskraft._task_values import task_info, workflow_info
from taskraft._values import queue_info
from taskraft._workers import worker_info
from taskraft.cli import queue_view, schedule, task_view, workflow
from taskraft.cli.queue_change import given
from taskraft.cli.queue_options import parse_rate
from taskraft.cli.submit import came_to, payload_of
from taskraft.cli.worker import workers_table
from taskraft.v1 import queue_pb2, schedule_pb2, task_pb2, worker_pb2


def ahead(**of: float) -> datetime:
    """So much from now."""
    return datetime.now(UTC) + timedelta(**of)


def text_of(view: RenderableType, width: int = 120) -> str:
    """What a person sees, without colour."""
    console = Console(width=width, highlight=False, emoji=False, color_system=None)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


def task(**fields: Any) -> task_pb2.Task:
    made = task_pb2.Task(name="tasks/t1", queue="queues/images", type="resize", priority=7, **fields)
    made.create_time.FromDatetime(ahead(minutes=-5))
    return made


def test_a_task_is_a_row_with_what_is_most_worth_saying() -> None:
    running = task(state=task_pb2.TASK_STATE_RUNNING, attempt=2, max_attempts=5)
    running.progress.fraction, running.progress.message = 0.42, "half\x1b[31m way"
    failed = task(state=task_pb2.TASK_STATE_DEAD_LETTERED, attempt=3)
    failed.error.reason, failed.error.message = "ValueError", "no [bold]such[/] file"
    blocked = task(state=task_pb2.TASK_STATE_BLOCKED, dependencies_open=3)

    text = text_of(task_view.tasks_table([task_info(one) for one in (running, failed, blocked)]))

    assert "▶ running" in text
    assert "2/5" in text
    assert "42% half\\x1b[31m way" in text
    assert "† dead lettered" in text
    assert "ValueError no [bold]such[/] file" in text
    assert "waits for 3 tasks" in text
    assert "5 min" in text


def test_a_task_in_full_has_its_history_and_its_result() -> None:
    done = task(state=task_pb2.TASK_STATE_SUCCEEDED, attempt=2, payload=b'{"args":["a.jpg"]}', worker_id="w2")
    done.content_type = "application/json"
    done.result.data, done.result.content_type = b'"a-small.jpg"', "application/json"
    done.resources["cpu"] = 2.0
    done.dependencies.add(task="tasks/fetch", condition=task_pb2.DEPENDENCY_CONDITION_ENDED)
    start = ahead()
    for at, (state, reason) in enumerate(
        [
            ("QUEUED", "SUBMITTED"),
            ("LEASED", "LEASED"),
            ("QUEUED", "LEASE_EXPIRED"),
            ("SUCCEEDED", "SUCCEEDED"),
        ]
    ):
        event = done.events.add(state=f"TASK_STATE_{state}", reason=reason, worker_id="w1" if at else "")
        event.time.FromDatetime(start + timedelta(milliseconds=250 * at))

    text = text_of(task_view.task_details(task_info(done)))

    for shown in (
        '{"args":["a.jpg"]}',
        '"a-small.jpg"',
        "cpu=2",
        "fetch (ended)",
        "2 at w2",
        "LEASE_EXPIRED",
    ):
        assert shown in text
    assert "0.750 s" in text


def test_a_task_that_told_nothing_of_its_progress_and_succeeded_has_none_in_full() -> None:
    done = task(state=task_pb2.TASK_STATE_SUCCEEDED)
    done.progress.fraction = 0.0
    done.progress.time.FromDatetime(ahead())
    assert "progress" not in text_of(task_view.task_details(task_info(done)))

    done.progress.message = "all there"
    assert "all there" in text_of(task_view.task_details(task_info(done)))


def test_bytes_that_are_no_text_are_shown_by_their_size() -> None:
    assert task_view.content(b"\xff\xfe", "image/png") == "2 B of image/png"
    assert task_view.content(b"x" * 5_000, "text/plain").endswith("x ... (4.9 KiB in all)")
    assert task_view.content(b"", "") == task_view.content(None, "") == ""


def test_a_task_as_json_has_json_as_json_and_bytes_in_base64() -> None:
    one = task(payload=b'{"args":[1]}', content_type="application/json", checkpoint=b"\xff")
    one.result.data, one.result.content_type = b"plain", "text/plain"

    shown = json.loads(json.dumps(task_view.task_json(task_info(one))))

    assert shown["payload"] == {"args": [1]}
    assert shown["result"] == "plain"
    assert shown["checkpoint_base64"] == "/w=="
    assert (shown["id"], shown["queue"], shown["priority"]) == ("t1", "images", 7)


def test_an_explanation_says_why_and_when() -> None:
    explanation = Explanation(
        task=task_info(task(state=task_pb2.TASK_STATE_QUEUED)),
        obstacles=(Obstacle("QUEUE_PAUSED", "queue images is paused", {"queue": "images"}),),
        start=Estimate(ahead(seconds=61), ahead(seconds=301)),
        finish=None,
        tasks_ahead=1234,
        work_ahead=90.0,
    )

    text = text_of(task_view.explained(explanation))

    assert "queue images is paused  QUEUE_PAUSED" in text
    assert "1,234 tasks, 1.5 min of work" in text
    assert re.search(r"expected start  in 1\.\d+ min \(.*\), nine times in ten in 5\.?\d* min", text)
    assert "expected finish" not in text
    assert task_view.explanation_json(explanation)["obstacles"][0]["reason"] == "QUEUE_PAUSED"


def test_what_a_task_came_to_is_its_result_or_its_error() -> None:
    good = task(state=task_pb2.TASK_STATE_SUCCEEDED)
    good.result.data, good.result.content_type = b"[1, 2]", "application/json"
    bad = task(state=task_pb2.TASK_STATE_FAILED)
    bad.error.reason, bad.error.message = "KeyError", "'x'"

    assert text_of(came_to(task_info(good))).strip() == "[1, 2]"
    assert text_of(came_to(task_info(bad))).strip() == "✗ failed: KeyError: 'x'"
    assert came_to(task_info(task(state=task_pb2.TASK_STATE_SUCCEEDED))) == "succeeded, without a result"


def test_arguments_become_a_call_and_a_payload_stays_as_it_is() -> None:
    assert payload_of(None, '["a", 1]', "application/json") == b'{"args": ["a", 1]}'
    assert payload_of(None, '{"width": 640}', "application/json") == b'{"kwargs": {"width": 640}}'
    assert payload_of('{"any":  1}', None, "application/json") == b'{"any":  1}'
    assert payload_of("no json", None, "text/plain") == b"no json"
    assert payload_of(None, None, "application/json") == b""


def test_a_rate_has_a_burst_if_it_is_said_and_zero_is_no_limit() -> None:
    assert (parse_rate("0.5").per_second, parse_rate("0.5").burst) == (0.5, 1)
    assert (parse_rate("10:50").per_second, parse_rate("10:50").burst) == (10.0, 50)
    assert given(rate=parse_rate("0"), lease=None, max_running=0) == {"rate": None, "max_running": 0}
    with pytest.raises(typer.BadParameter, match="10:50"):
        parse_rate("10:many")


def test_a_workflow_is_its_counts_its_drawing_and_its_first_faults() -> None:
    info = task_pb2.Workflow(name="workflows/nightly", state=task_pb2.TASK_STATE_FAILED)
    info.counts.succeeded, info.counts.failed = 1, 2
    split = task(state=task_pb2.TASK_STATE_SUCCEEDED)
    bad = task_pb2.Task(name="tasks/t2", type="merge", state=task_pb2.TASK_STATE_FAILED)
    bad.dependencies.add(task="tasks/t1", condition=task_pb2.DEPENDENCY_CONDITION_ANY_SUCCEEDED)
    bad.error.reason, bad.error.message = "ValueError", "nothing to merge"
    after = task_pb2.Task(name="tasks/t3", type="mail", state=task_pb2.TASK_STATE_FAILED)
    after.dependencies.add(task="tasks/t2", condition=task_pb2.DEPENDENCY_CONDITION_SUCCEEDED)
    after.error.reason = "DEPENDENCY_FAILED"

    view = workflow.details(workflow_info(info), [task_info(one) for one in (split, bad, after)], each=False)
    text = text_of(view, 80)

    assert "3 of 3 have ended: 1 ok, 2 failed" in text
    assert "✗  t2 (merge) (any of them): failed" in text
    assert "✗ t2 failed: ValueError: nothing to merge" in text
    assert "t3 failed:" not in text


def test_workers_are_shown_with_what_is_out_of_the_ordinary() -> None:
    well = worker_pb2.Worker(
        worker_id="w1", queues=["queues/images"], slots=4, leases=2, load=0.4, connected=True
    )
    well.capacity["cpu"], well.used["cpu"] = 2.0, 1.5
    ill = worker_pb2.Worker(worker_id="w2", load=1.5, draining=True, overdue_tasks=1)

    text = text_of(workers_table([worker_info(well), worker_info(ill)]), 140)

    for shown in ("w1", "40%", "cpu 1.5/2", "150%", "stream broken, draining, 1 task past the slice"):
        assert shown in text


def test_a_schedule_says_when_it_ticks_next_and_what_it_left_out() -> None:
    made = schedule_pb2.Schedule(name="schedules/nightly", cron="30 2 * * *", time_zone="Europe/Lisbon")
    made.task.CopyFrom(task())
    made.next_tick_times.add().FromDatetime(ahead(hours=2, seconds=30))
    made.fired_ticks, made.overlapped_ticks, made.missed_ticks = 7, 2, 1
    made.overlap_policy = schedule_pb2.OVERLAP_POLICY_CANCEL_RUNNING

    info = schedule_info(made)

    text = text_of(schedule.details(info))
    assert "30 2 * * * in Europe/Lisbon" in text
    assert re.search(r"\(in 2(\.01)? h\)", text)
    assert "7 fired; left out: 2" in text
    assert "cancel running" in text
    assert "nightly" in text_of(schedule.overview([info]))
    assert schedule.schedule_json(info)["task"]["type"] == "resize"


def test_a_queue_of_tasks_shows_states_latency_throughput_and_its_policy() -> None:
    queue = queue_pb2.Queue(name="queues/images", kind=queue_pb2.QUEUE_KIND_TASK)
    queue.scheduling.policy = queue_pb2.SCHEDULING_POLICY_FAIR_SHARE
    queue.scheduling.tenant_weights["gold"] = 3.0
    queue.scheduling.rate.per_second, queue.scheduling.rate.burst = 10.0, 50
    queue.stats.tasks.queued, queue.stats.tasks.dead_lettered = 1_200, 3
    queue.stats.rates.window.FromSeconds(60)
    queue.stats.rates.throughput = 812.5
    queue.stats.rates.waiting.p99.FromMilliseconds(12)

    info = queue_info(queue)

    text = text_of(queue_view.details(info))
    for shown in (
        "1,200 queued, 3 dead lettered",
        "fair share",
        "gold=3",
        "10 per second, 50 at once",
        "812.5 tasks/s",
    ):
        assert shown in text
    assert "12 ms" in text
    assert "tasks" in text_of(queue_view.overview([info]))
