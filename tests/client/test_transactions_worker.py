"""Tasks that complete themselves together with what they made, with a real node and worker."""

from __future__ import annotations

import logging
import threading
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from taskraft import App, SyncClient, errors, testing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with testing.node() as address:
        yield address


def bodies(app: App, queue: str) -> list[bytes]:
    return app.client.queue(queue).pull().bodies()


def test_a_task_completes_itself_with_what_it_made(address: str, caplog: pytest.LogCaptureFixture) -> None:
    app = App(address, queue="completing")
    app.client.create_queue("made")

    @app.task
    def make(name: str) -> str:
        with app.client.transaction() as tx:
            tx.publish("made", name.encode())
            tx.complete(f"made {name}")
        return "this does not count"

    with app, testing.run_worker(app), caplog.at_level(logging.WARNING, "taskraft"):
        assert make.submit("a").result(timeout=10) == "made a"
        assert make.submit("b").result(timeout=10) == "made b", "the worker has its place again"
        assert bodies(app, "made") == [b"a", b"b"]
    ours = [record for record in caplog.records if record.name.startswith("taskraft")]
    complaints = [record.message for record in ours if record.levelno >= logging.WARNING]
    assert complaints == [], "the late outcome is no mistake"


def test_what_a_completed_task_raises_does_not_count(address: str) -> None:
    app, tried = App(address, queue="raising"), []

    @app.task(max_attempts=2, backoff=0.01)
    def fail_late() -> None:
        tried.append(1)
        with app.client.transaction() as tx:
            tx.complete({"done": True})
        raise ZeroDivisionError

    with app, testing.run_worker(app):
        assert fail_late.submit().result(timeout=10) == {"done": True}
    assert tried == [1]


def test_a_transaction_that_is_refused_leaves_the_task_as_it_is(address: str) -> None:
    app, tried = App(address, queue="refused"), []

    @app.task(max_attempts=2, backoff=0.01)
    def publish_somewhere() -> str:
        tried.append(1)
        with app.client.transaction() as tx:
            tx.complete("never")
            tx.publish("nowhere" if len(tried) == 1 else "somewhere", b"x")
        return "this does not count"

    app.client.create_queue("somewhere")
    with app, testing.run_worker(app):
        assert publish_somewhere.submit().result(timeout=10) == "never"
        assert bodies(app, "somewhere") == [b"x"]
    assert len(tried) == 2


def test_a_task_is_submitted_with_what_it_is_about(address: str) -> None:
    app = App(address, queue="submitting")
    app.client.create_queue("orders")

    @app.task
    def ship(order: str, *, fast: bool) -> str:
        return f"{order} {fast}"

    with app, testing.run_worker(app):
        app.client.queue("orders").publish(b"42")
        pulled = app.client.queue("orders").pull(wait=5)
        with app.client.transaction() as tx:
            task = tx.submit(ship, "42", fast=True)
            tx.ack(pulled)

        assert app.handle(task).result(timeout=10) == "42 True"
        assert app.client.get_queue("orders").stats.messages == 0


def test_a_thread_settles_what_it_has_received(address: str) -> None:
    with SyncClient(address) as client:
        client.create_queue("received")
        client.create_queue("sent")
        client.queue("received").publish_many([b"1", b"2", b"3"])
        with client.queue("received").consume() as consumer:
            first, *rest = islice(consumer, 3)
            with client.transaction() as tx:
                tx.publish("sent", first.body)
                tx.ack(first)
            with pytest.raises(ZeroDivisionError), client.transaction() as tx:
                tx.ack(rest[0])
                raise ZeroDivisionError
            rest[0].ack(confirm=True)

        assert tx.results == ()
        assert client.queue("received").pull(wait=5).bodies() == [b"3"]
        assert client.queue("sent").pull().bodies() == [b"1"]


def test_outside_of_a_task_there_is_nothing_to_complete(address: str) -> None:
    app = App(address, queue="none")
    with app, pytest.raises(RuntimeError, match="outside of a task"), app.client.transaction() as tx:
        tx.complete(1)


def test_a_lost_lease_refuses_the_completion(address: str) -> None:
    app, refused = App(address, queue="losing"), threading.Event()

    @app.task
    def cancelled() -> None:
        handle.cancel("not wanted")
        with pytest.raises(errors.LeaseLost), app.client.transaction() as tx:
            tx.complete(1)
        refused.set()

    with app, testing.run_worker(app):
        handle = app.handle("it")
        cancelled.options(id="it").submit()
        assert refused.wait(10)
        assert handle.state() == "cancelled"
