"""Tasks from the command line, against a real node and a real worker."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from taskraft import App
from taskraft.local import free_port, read_cluster_file
from tests.client.cli_up import MAIN, STOP_S, Commands, Up, environment

pytestmark = pytest.mark.cluster

APP = """
import time
from pathlib import Path
from taskraft import App, current_task

app = App(queue="jobs")

@app.task
def shout(word: str, times: int = 1) -> str:
    return " ".join([word.upper()] * times)

@app.task(max_attempts=1)
def fail(unless: str = "") -> str:
    if not unless or not Path(unless).exists():
        raise ValueError("as planned")
    return "fine now"

@app.task
def hold(until: str) -> str:
    current_task().progress(0.5, "half way")
    while not Path(until).exists():
        current_task().raise_if_cancelled()
        time.sleep(0.02)
    return "held"

@app.task
def join(words: list[str]) -> str:
    return "+".join(words)
"""


class Worker:
    """A running `taskraft worker`."""

    def __init__(self, address: str, directory: Path, name: str) -> None:
        (directory / "shop.py").write_text(APP)
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = self._start(log, directory, name, address)

    def _start(self, log: IO[bytes], directory: Path, name: str, address: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                MAIN,
                "worker",
                "shop:app",
                "--queues",
                "jobs",
                "--threads",
                "4",
                "--name",
                name,
            ],
            stderr=log,
            cwd=directory,
            env=environment(address),
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands to one node that serves all tests of this file."""
    directory = tmp_path_factory.mktemp("tasks") / "data"
    running = Up(directory, "--nodes", "1", "--port", str(free_port(1)))
    try:
        running.wait_until_it_says("Ctrl-C")
        yield Commands(read_cluster_file(directory)[0].address)
    finally:
        running.close()


@pytest.fixture(scope="module")
def worker(cli: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker of the queue `jobs`."""
    cli.run("queue", "create", "jobs", "--kind", "task", "--policy", "priority")
    running = Worker(cli.address, tmp_path_factory.mktemp("app"), "worker-1")
    try:
        yield running
    finally:
        running.close()


def ids(tasks: list[dict[str, Any]]) -> list[str]:
    return [task["id"] for task in tasks]


def test_the_classic_scheduler_of_id_priority_and_size(cli: Commands) -> None:
    cli.run("queue", "create", "classic", "--kind", "task", "--policy", "priority", "--aging", "0")

    def submit(task_id: str, priority: int, size: str) -> str:
        line = [
            "task",
            "submit",
            "classic",
            "work",
            "--id",
            task_id,
            "--priority",
            str(priority),
            "--size",
            size,
        ]
        return str(cli.json(*line)["outcome"])

    assert [submit("a", 1, "10s"), submit("b", 5, "1s"), submit("c", 3, "5s")] == ["created"] * 3
    assert submit("a", 9, "10s") == "replaced"
    assert submit("b", 5, "1s") == "already_scheduled"
    assert submit("c", 2, "5s") == "already_scheduled"

    listed = cli.json("task", "list", "--queue", "classic", "--order", "schedule")
    assert [(task["id"], task["priority"]) for task in listed] == [("a", 9), ("b", 5), ("c", 3)]


def test_a_task_is_run_and_its_result_printed(cli: Commands, worker: Worker) -> None:
    assert cli.run("task", "submit", "jobs", "shout", "--args", '["hey", 2]', "--wait") == '"HEY HEY"\n'

    piped = cli.json(
        "task", "submit", "jobs", "shout", "--payload", "-", "--wait", given='{"kwargs": {"word": "ho"}}'
    )

    assert (piped["state"], piped["result"], piped["attempt"]) == ("succeeded", "HO", 1)


def test_a_task_that_fails_says_why_and_may_be_tried_again(
    cli: Commands, worker: Worker, tmp_path: Path
) -> None:
    fixed = tmp_path / "fixed"
    said = cli.run(
        *("task", "submit", "jobs", "fail", "--id", "broken", "--args", json.dumps([str(fixed)]), "--wait"),
        code=1,
    )
    assert "ValueError: as planned" in said

    shown = cli.run("task", "show", "broken")
    for part in ("SUBMITTED", "ValueError: as planned", "worker-1", "Traceback"):
        assert part in shown
    assert "broken" in ids(cli.json("task", "list", "--queue", "jobs", "--state", "dead_lettered"))

    fixed.touch()
    assert cli.json("task", "retry", "broken") == {"retried_tasks": 1}
    cli.run("task", "watch", "broken")
    assert cli.json("task", "show", "broken")["result"] == "fine now"
    assert "0 tasks may run again. broken: it succeeded." in cli.run("task", "retry", "broken")
    log = worker.log.read_text()
    assert log.index("connecting to") < log.index("takes tasks from jobs at")
    assert "task failed type=fail id=broken attempt=3 of 3 error=ValueError: as planned" in log


def test_what_a_running_task_says_of_itself_is_shown_and_it_can_be_cancelled(
    cli: Commands, worker: Worker, tmp_path: Path
) -> None:
    cli.run("task", "submit", "jobs", "hold", "--id", "long", "--args", json.dumps([str(tmp_path / "never")]))
    watching = subprocess.Popen(
        [sys.executable, "-c", MAIN, "task", "watch", "long", "--output", "json"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(cli.address),
    )
    with watching:
        assert watching.stdout is not None
        seen: list[dict[str, Any]] = []
        while not (seen and seen[-1]["progress"]):
            seen.append(json.loads(watching.stdout.readline()))
        assert seen[-1]["progress"]["message"] == "half way"

        assert cli.json("task", "cancel", "long", "--reason", "test is over") == {"cancelled_tasks": 1}

        assert json.loads(watching.stdout.read().splitlines()[-1])["state"] == "cancelled"
        assert watching.wait(STOP_S) == 0
    assert "test is over" in cli.run("task", "show", "long")


def test_why_a_task_does_not_run_is_said_in_words(cli: Commands) -> None:
    cli.run("queue", "create", "idle", "--kind", "task")
    cli.run("task", "submit", "idle", "work", "--id", "first")
    cli.run("task", "submit", "idle", "work", "--id", "second", "--after", "first")

    nobody, waits = cli.json("task", "explain", "first"), cli.json("task", "explain", "second")

    assert nobody["obstacles"][0]["reason"] == "NO_WORKER"
    assert waits["obstacles"][0]["reason"] == "DEPENDENCY"
    assert "first" in cli.run("task", "explain", "second")
    assert "blocked" in cli.run("task", "list", "--queue", "idle")


def test_a_workflow_is_drawn_at_eighty_columns_without_colour(
    cli: Commands, worker: Worker, tmp_path: Path
) -> None:
    fixed = tmp_path / "fixed"
    with App(cli.address, queue="jobs") as app:

        @app.task
        def shout(word: str) -> str:
            raise AssertionError

        @app.task(max_attempts=1)
        def fail(unless: str) -> str:
            raise AssertionError

        @app.task
        def join(words: list[str]) -> str:
            raise AssertionError

        with app.workflow("drawn") as workflow:
            words = workflow.map(shout, [f"w{n}" for n in range(40)])
            broken = workflow.add(fail, str(fixed))
            workflow.add(join, [*words.outputs, broken.output])
        workflow.handle.wait(30)

    shown = cli.run("workflow", "show", "drawn", columns=80).splitlines()
    drawing = "\n".join(shown)
    assert max(map(len, shown)) <= 80
    assert "shout x 40: 40 ok" in drawing
    assert "├─╯" in drawing
    assert "ValueError: as planned" in drawing
    assert "drawn" in cli.run("workflow", "list", "--state", "failed")

    fixed.touch()
    assert cli.json("workflow", "retry", "drawn") == {"retried_tasks": 2}
    with App(cli.address) as app:
        assert app.workflow_handle("drawn").wait(30).state == "succeeded"
    assert len(cli.json("workflow", "show", "drawn")["tasks"]) == 42
    assert cli.json("workflow", "cancel", "drawn") == {"cancelled_tasks": 0}


def test_the_life_of_a_schedule(cli: Commands, worker: Worker) -> None:
    line = ["schedule", "create", "poll", "jobs", "shout", "--every", "1h", "--args", '["tick"]']
    made = cli.json(*line, "--missed", "none")
    assert (made["interval"], made["missed"], made["task"]["payload"]) == (3600.0, "none", {"args": ["tick"]})

    fired = cli.json("schedule", "trigger", "poll")["task_id"]
    cli.run("task", "watch", fired)
    assert cli.json("task", "show", fired)["result"] == "TICK"

    assert cli.json("schedule", "pause", "poll")["paused"] is True
    assert "paused" in cli.run("schedule", "list")
    assert cli.json("schedule", "resume", "poll")["paused"] is False
    assert "every 1 h" in cli.run("schedule", "show", "poll")
    cli.run(*line, "--cron", "@hourly", code=2)
    cli.run("schedule", "create", "poll", "jobs", "shout", "--cron", "0 3 * * *", code=1)
    changed = cli.json(
        *(
            "schedule",
            "create",
            "poll",
            "jobs",
            "shout",
            "--cron",
            "0 3 * * *",
            "--time-zone",
            "Europe/Lisbon",
        ),
        "--replace",
    )
    assert (changed["cron"], changed["time_zone"], changed["interval"]) == (
        "0 3 * * *",
        "Europe/Lisbon",
        None,
    )
    assert cli.json("schedule", "delete", "poll", "--yes") == {"deleted": "poll"}
    assert cli.json("schedule", "list") == []


def test_a_queue_of_tasks_shows_its_states_and_how_fast_it_is(cli: Commands, worker: Worker) -> None:
    cli.run("task", "submit", "jobs", "shout", "--args", '["x"]', "--wait")

    shown = cli.run("queue", "show", "jobs")

    assert " ok" in shown
    assert "end to end" in shown
    assert "tasks/s" in shown
    changed = cli.json("queue", "update", "jobs", "--max-running", "3", "--rate", "100:50")
    assert changed["scheduling"]["max_running"] == 3
    assert changed["scheduling"]["rate"] == {"per_second": 100.0, "burst": 50}
    assert cli.json("queue", "update", "jobs", "--rate", "0")["scheduling"]["rate"] is None


def test_a_worker_that_is_drained_or_terminated_finishes_what_it_runs(
    cli: Commands, worker: Worker, tmp_path: Path
) -> None:
    line = ["task", "submit", "jobs", "hold"]
    cli.run("task", "submit", "jobs", "shout", "--args", '["x"]', "--wait")
    (worker_info,) = cli.json("workers")
    assert (worker_info["id"], worker_info["queues"], worker_info["slots"]) == ("worker-1", ["jobs"], 4)
    cli.run(*line, "--id", "kept", "--args", json.dumps([str(tmp_path / "go")]))
    cli.run(
        "task",
        "watch",
        "--queue",
        "jobs",
        "--type",
        "hold",
        "--current",
        "--state",
        "running",
        "--limit",
        "1",
    )

    second = Worker(cli.address, tmp_path, "worker-2")
    try:
        assert cli.json("workers", "drain", "worker-1") == {"draining": "worker-1"}
        assert "draining" in cli.run("workers")
        (tmp_path / "go").touch()
        assert worker.process.wait(STOP_S) == 0
        assert cli.json("task", "show", "kept")["result"] == "held"

        cli.run("task", "submit", "jobs", "shout", "--args", '["y"]', "--wait")
        assert second.stop() == 0
    finally:
        second.close()
    assert cli.json("workers") == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["task", "show", "nothing"], "TASK_NOT_FOUND"),
        (["workflow", "show", "nothing"], "WORKFLOW_NOT_FOUND"),
        (["schedule", "pause", "nothing"], "SCHEDULE_NOT_FOUND"),
        (["workers", "drain", "nobody"], "WORKER_NOT_FOUND"),
        (["task", "submit", "nowhere", "work"], "QUEUE_NOT_FOUND"),
        (["task", "submit", "messages", "work"], "WRONG_QUEUE_KIND"),
        (["queue", "publish", "idle", "x"], "WRONG_QUEUE_KIND"),
        (["task", "submit", "idle", "work", "--after", "nothing"], "UNKNOWN_DEPENDENCY"),
        (["task", "submit", "idle", "work", "--id", "self", "--after", "self"], "CYCLE"),
        (["task", "submit", "idle", "work", "--resource", "cpu=-1"], "INVALID_FIELD"),
        (["schedule", "create", "bad", "idle", "work", "--cron", "every day"], "INVALID_FIELD"),
        (["schedule", "create", "bad", "idle", "work", "--cron", "0 0 30 2 *"], "INVALID_FIELD"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_gets_the_documented_error(cli: Commands, arguments: list[str], reason: str) -> None:
    for queue, kind in (("idle", "task"), ("messages", "message")):
        cli.run("queue", "create", queue, "--kind", kind)

    assert reason in cli.fail(*arguments)
