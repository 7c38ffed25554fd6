from __future__ import annotations

import asyncio
import threading

import pytest

from taskraft import Result, current_task
from taskraft.v1 import worker_pb2
from taskraft.worker.runner import TICK_S
from taskraft.worker.session import Session
from tests.client.waiting import until
from tests.client.work_broker import GRACE_S
from tests.client.work_stage import Stage, all_ended, perform


def test_running_tasks_finish_once_when_the_stream_is_cut() -> None:
    async def story(stage: Stage) -> None:
        release, runs = threading.Event(), []

        @stage.app.task(queue="q")
        def one(n: int) -> None:
            runs.append(n)
            release.wait()

        rows = [stage.submit(one, n) for n in range(4)]
        async with stage.worker():
            await until(lambda: len(runs) == 4)
            stage.broker.session.cut.set()
            await until(lambda: len(stage.broker.sessions) == 2)
            await until(lambda: bool(stage.broker.session.heartbeats))
            release.set()
            await all_ended(*rows)

        assert sorted(runs) == [0, 1, 2, 3]
        assert set(stage.broker.session.hello.held_lease_ids) == {row.assignment.lease_id for row in rows}
        assert len({session.hello.instance_id for session in stage.broker.sessions}) == 1

    perform(story)


def test_running_tasks_finish_once_when_another_node_leads() -> None:
    async def story(stage: Stage) -> None:
        release, runs = threading.Event(), []

        @stage.app.task(queue="q")
        def one() -> None:
            runs.append(1)
            release.wait()

        row = stage.submit(one)
        async with stage.worker():
            await until(lambda: bool(runs))
            await stage.broker.lead("n2")
            await stage.broker.nodes["n1"].kill()
            await until(lambda: len(stage.broker.sessions) == 2)
            release.set()
            await row.ended.wait()
            later = stage.submit(one)
            await later.ended.wait()

        assert row.events == ["leased", "succeeded"]
        assert len(runs) == 2

    perform(story, "n1", "n2", "n3")


def test_a_worker_leaves_a_frozen_leader_for_the_one_that_answers() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def one() -> None: ...

        stage.broker.heartbeat_ms = 60_000  # nobody would miss one
        async with stage.worker():
            stage.broker.nodes["n1"].thawed.clear()
            stage.broker.leader_id, stage.broker.term = "n2", 2
            row = stage.submit(one)
            await row.ended.wait()

        assert len(stage.broker.sessions) == 2

    perform(story, "n1", "n2", "n3")


def test_an_outcome_that_was_committed_and_not_answered_is_not_sent_for_another_lease() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def one() -> int:
            return 7

        stage.broker.answers.clear()
        async with stage.worker():
            row = stage.submit(one)
            await row.ended.wait()
            stage.broker.session.cut.set()
            await until(lambda: not stage.broker.sessions[0].open)
            stage.broker.answers.set()
            await until(lambda: len(stage.broker.sessions) == 2)
            await until(lambda: len(stage.broker.session.heartbeats) > 1)
            later = stage.submit(one)
            await later.ended.wait()

        assert row.assignment.lease_id in stage.broker.session.hello.held_lease_ids
        assert (len(row.outcomes), row.refused) == (1, [])

    perform(story)


def test_an_outcome_that_the_broker_never_saw_is_sent_again() -> None:
    async def story(stage: Stage) -> None:
        release = threading.Event()

        @stage.app.task(queue="q")
        def one() -> int:
            release.wait()
            return 7

        async with stage.worker():
            row = stage.submit(one)
            await until(lambda: row.assignment.lease_id in stage.broker.session.received)
            await stage.broker.nodes["n1"].kill()
            release.set()
            await stage.broker.nodes["n1"].start()
            await row.ended.wait()

        assert row.events == ["leased", "succeeded"]
        assert stage.result(row) == 7

    perform(story)


def test_a_worker_that_comes_back_too_late_drops_what_waits_and_stops_what_runs() -> None:
    async def story(stage: Stage) -> None:
        began = []

        @stage.app.task(queue="q")
        async def one(n: int) -> int:
            began.append((n, current_task().attempt))
            if (n, current_task().attempt) == (0, 1):
                await asyncio.Event().wait()
            return n

        rows = [stage.submit(one, n, max_attempts=3) for n in range(2)]
        async with stage.worker(coroutines=1):
            await until(lambda: len(began) == 1)
            await stage.broker.nodes["n1"].kill()
            await until(
                lambda: all(row.events[-1] == "lost" for row in rows if row.events), timeout_s=GRACE_S * 4
            )
            await stage.broker.nodes["n1"].start()
            await all_ended(*rows)

        assert [stage.result(row) for row in rows] == [0, 1]
        assert rows[0].refused == [], "of a lost lease nothing is said"

    perform(story)


def test_a_silent_broker_is_left_when_it_does_not_answer_heartbeats() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def one() -> None: ...

        async with stage.worker():
            await until(lambda: bool(stage.broker.session.heartbeats))
            node = stage.broker.nodes["n1"]
            node.thawed.clear()
            await until(lambda: not stage.broker.sessions[0].open)
            node.thawed.set()
            row = stage.submit(one)
            await row.ended.wait()

    perform(story)


def test_a_worker_follows_the_advice_to_reconnect() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        def one() -> None: ...

        async with stage.worker():
            session = stage.broker.session
            stage.broker.leader_id, stage.broker.term = "n2", 2
            advice = worker_pb2.WorkResponse()
            advice.reconnect.endpoints.append(stage.broker.nodes["n2"].address)
            await session.write(advice)
            row = stage.submit(one)
            await row.ended.wait()

        assert len(stage.broker.sessions) == 2

    perform(story, "n1", "n2")


def test_the_last_checkpoint_is_said_again_on_a_new_stream() -> None:
    async def story(stage: Stage) -> None:
        release = threading.Event()

        @stage.app.task(queue="q")
        def steps() -> None:
            current_task().save("here")
            release.wait()

        row = stage.submit(steps)
        async with stage.worker():
            await until(lambda: bool(row.checkpoint))
            row.checkpoint = b""
            stage.broker.session.cut.set()
            await until(lambda: bool(row.checkpoint))
            release.set()
            await row.ended.wait()

    perform(story)


def test_what_waits_is_not_begun_when_its_lease_has_run_out_without_a_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Session, "silent_s", property(lambda _: 31.0))  # the lease is 30 s

    async def story(stage: Stage) -> None:
        release, began, done = threading.Event(), [], []

        @stage.app.task(queue="q")
        def one(n: int) -> None:
            began.append(n)
            release.wait()
            done.append(n)

        rows = [stage.submit(one, n) for n in range(3)]
        async with stage.worker(threads=1):
            stage.broker.session.credit += 3
            stage.broker.wake()
            await until(lambda: len(stage.broker.session.received) == 3)
            await stage.broker.nodes["n1"].kill()
            await asyncio.sleep(1.5 * TICK_S)  # what is tested is that nothing happens
            release.set()
            await until(lambda: done == [0])
            await stage.broker.nodes["n1"].start()
            await all_ended(*rows)

        assert sorted(began) == [0, 0, 1, 2], "those that had not begun were not begun twice"

    perform(story)


@pytest.mark.parametrize(
    ("reason", "answer"),
    [
        (worker_pb2.REVOKE_REASON_CANCELLED, "cancelled"),
        (worker_pb2.REVOKE_REASON_SLICE_END, "drained"),  # it had nothing of its slice
    ],
)
def test_a_lease_that_was_revoked_while_its_task_waited_is_answered_at_once(
    reason: worker_pb2.RevokeReason, answer: str
) -> None:
    async def story(stage: Stage) -> None:
        release = threading.Event()

        @stage.app.task(queue="q")
        def one() -> None:
            release.wait()

        rows = [stage.submit(one) for _ in range(2)]
        async with stage.worker(threads=1):
            stage.broker.session.credit += 1
            stage.broker.wake()
            await until(lambda: len(stage.broker.session.received) == 2)
            await stage.broker.session.revoke(rows[1], reason)
            await until(lambda: answer in rows[1].events)
            release.set()
            await rows[0].ended.wait()

    perform(story)


def test_an_async_generator_that_is_done_says_so_with_a_result() -> None:
    async def story(stage: Stage) -> None:
        @stage.app.task(queue="q")
        async def steps():  # type: ignore[no-untyped-def]
            yield 1
            yield Result("done")

        row = stage.submit(steps)
        async with stage.worker():
            await row.ended.wait()

        assert stage.result(row) == "done"

    perform(story)
