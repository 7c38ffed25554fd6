from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from taskraft import App, Client, SyncClient, current_task, testing
from taskraft.errors import TaskFailed
from taskraft.local.layout import node_environment

pytest_plugins = ["pytester"]


def test_a_node_is_ready_at_once_and_gone_at_the_end() -> None:
    with testing.node() as address, SyncClient(address, timeout=1.0) as client:
        client.create_queue("q")
        assert client.cluster().leader_id == "n1"

    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["pgrep", "-f", address], check=True, stdout=subprocess.DEVNULL)


def test_a_node_needs_less_than_two_seconds_of_processor_time() -> None:
    def children_s() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before_s = children_s()
    with testing.node():
        pass

    assert children_s() - before_s < 2.0


def test_a_node_with_a_directory_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    with testing.node(data_dir=tmp_path) as address, SyncClient(address) as client:
        client.create_queue("kept")

    with testing.node(data_dir=tmp_path) as address, SyncClient(address) as client:
        assert [queue.name for queue in client.list_queues()] == ["kept"]


def test_a_node_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(testing.NodeFailed, match="no-such-setting"),
        testing.node(settings=["--no-such-setting", "1"]),
    ):
        raise AssertionError


def test_a_node_can_be_used_inside_a_running_loop_and_by_other_threads() -> None:
    async def use() -> None:
        with testing.node() as address:
            async with Client(address) as client:
                await client.create_queue("q")

    thread = threading.Thread(target=asyncio.run, args=(use(),))
    thread.start()
    thread.join()
    asyncio.run(use())


def test_tasks_run_in_the_process_of_the_test() -> None:
    app = App(queue="q")
    pids = []

    @app.task
    def add(a: int, b: int) -> int:
        pids.append(os.getpid())
        return a + b

    with testing.node() as address:
        app.addresses = address
        with testing.run_worker(app), app:
            assert add.submit(1, 2).result(timeout=10) == 3
            assert list(add.map(range(100), 1).results(timeout=10)) == list(range(1, 101))

    assert set(pids) == {os.getpid()}


def test_a_worker_finishes_what_it_runs_at_the_end_of_its_block() -> None:
    app, began, release = App(queue="q"), threading.Event(), threading.Event()

    @app.task
    def slow() -> str:
        began.set()
        release.wait()
        return "finished"

    with testing.node() as address:
        app.addresses = address
        with app:
            with testing.run_worker(app):
                handle = slow.submit()
                began.wait()
                threading.Timer(0.1, release.set).start()
            assert handle.result(timeout=10) == "finished"


def test_an_exception_in_the_block_ends_the_worker_at_once() -> None:
    app, began, release = App(queue="q"), threading.Event(), threading.Event()

    @app.task
    def slow() -> None:
        began.set()
        release.wait()

    with testing.node() as address:
        app.addresses = address
        with app:
            began_s = time.monotonic()
            with pytest.raises(KeyError), testing.run_worker(app, grace=60):
                slow.submit()
                began.wait()
                raise KeyError
            assert time.monotonic() - began_s < 30
            release.set()


def test_failures_and_retries_are_those_of_a_real_cluster() -> None:
    app = App(queue="q")
    attempts = []

    @app.task(max_attempts=3, backoff=0.01)
    def flaky() -> int:
        attempts.append((current_task().attempt, current_task().checkpoint))
        current_task().save(len(attempts))
        if current_task().attempt < 3:
            raise OSError("not yet")
        return current_task().attempt

    @app.task(no_retry_on=ValueError)
    def broken() -> None:
        raise ValueError("for good")

    with testing.node() as address:
        app.addresses = address
        with testing.run_worker(app), app:
            assert flaky.submit().result(timeout=10) == 3
            with pytest.raises(TaskFailed, match="for good"):
                broken.submit().result(timeout=10)

    assert attempts == [(1, None), (2, 1), (3, 2)]


def test_the_fixture_is_a_node_that_all_tests_share(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["taskraft.testing.plugin"]')
    pytester.makepyfile(
        """
        from taskraft import SyncClient

        def test_one(taskraft_node):
            with SyncClient(taskraft_node) as client:
                client.create_queue("q")

        def test_two(taskraft_node):
            with SyncClient(taskraft_node) as client:
                assert [queue.name for queue in client.list_queues()] == ["q"]
        """
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        words, cwd=pytester.path, env=node_environment(), capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
