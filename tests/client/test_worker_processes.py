from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from taskraft import App
from taskraft.v1 import worker_pb2
from taskraft.worker import LoadError, Worker, WorkerBroken, frames, load_app
from taskraft.worker.job import Job
from taskraft.worker.loading import spec_of
from taskraft.worker.processes import Processes
from tests.client import work_app
from tests.client.waiting import until
from tests.client.work_stage import Stage, all_ended, perform

SPEC = "tests.client.work_app:app"


def in_processes(story, *, processes: int = 1) -> None:  # type: ignore[no-untyped-def]
    """Run a story with a worker that has processes."""

    async def stage_it(stage: Stage) -> None:
        work_app.app.addresses = stage.broker.addresses
        async with stage.worker(processes=processes):
            await story(stage)

    perform(stage_it, app=work_app.app)


def test_functions_that_compute_run_in_other_processes() -> None:
    async def story(stage: Stage) -> None:
        pids: set[int] = set()
        while len(pids) < 2:  # the second one may take longer to begin
            rows = [stage.submit(work_app.square, n) for n in range(40)]
            await all_ended(*rows)
            assert [stage.result(row)[0] for row in rows] == [n * n for n in range(40)]
            pids.update(stage.result(row)[1] for row in rows)
        assert os.getpid() not in pids
        assert stage.broker.session.hello.slots == 2

    in_processes(story, processes=2)


def test_a_crash_costs_one_attempt_of_one_task_and_the_process_is_replaced(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        crashed = stage.submit(work_app.crash, str(tmp_path / "once"), max_attempts=2)
        others = [stage.submit(work_app.square, n) for n in range(5)]
        await all_ended(crashed, *others)

        failure = crashed.outcomes[0].failure
        assert (failure.error.reason, failure.permanent) == ("WORKER_PROCESS_DIED", False)
        assert "SIGKILL" in failure.error.message
        assert stage.result(crashed) == "survived"
        assert [len(row.outcomes) for row in others] == [1] * 5

    in_processes(story)


@pytest.mark.parametrize("reason", [worker_pb2.REVOKE_REASON_CANCELLED, worker_pb2.REVOKE_REASON_PREEMPTED])
def test_a_process_that_computes_is_ended_when_its_task_is_revoked(
    reason: worker_pb2.RevokeReason, tmp_path: Path
) -> None:
    async def story(stage: Stage) -> None:
        marker = tmp_path / "once"
        row = stage.submit(work_app.spin, str(marker))
        await until(marker.exists)
        await stage.broker.session.revoke(row, reason)
        await row.ended.wait()

        why = worker_pb2.RevokeReason.Name(reason).removeprefix("REVOKE_REASON_").lower()
        assert row.events == ["leased", why, "leased", "succeeded"]

    in_processes(story)


def test_a_generator_in_a_process_yields_with_its_checkpoint_and_says_how_far_it_is(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        row = stage.submit(work_app.count, str(tmp_path / "once"))
        await until(lambda: bool(row.progress) and row.progress[-1].message == "at 1")
        assert stage.app.payloads.decode_checkpoint(row.checkpoint) == 1
        await stage.broker.session.revoke(row, worker_pb2.REVOKE_REASON_SLICE_END)
        await row.ended.wait()

        assert stage.result(row) == "counted"
        assert row.events == ["leased", "slice_end", "leased", "succeeded"]

    in_processes(story)


def test_processes_end_with_their_worker(tmp_path: Path) -> None:
    pids: list[int] = []

    async def story(stage: Stage) -> None:
        row = stage.submit(work_app.square, 1)
        await row.ended.wait()
        pids.append(stage.result(row)[1])
        marker = tmp_path / "once"
        stage.submit(work_app.spin, str(marker))
        await until(marker.exists)

    in_processes(story, processes=2)

    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_without_processes_such_functions_run_in_threads() -> None:
    async def story(stage: Stage) -> None:
        work_app.app.addresses = stage.broker.addresses
        async with stage.worker():
            row = stage.submit(work_app.square, 3)
            await row.ended.wait()
        assert stage.result(row) == [9, os.getpid()]

    perform(story, app=work_app.app)


def test_a_process_knows_where_the_brokers_of_its_worker_are() -> None:
    async def story(stage: Stage) -> None:
        row = stage.submit(work_app.addresses)
        await row.ended.wait()

        assert stage.result(row) == list(stage.broker.addresses)

    in_processes(story)


def test_an_idle_process_that_dies_is_replaced() -> None:
    async def story(stage: Stage) -> None:
        first = stage.submit(work_app.square, 1)
        await first.ended.wait()
        os.kill(stage.result(first)[1], signal.SIGKILL)
        second = stage.submit(
            work_app.square, 2, max_attempts=2
        )  # the first attempt may meet the dying process
        await second.ended.wait()

        assert stage.result(second)[0] == 4
        assert stage.result(second)[1] != stage.result(first)[1]

    in_processes(story)


def test_a_process_that_is_being_killed_gets_no_other_task() -> None:
    finished: list[int] = []
    executor = Processes(
        1,
        lambda job, _: finished.append(job.lease_id),
        lambda _: None,
        lambda _: None,
        spec=SPEC,
        addresses=(),
    )
    [place] = executor._places
    first, second = (
        Job(worker_pb2.Assignment(lease_id=lease_id), work_app.square, work_app.app.payloads, "process", id)  # type: ignore[arg-type]
        for lease_id in (1, 2)
    )
    place.ready = True
    executor.put([first, second])
    assert place.job is first

    executor.stop(first)
    outcome = worker_pb2.Outcome(lease_id=1).SerializeToString()
    place.data_received(frames.frame(frames.OUTCOME, frames.SECONDS.pack(0.0), outcome))

    assert finished == [1]
    assert place.job is None
    assert list(executor.waiting) == [2]


def test_a_worker_whose_processes_cannot_load_the_app_hands_its_tasks_back_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "picky.py").write_text(
        "import multiprocessing\n"
        "from taskraft import App\n"
        "assert multiprocessing.parent_process() is None, 'not in here'\n"
        "app = App('127.0.0.1:1')\n"
        "@app.task(queue='q', cpu_bound=True)\n"
        "def one(): ...\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    app = load_app("picky")

    async def story(stage: Stage) -> None:
        app.addresses = stage.broker.addresses
        row = stage.submit(app.tasks["one"])
        worker = Worker("picky", processes=1)
        await worker.start()
        with pytest.raises(WorkerBroken, match="before they are ready: exit code 1"):
            await worker.wait()

        assert row.events == ["leased", "drained"]

    perform(story, app=app)


def test_frames_come_out_as_they_went_in_however_they_are_cut() -> None:
    sent = [(frames.RUN, b"assignment"), (frames.READY, b""), (frames.OUTCOME, b"x" * 1_000)]
    wire = b"".join(frames.frame(what, content[:3], content[3:]) for what, content in sent)

    for size in (1, 3, 7, len(wire)):
        incoming = frames.Frames()
        got = [one for at in range(0, len(wire), size) for one in incoming.feed(wire[at : at + size])]
        assert got == sent


def test_an_app_is_loaded_by_its_name() -> None:
    assert load_app(SPEC) is work_app.app
    assert load_app("tests.client.work_app") is work_app.app
    assert spec_of(work_app.app) in (SPEC, f"{__name__}:work_app.app")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("nowhere.at.all:app", "there is no module 'nowhere.at.all'"),
        ("tests.client.work_app:nothing", "has no 'nothing'"),
        ("tests.client.work_app:square", "is a TaskFunction, not an App"),
        (":app", "names no module"),
        ("work_apps.py", "did you mean work_apps\\?"),
        ("tests.client.work_app:app2", "its apps: tests.client.work_app:app"),
    ],
)
def test_an_app_that_cannot_be_found_is_explained(spec: str, why: str) -> None:
    with pytest.raises(LoadError, match=why):
        load_app(spec)


def test_what_an_app_lacks_itself_is_not_blamed_on_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needy.py").write_text("import something_that_is_missing\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    with pytest.raises(ModuleNotFoundError, match="something_that_is_missing"):
        load_app("needy:app")


def test_an_app_that_processes_cannot_load_is_refused_at_once() -> None:
    app = App("127.0.0.1:1")

    @app.task(queue="q", cpu_bound=True)
    def one() -> None: ...

    with pytest.raises(LoadError, match="top of a module"):
        Worker(app, processes=1)
