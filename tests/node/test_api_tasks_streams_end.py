import asyncio
from pathlib import Path

import grpc

from raft.types import MemberStatus
from taskraft.v1 import task_pb2
from tests.node.single_node import run, running, until
from tests.node.task_clients import CANCELLED, QUEUED, a_task, submit, task_queue
from tests.node.task_streams import Reading, waiting, watchers, watching


def _member(node_id: str, address: str) -> MemberStatus:
    return MemberStatus(
        id=node_id, address="127.0.0.1:1", announce={"grpc": address}, voter=True, connected=True, match=1
    )


def test_streams_end_when_the_leader_changes(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a"))
            watch, wait = await watching(node), waiting(node, "a")
            await until(lambda: watchers(node) == 2, "both have begun")

            node.replica.follow()

            assert await watch.ended() == (grpc.StatusCode.UNAVAILABLE, "NOT_LEADER")
            assert await wait.ended() == (grpc.StatusCode.UNAVAILABLE, "NOT_LEADER")
            assert watchers(node) == 0

    run(story())


def test_streams_end_when_the_node_stops(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            watch = await watching(node)
            stopping = asyncio.ensure_future(node.node.stop(1))

            assert await watch.ended() == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
            await stopping

    run(story())


def test_a_client_that_goes_away_is_forgotten(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a"))
            watch, wait = await watching(node), waiting(node, "a")
            await until(lambda: watchers(node) == 2, "both have begun")

            watch.call.cancel()
            wait.call.cancel()

            await until(lambda: watchers(node) == 0, "both are gone")

    run(story())


def test_a_follower_passes_streams_of_tasks_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            running(tmp_path / "1") as leader,
            running(tmp_path / "2", node_id="n2", leads=False) as follower,
        ):
            follower.replica.others = (_member("n1", leader.address),)
            leader.replica.others = (_member("n2", follower.address),)
            follower.replica.follow("n1")
            await task_queue(leader)
            watch = await watching(follower)
            assert await submit(follower, a_task("a"))
            assert await watch.tasks() == [("a", QUEUED)]
            wait = waiting(follower, "a")
            await until(lambda: watchers(leader) == 2, "the leader serves both")
            direct = Reading(
                follower.tasks.WatchTasks(task_pb2.WatchTasksRequest(), metadata=(("taskraft-direct", "1"),))
            )

            await leader.tasks.CancelTasks(task_pb2.CancelTasksRequest(names=["tasks/a"]))

            assert await wait.tasks() == [("a", CANCELLED)]
            assert await wait.ended() == (grpc.StatusCode.OK, "")
            assert await direct.ended() == (grpc.StatusCode.UNAVAILABLE, "NOT_LEADER")
            assert await waiting(follower, "none").ended() == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
            watch.call.cancel()
            await until(lambda: watchers(leader) == 0, "the leader knows that the client is gone")

    run(story())


def test_a_stream_that_loses_its_leader_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path / "2", node_id="n2", leads=False) as follower:
            async with running(tmp_path / "1") as leader:
                follower.replica.others = (_member("n1", leader.address),)
                follower.replica.follow("n1")
                await task_queue(leader)
                watch = await watching(follower)

            assert await watch.ended() in (
                (grpc.StatusCode.UNAVAILABLE, "NO_LEADER"),
                (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN"),
            )

    run(story())
