import asyncio

import pytest

from node import limits
from node.errors import NotLeader, ShuttingDown, SlowReader
from node.state.task_rows import CANCELLED, QUEUED, TaskRow
from node.tasks.watch import Wanted, Watcher, Watchers
from taskraft.v1 import task_pb2
from tests.node.single_node import run


def a_row(number: int, **fields: int) -> TaskRow:
    row = TaskRow(number, f"tasks/t{number}", queue_id=1, lane_id=1, state=QUEUED)
    for name, value in fields.items():
        setattr(row, name, value)
    return row


class Rows:
    def task_by_number(self, number: int) -> TaskRow | None:
        return a_row(number) if number < 100 else None


def watchers_of_a_leader() -> Watchers:
    watchers = Watchers(Rows(), not_leader=NotLeader)
    watchers.lead(1)
    return watchers


def everything(row: TaskRow) -> bool:
    return True


def test_tasks_come_in_the_order_of_their_last_change() -> None:
    async def story() -> None:
        watcher = Watcher(everything)
        for number in (1, 2, 3, 1):
            watcher.told(a_row(number))

        assert await watcher.changed(2) == [2, 3]
        assert await watcher.changed(2) == [1]

    run(story())


def test_whoever_asks_waits_until_there_is_something() -> None:
    async def story() -> None:
        watcher = Watcher(everything)
        asking = asyncio.ensure_future(watcher.changed())
        await asyncio.sleep(0)
        assert not asking.done()

        watcher.told(a_row(5))

        assert await asking == [5]

    run(story())


def test_a_watcher_that_has_ended_says_why_and_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WATCH_CHANGED_MAX", 2)

    async def story() -> None:
        watcher = Watcher(everything)
        for number in (1, 2, 3, 4):
            watcher.told(a_row(number))
        watcher.end(ShuttingDown())

        with pytest.raises(SlowReader):
            await watcher.changed()
        assert watcher._changed == {}

    run(story())


def test_each_hears_of_what_it_is_about() -> None:
    async def story() -> None:
        watchers = watchers_of_a_leader()
        wanted = {
            "all": Wanted(),
            "queue": Wanted(queue_id=2),
            "workflow": Wanted(workflow_id=7),
            "both": Wanted(queue_id=2, workflow_id=7),
            "worker": Wanted(worker_id="w"),
            "states": Wanted(states=frozenset({CANCELLED})),
            "time": Wanted(from_ms=10, before_ms=20),
        }
        told = {name: watchers.watch(each) for name, each in wanted.items()}
        rows = [
            a_row(1),
            a_row(2, queue_id=2),
            a_row(3, workflow_id=7),
            a_row(4, queue_id=2, workflow_id=7),
            a_row(5, state=CANCELLED),
            a_row(6, create_ms=10),
            a_row(7, create_ms=20),
        ]
        rows[0].worker_id = "w"

        watchers.tasks_changed(rows)

        assert {name: sorted(watcher._changed) for name, watcher in told.items()} == {
            "all": [1, 2, 3, 4, 5, 6, 7],
            "queue": [2, 4],
            "workflow": [3, 4],
            "both": [4],
            "worker": [1],
            "states": [5],
            "time": [6],
        }
        for name, watcher in told.items():
            watchers.leave(watcher, wanted[name])
        assert watchers._by_topic == {}

    run(story())


def test_whoever_waits_hears_only_of_ends() -> None:
    async def story() -> None:
        watchers = watchers_of_a_leader()
        watcher = watchers.wait()
        watchers.expect(watcher, [1, 2])

        watchers.tasks_changed([a_row(1), a_row(2, state=CANCELLED), a_row(3, state=CANCELLED)])

        assert await watcher.changed() == [2]
        watchers.leave(watcher, numbers=[1, 2])
        assert watchers._by_topic == {}

    run(story())


def test_what_a_worker_has_received_is_told_like_a_change() -> None:
    async def story() -> None:
        watchers = watchers_of_a_leader()
        watcher = watchers.watch(Wanted())

        watchers.received([3, 500])

        assert await watcher.changed() == [3]

    run(story())


def test_nobody_watches_at_a_node_that_does_not_lead_or_stops() -> None:
    watchers = Watchers(Rows(), not_leader=NotLeader)
    with pytest.raises(NotLeader):
        watchers.watch(Wanted())
    watchers.lead(1)
    watchers.stop()
    with pytest.raises(ShuttingDown):
        watchers.wait()


def test_type_and_labels_are_judged_by_what_is_shown() -> None:
    wanted = Wanted(type="t", labels={"k": "v"})

    assert wanted.shows(task_pb2.Task(type="t", labels={"k": "v", "l": "w"}))
    assert not wanted.shows(task_pb2.Task(type="u", labels={"k": "v"}))
    assert not wanted.shows(task_pb2.Task(type="t", labels={"k": "w"}))
    assert not wanted.shows(task_pb2.Task(type="t"))
