"""A worker and a real node."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from taskraft import App, current_task, testing
from taskraft.errors import TaskFailed, TaskraftError
from taskraft.local.layout import node_environment
from taskraft.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

PROGRAM = Path(__file__).with_name("work_program.py")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with testing.node() as address:
        yield address


def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def reasons(app: App, task_id: str) -> list[str]:
    """The history of a task."""
    return [event.reason for event in app.client.tasks.get(task_id, full=True).events]


def test_cancelling_a_task_reaches_its_coroutine(address: str) -> None:
    app, cancelled, began = App(address, queue="cancel"), threading.Event(), threading.Event()

    @app.task
    async def forever() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with app, testing.run_worker(app):
        handle = forever.submit()
        assert began.wait(10)
        handle.cancel("enough")
        assert cancelled.wait(10)
        assert handle.state() == "cancelled"


def test_generators_share_a_worker_by_slices_and_lose_nothing(address: str) -> None:
    app, order = App(address, queue="slices"), []
    app.queue("slices", policy="round_robin", time_slice=0.05)

    @app.task
    def count(name: str) -> Generator[int, None, str]:
        for at in range(current_task().checkpoint or 0, 15):
            order.append((name, at))
            time.sleep(0.01)
            yield at + 1
        return f"{name} counted"

    with app, testing.run_worker(app, threads=1):
        handles = count.map(["a", "b", "c"])
        assert handles.results(timeout=20) == ["a counted", "b counted", "c counted"]
        assert "SLICE_END" in reasons(app, handles[0].id)
        assert {handle.info().attempt for handle in handles} == {1}

    for name in "abc":
        assert [at for one, at in order if one == name] == list(range(15)), "each step once, in order"
    assert [name for name, _ in order] != sorted(name for name, _ in order), "they took turns"


def test_a_result_that_another_task_needs_is_handed_over(address: str) -> None:
    app = App(address, queue="parents")

    @app.task
    def make(n: int) -> str:
        return "x" * n

    @app.task
    async def measure(parts: list[str]) -> list[int]:
        return [len(part) for part in parts]

    with app, testing.run_worker(app):
        large = [make.submit(400_000) for _ in range(6)]  # more than one assignment holds
        assert measure.submit(large).result(timeout=20) == [400_000] * 6  # type: ignore[arg-type]


def test_a_worker_is_listed_and_drained_by_the_broker(address: str) -> None:
    app = App(address, queue="drain")

    @app.task
    def one() -> None: ...

    worker = Worker(app, worker_id="to-drain", threads=3, labels={"zone": "a"}, capacity={"gpu": 1})
    with app:
        worker.launch()
        worker.wait_until_begun(10)
        [info] = [info for info in app.client.workers.list() if info.id == "to-drain"]
        assert (info.slots, info.connected, dict(info.labels), dict(info.capacity)) == (
            3,
            True,
            {"zone": "a"},
            {"gpu": 1},
        )
        app.client.workers.drain("to-drain")
        worker.wait_until_ended(10)
        until(lambda: all(info.id != "to-drain" for info in app.client.workers.list()))


def test_a_task_of_a_killed_worker_is_run_again(address: str, tmp_path: Path) -> None:
    app = App(address, queue="q")

    @app.task(max_attempts=2)
    def slow(name: str) -> str:
        return f"{name}, again"

    with app:
        app.client.create_queue("q", kind="task", lease=1)
        words = [sys.executable, str(PROGRAM), address, str(tmp_path), "5"]
        process = subprocess.Popen(words, env=node_environment())
        handle = slow.submit("x")
        until((tmp_path / "x.began").exists)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with testing.run_worker(app):
            assert handle.result(timeout=15) == "x, again"
        assert handle.info().attempt == 2
        assert "LEASE_EXPIRED" in reasons(app, handle.id)


def test_another_worker_of_the_same_name_takes_over(address: str) -> None:
    app = App(address, queue="names")

    @app.task
    def one() -> int:
        return 1

    first = Worker(app, worker_id="same")
    first.launch()
    first.wait_until_begun(10)
    with app, testing.run_worker(app, worker_id="same"):
        with pytest.raises(TaskraftError, match="WORKER_REPLACED"):
            first.wait_until_ended(10)
        assert one.submit().result(timeout=10) == 1


def test_a_result_that_is_too_large_fails_its_task_and_nothing_else(address: str) -> None:
    app = App(address, queue="large")

    @app.task
    def large(n: int) -> str:
        return "x" * n

    with app, testing.run_worker(app):
        too_large, fits = large.submit(2 << 20), large.submit((1 << 20) - 2)
        assert len(fits.result(timeout=10)) == (1 << 20) - 2
        with pytest.raises(TaskFailed, match="2097154 bytes"):
            too_large.result(timeout=10)


def test_thousands_of_small_tasks_run_each_once(address: str) -> None:
    app, runs = App(address, queue="many"), []

    @app.task
    def one(n: int) -> int:
        runs.append(n)
        return n

    with app, testing.run_worker(app):
        assert one.map(range(3_000)).results(timeout=60) == list(range(3_000))

    assert sorted(runs) == list(range(3_000))
