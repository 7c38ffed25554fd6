from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from taskraft import Client, NewTask, TaskInfo, errors
from tests.client.store import Refused
from tests.client.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.client.broker import Broker

    Play = Callable[[Callable[[Broker, Client], Awaitable[None]]], None]


def new(task_id: str = "", **settings: Any) -> NewTask:
    return NewTask(id=task_id, type="t", queue="t", **settings)


async def collect(some: Any) -> list[Any]:
    return [one async for one in some]


def test_a_task_is_submitted_looked_at_and_listed(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")

        submission = await client.tasks.submit(new("a", payload=b"[1]", priority=4, labels={"k": "v"}))
        await client.tasks.submit_many([new("b", after=["a"]), new("c"), new()])
        info = await client.tasks.get("tasks/a", full=True)
        listed = await collect(client.tasks.list(queue="t"))

        assert (submission.id, submission.outcome) == ("a", "created")
        assert (info.id, info.queue, info.type, info.state, info.priority) == ("a", "t", "t", "queued", 4)
        assert (info.payload, info.labels, info.size, info.result) == (b"[1]", {"k": "v"}, None, None)
        assert [one.id for one in listed[1:]] == ["c", "b", "a"]
        assert len(listed[0].id) == 32
        assert [one.state for one in listed[1:]] == ["queued", "blocked", "queued"]
        assert [one.id for one in await collect(client.tasks.list(states=["blocked"], labels={}))] == ["b"]

    play(story)


def test_the_classic_small_scheduler(play: Play) -> None:
    """The same task again: with a higher priority it is replaced, else it is reported as scheduled."""

    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task", policy="priority")

        first = await client.tasks.submit(new("a", priority=1))
        higher = await client.tasks.submit(new("a", priority=2))
        same = await client.tasks.submit(new("a", priority=2))

        assert [first.outcome, higher.outcome, same.outcome] == ["created", "replaced", "already_scheduled"]

    play(story)


def test_submits_of_many_callers_share_calls(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        broker.answers.clear()
        first = asyncio.create_task(client.tasks.submit(new("first")))
        await until(lambda: broker.tasks.submits == [1])
        others = [asyncio.create_task(client.tasks.submit(new(f"{n}"))) for n in range(50)]
        await asyncio.sleep(0)
        broker.answers.set()

        await asyncio.gather(first, *others)

        assert broker.tasks.submits == [1, 50]

    play(story)


def test_who_shares_a_call_with_a_guilty_one_does_not_suffer(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        broker.answers.clear()
        first = asyncio.create_task(client.tasks.submit(new("first")))
        await until(lambda: broker.tasks.submits == [1])
        guilty = new("guilty", labels={str(n): "" for n in range(33)})
        tasks = [new("0"), new("1"), guilty, new("3"), new("lost", after=["nobody"]), new("5", after=["3"])]
        others = [asyncio.create_task(client.tasks.submit(one)) for one in tasks]
        await asyncio.sleep(0)
        broker.answers.set()

        results = await asyncio.gather(first, *others, return_exceptions=True)

        assert [type(one).__name__ for one in results] == [
            *["Submission"] * 3,
            "InvalidArgument",
            "Submission",
            "UnknownDependency",
            "Submission",
        ]
        assert list(broker.tasks.tasks) == [f"tasks/{one}" for one in ("first", "0", "1", "3", "5")]

    play(story)


def test_a_submit_whose_answer_is_lost_is_not_doubled(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        broker.answers.clear()
        submitting = asyncio.create_task(client.tasks.submit_many([new("a"), new("b")]))
        await until(lambda: broker.tasks.submits == [2])
        await broker.nodes["n1"].kill()
        await broker.lead("n2")
        broker.answers.set()

        submissions = await submitting

        assert [one.outcome for one in submissions] == ["created", "created"]
        assert broker.tasks.submits == [2]

    play(story)


def test_thousands_of_tasks_travel_in_parts_and_a_failure_tells_what_was_stored(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        await client.tasks.submit_many(new(f"{n}") for n in range(4_100))
        assert broker.tasks.submits == [2_000, 2_000, 100]

        broker.refusals += [None, Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")]
        with pytest.raises(errors.QueueFull) as caught:
            await client.tasks.submit_many(new(f"x{n}") for n in range(2_100))

        assert caught.value.submitted == tuple(f"x{n}" for n in range(2_000))

    play(story)


@pytest.mark.parametrize(
    ("tasks", "error"),
    [
        ([new("a", after=["b"]), new("b", after=["a"])], errors.Cycle),
        ([new("a", after=["nobody"])], errors.UnknownDependency),
        ([NewTask(type="t", queue="q")], errors.WrongQueueKind),
        ([NewTask(type="t", queue="nowhere")], errors.QueueNotFound),
    ],
)
def test_what_is_refused_has_its_own_error(play: Play, tasks: list[NewTask], error: type[Exception]) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")

        with pytest.raises(error):
            await client.tasks.submit_many(tasks, workflow="w")
        with pytest.raises(error):
            await client.tasks.check(tasks)

        assert not broker.tasks.tasks

    play(story)


def test_a_check_stores_nothing(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")

        await client.tasks.check([new("a"), new("b", after=["a"])])

        assert not broker.tasks.tasks

    play(story)


def test_a_commit_that_is_too_large_is_not_even_sent(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        with pytest.raises(errors.InvalidArgument, match="10001 tasks"):
            await client.tasks.submit_many((new(f"{n}") for n in range(10_001)), workflow="w")
        with pytest.raises(errors.InvalidArgument, match="bytes"):
            await client.tasks.submit_many(
                [new(f"{n}", payload=b"x" * (1 << 20)) for n in range(3)], workflow="w"
            )

    play(story)


def test_thousands_of_waits_share_a_few_streams(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        ids = [f"{n}" for n in range(1_000)]
        await client.tasks.submit_many(new(one) for one in ids)
        waiting = []
        for at, task_id in enumerate(ids):
            waiting.append(asyncio.create_task(client.tasks.ended(task_id)))
            if at % 50 == 0:
                await asyncio.sleep(0.001)
        await until(lambda: sum(len(one.names) for one in client._connection.waiter._streams) == 1_000)
        assert len(client._connection.waiter._streams) <= 10
        await until(lambda: sum(broker.waits) >= 1_000)

        for task_id in ids:
            broker.tasks.succeed(task_id, task_id.encode())

        infos = await asyncio.gather(*waiting)
        assert [info.result for info in infos] == [one.encode() for one in ids]
        assert sum(broker.waits) <= 10 * 1_000
        await until(lambda: not client._connection.waiter._streams)

    play(story)


def test_waiting_survives_changes_of_leader_and_misses_nothing(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        await client.tasks.submit_many(new(one) for one in "abc")
        waiting = asyncio.create_task(collect(client.tasks.wait("abc", timeout=15)))
        await until(lambda: len(broker.waits) == 1)

        broker.tasks.succeed("a", b"1")
        await broker.nodes["n1"].kill()
        broker.tasks.succeed("b", b"2")
        await broker.lead("n2")
        await until(lambda: len(broker.waits) == 2)
        await broker.lead("n3")
        broker.tasks.fail("c", "ValueError")

        assert sorted(info.id for info in await waiting) == ["a", "b", "c"]

    play(story)


def test_a_frozen_leader_is_left_for_the_one_that_leads(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        await client.tasks.submit(new("a"))
        broker.nodes["n1"].thawed.clear()
        waiting = asyncio.create_task(client.tasks.ended("a", timeout=10))
        await asyncio.sleep(0)
        broker.leader_id, broker.term = "n2", 2
        broker.tasks.succeed("a", b"1")

        assert (await waiting).state == "succeeded"

    play(story)


def test_one_unknown_task_among_many_fails_alone(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        await client.tasks.submit_many(new(f"{n}") for n in range(20))
        waiting = [asyncio.create_task(client.tasks.ended(f"{n}")) for n in range(21)]
        [*known, unknown] = waiting

        with pytest.raises(errors.TaskNotFound):
            await unknown
        assert not any(one.done() for one in known)
        for n in range(20):
            broker.tasks.succeed(f"{n}", b"")

        assert {info.state for info in await asyncio.gather(*known)} == {"succeeded"}

    play(story)


def test_who_waits_no_more_leaves_nothing_behind(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        await client.tasks.submit_many([new("a"), new("b")])
        waiter = client._connection.waiter
        patient = asyncio.create_task(client.tasks.ended("b"))

        with pytest.raises(errors.ResultTimeout) as caught:
            await client.tasks.ended("a", timeout=0.05)
        with pytest.raises(TimeoutError):
            await collect(client.tasks.wait(["a", "b"], timeout=0.05))

        await until(lambda: set(waiter._futures) == {"tasks/b"})
        assert caught.value.reason == "RESULT_TIMEOUT"
        patient.cancel()
        await until(lambda: not waiter._futures and not waiter._streams)

    play(story)


def test_a_client_that_is_closed_tells_those_who_wait(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        async with Client(broker.addresses, timeout=5) as other:
            await other.create_queue("t", kind="task")
            await other.tasks.submit(new("a"))
            waiting = asyncio.create_task(other.tasks.ended("a"))
            await until(lambda: len(broker.waits) == 1)

        with pytest.raises(errors.ClientClosed):
            await waiting
        with pytest.raises(errors.ClientClosed):
            await other.tasks.submit(new("b"))

    play(story)


def test_changes_are_watched_across_leaders(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        await client.tasks.submit_many([new("a"), new("b")])
        seen: list[TaskInfo] = []

        async def watch() -> None:
            async for info in client.tasks.watch(queue="t", include_current=True):
                seen.append(info)  # noqa: PERF401  one by one, as they come

        watching = asyncio.create_task(watch())
        await until(lambda: len(seen) == 2)
        broker.tasks.succeed("a", b"1")
        await until(lambda: len(seen) == 3)
        await broker.lead("n3")
        broker.tasks.succeed("b", b"2")
        await until(lambda: ("b", "succeeded") in [(info.id, info.state) for info in seen])
        watching.cancel()

        assert [(info.id, info.state) for info in seen[:3]] == [
            ("a", "queued"),
            ("b", "queued"),
            ("a", "succeeded"),
        ]

    play(story)


def test_who_watches_from_now_on_misses_nothing_while_the_leader_changes(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        await client.tasks.submit(new("a"))
        watching = client.tasks.watch(queue="t")
        first = asyncio.create_task(anext(watching))
        await until(lambda: broker.watches == 1)

        await broker.lead("n2")
        broker.tasks.succeed("a", b"1")

        info = await first
        assert (info.id, info.state) == ("a", "succeeded")
        await watching.aclose()

    play(story)


def test_tasks_are_cancelled_and_retried_by_id_queue_and_workflow(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        await client.tasks.submit_many(new(f"{n}") for n in range(1_500))
        await client.tasks.submit_many([new("w1"), new("w2")], workflow="w", workflow_labels={"k": "v"})

        assert await client.tasks.cancel(*(f"{n}" for n in range(1_500)), reason="enough") == 1_500
        assert await client.tasks.cancel("tasks/0") == 0
        assert await client.tasks.cancel(workflow="w") == 2
        assert await client.tasks.retry("0", "1") == 2
        broker.tasks.cancel_max = 1
        assert await client.tasks.cancel(queue="t") == 2
        assert await client.workflows.retry("workflows/w") == 2
        with pytest.raises(TypeError, match="one of task ids, workflow and queue"):
            await client.tasks.cancel("a", queue="t")
        with pytest.raises(errors.TaskNotFound):
            await client.tasks.cancel("nobody")

    play(story)


def test_a_workflow_is_looked_at_and_waited_for(play: Play) -> None:
    async def story(broker: Broker, client: Client) -> None:
        await client.create_queue("t", kind="task")
        await client.tasks.submit_many([new("a"), new("b", after=["a"])], workflow="w")
        waiting = asyncio.create_task(client.workflows.wait("w", timeout=10))

        info = await client.workflows.get("w")
        assert (info.id, info.state, info.ended) == ("w", "running", False)
        assert (info.counts.queued, info.counts.blocked, info.counts.open, info.counts.total) == (1, 1, 2, 2)
        assert [one.id for one in await collect(client.workflows.list())] == ["w"]
        with pytest.raises(errors.ResultTimeout):
            await client.workflows.wait("w", timeout=0.02)
        broker.tasks.succeed("a", b"1")
        await broker.lead("n2")
        broker.tasks.succeed("b", b"2")

        assert (await waiting).state == "succeeded"
        assert (await waiting).counts.ended == 2
        with pytest.raises(errors.WorkflowNotFound):
            await client.workflows.wait("nobody")

    play(story)
