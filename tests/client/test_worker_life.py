from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from taskraft.local.layout import node_environment
from taskraft.v1 import worker_pb2
from taskraft.worker import Worker
from tests.client.waiting import until
from tests.client.work_stage import Stage, all_ended, perform

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("work_program.py")


@contextmanager
def program(stage: Stage, directory: Path, *, grace_s: float = 30.0) -> Iterator[subprocess.Popen[str]]:
    """The worker of work_program.py; killed at the end if it is still there."""
    words = [sys.executable, str(PROGRAM), ",".join(stage.broker.addresses), str(directory), str(grace_s)]
    process = subprocess.Popen(
        words, env=node_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def end_of(process: subprocess.Popen[str]) -> str:
    """What it printed, when it has ended well."""
    output, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, output
    return output


def test_a_drained_worker_finishes_what_runs_and_hands_back_the_rest() -> None:
    async def story(stage: Stage) -> None:
        release, began = threading.Event(), []

        @stage.app.task(queue="q")
        def one(n: int) -> int:
            began.append(n)
            release.wait()
            return n

        rows = [stage.submit(one, n) for n in range(6)]
        async with stage.worker(threads=2) as worker:
            stage.broker.session.credit += 2
            stage.broker.wake()
            await until(lambda: len(stage.broker.session.received) == 4 and len(began) == 2)
            draining = asyncio.create_task(worker.drain())
            await until(lambda: stage.broker.session.draining)
            await until(lambda: sum("drained" in row.events for row in rows) == 2)
            assert not draining.done()
            release.set()
            await draining

        assert [row.events for row in rows[:2]] == [["leased", "succeeded"]] * 2
        assert [row.attempt for row in rows[2:]] == [0] * 4
        assert sorted(began) == [0, 1]

    perform(story)


def test_sigterm_drains_and_generators_leave_with_their_checkpoints(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        with program(stage, tmp_path) as process:
            slow, steps = stage.broker.submit("slow", b'{"args":["a"]}'), stage.broker.submit("steps")
            await until(lambda: (tmp_path / "a.began").exists() and (tmp_path / "steps.began").exists())
            process.send_signal(signal.SIGTERM)
            await until(lambda: "drained" in steps.events)
            (tmp_path / "a").touch()

            assert await end_of(process) == "left\n"
        assert slow.events == ["leased", "succeeded"]
        assert stage.app.payloads.decode_checkpoint(steps.checkpoint) >= 1
        assert steps.attempt == 0

    perform(story)


def test_after_its_grace_a_worker_gives_up_what_still_runs(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        with program(stage, tmp_path, grace_s=0.2) as process:
            slow, sleepy = stage.broker.submit("slow", b'{"args":["a"]}'), stage.broker.submit("sleepy")
            await until(lambda: (tmp_path / "a.began").exists() and (tmp_path / "sleepy.began").exists())
            process.send_signal(signal.SIGINT)

            said = await end_of(process)
        assert said.startswith("task failed type=slow id=t0 ")
        assert said.endswith("\nleft\n")
        assert (slow.error.reason, slow.outcomes[0].failure.permanent) == ("WORKER_STOPPED", False)
        assert sleepy.events == ["leased", "drained"]

    perform(story)


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        with program(stage, tmp_path) as process:
            slow = stage.broker.submit("slow", b'{"args":["a"]}')
            await until((tmp_path / "a.began").exists)
            process.send_signal(signal.SIGTERM)
            await until(lambda: stage.broker.session.draining)
            process.send_signal(signal.SIGTERM)

            assert await end_of(process) == "left\n"
        assert slow.outcomes == []
        await until(lambda: slow.events == ["leased", "lost"])

    perform(story)


def test_a_worker_that_is_asked_by_the_broker_drains() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def one() -> None: ...

        async with stage.worker() as worker:
            row = stage.submit(one)
            await row.ended.wait()
            request = worker_pb2.WorkResponse(drain=worker_pb2.DrainRequested(reason="upgrade"))
            await stage.broker.session.write(request)
            await worker.wait()

        assert stage.broker.session.draining

    perform(story)


def test_a_drain_that_meets_a_broken_stream_is_said_again() -> None:
    async def story(stage: Stage) -> None:
        release, began = threading.Event(), threading.Event()

        @stage.app.task(queue="q")
        def one() -> None:
            began.set()
            release.wait()

        async with stage.worker() as worker:
            row = stage.submit(one)
            await until(began.is_set)
            draining = asyncio.create_task(worker.drain())
            await until(lambda: stage.broker.session.draining)
            stage.broker.session.cut.set()
            await until(lambda: len(stage.broker.sessions) == 2 and stage.broker.session.draining)
            assert stage.broker.session.credit == 0
            release.set()
            await draining

        assert row.events == ["leased", "succeeded"]

    perform(story)


def test_a_worker_can_leave_without_a_broker() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def one() -> None: ...

        async with stage.worker() as worker:
            await stage.broker.nodes["n1"].kill()
            async with asyncio.timeout(10):
                await worker.drain()

    perform(story)


def test_a_worker_that_was_never_welcomed_can_be_stopped() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def one() -> None: ...

        stage.broker.nodes["n1"].thawed.clear()
        worker = Worker(stage.app)
        worker.launch()
        await worker.stop()

    perform(story)


def test_two_workers_share_the_tasks_of_a_queue() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def one() -> None: ...

        async with stage.worker(worker_id="a"), stage.worker(worker_id="b"):
            rows = [stage.submit(one) for _ in range(500)]
            await all_ended(*rows)

        assert {session.hello.worker_id for session in stage.broker.sessions} == {"a", "b"}
        assert {len(row.outcomes) for row in rows} == {1}

    perform(story)
