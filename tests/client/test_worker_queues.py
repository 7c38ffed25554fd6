"""What a worker says of queues that are not as its app describes them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from taskraft import App, Rate, testing
from taskraft.worker import Worker
from taskraft.worker.queues import difference
from tests.client.waiting import until


@pytest.mark.parametrize(
    ("described", "line"),
    [
        ({}, ""),
        ({"policy": "fifo", "rate": 2, "lease": 10}, ""),
        (
            {"policy": "priority"},
            "queue q has policy fifo, the app says priority: taskraft queue update q --policy priority",
        ),
        (
            {"max_running": 4, "preemption": True, "rate": Rate(5, 9), "lease": 20},
            (
                "queue q has max_running 0, preemption no, rate 2, lease 10, the app says 4, yes, 5:9, 20: "
                "taskraft queue update q --max-running 4 --preemption --rate 5:9 --lease 20s"
            ),
        ),
    ],
)
def test_the_difference_is_said_with_the_command_that_ends_it(described: dict[str, Any], line: str) -> None:
    has = {"policy": "fifo", "max_running": 0, "preemption": False, "rate": Rate(2.0, 1), "lease": 10.0}

    assert difference("q", has, described) == line


def test_a_worker_warns_once_of_a_queue_that_is_not_as_the_app_says(caplog: pytest.LogCaptureFixture) -> None:
    with testing.node() as address, App(address) as app:
        app.queue("later", policy="priority")
        app.queue("same", policy="priority", aging=5)

        @app.task(queue="later")
        def one() -> None: ...

        @app.task(queue="same")
        def two() -> None: ...

        app.client.create_queue("later", kind="task")
        app.client.create_queue("same", kind="task", policy="priority", aging=5)
        worker = Worker(app)
        worker.launch()
        worker.wait_until_begun(10)
        asyncio.run(until(lambda: "taskraft queue update" in caplog.text))
        worker.ask_to_stop()
        worker.wait_until_ended(10)

    said = [line for line in caplog.messages if "taskraft queue update" in line]
    assert said == [
        "queue later has policy fifo, the app says priority: taskraft queue update later --policy priority"
    ]


def test_a_worker_that_nobody_answers_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    app = App("127.0.0.1:1")

    @app.task(queue="q")
    def one() -> None: ...

    with caplog.at_level(logging.DEBUG, logger="taskraft.worker"):
        worker = Worker(app)
        worker.launch()
        asyncio.run(until(lambda: caplog.messages.count("no_leader") == 2, 15))
        worker.ask_to_stop()
        worker.wait_until_ended(10)

    first, second = (record for record in caplog.records if record.message == "no_leader")
    assert (first.levelno, second.levelno) == (logging.WARNING, logging.DEBUG)
    fields = first.__dict__["fields"]
    assert fields["addresses"] == "127.0.0.1:1"
    assert "127.0.0.1:1" in fields["reason"]
