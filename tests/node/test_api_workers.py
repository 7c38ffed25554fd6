from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from taskraft.v1 import queue_pb2, task_pb2, worker_pb2
from tests.node.single_node import Running, refusal, run, running, until
from tests.node.task_clients import Worker, a_task, listed, submit, task_queue

Code = grpc.StatusCode


async def explained(node: Running, name: str) -> task_pb2.ExplainTaskResponse:
    request = task_pb2.ExplainTaskRequest(name=f"tasks/{name}")
    response: task_pb2.ExplainTaskResponse = await node.tasks.ExplainTask(request)
    return response


def test_workers_are_listed_by_id_page_by_page(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a", resources={"cpu": 2}))
            workers = [Worker(node, worker_id) for worker_id in ("w2", "w3", "w1")]
            for worker in workers:
                await worker.start(credit=int(worker is workers[0]))
            await workers[0].take()

            first = await node.workers.ListWorkers(worker_pb2.ListWorkersRequest(page_size=2))
            rest = await node.workers.ListWorkers(
                worker_pb2.ListWorkersRequest(page_token=first.next_page_token)
            )

            assert [each.worker_id for each in (*first.workers, *rest.workers)] == ["w1", "w2", "w3"]
            assert rest.next_page_token == ""
            busy = first.workers[1]
            assert (busy.leases, dict(busy.used), list(busy.queues)) == (1, {"cpu": 2.0}, ["queues/q"])
            assert (busy.connected, busy.draining) == (True, False)

    run(story())


def test_a_worker_is_asked_to_drain(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            worker = Worker(node, "a/worker@host:1")
            await worker.start(credit=5)

            await node.workers.DrainWorker(worker_pb2.DrainWorkerRequest(worker_id="a/worker@host:1"))

            await worker.read("drain")
            assert (await node.workers.ListWorkers(worker_pb2.ListWorkersRequest())).workers[0].draining
            await submit(node, a_task("a"))
            assert [obstacle.reason for obstacle in (await explained(node, "a")).obstacles]
            none = node.workers.DrainWorker(worker_pb2.DrainWorkerRequest(worker_id="none"))
            assert await refusal(none) == (Code.NOT_FOUND, "WORKER_NOT_FOUND", {"worker_id": "none"})
            bad = node.workers.DrainWorker(worker_pb2.DrainWorkerRequest(worker_id="a b"))
            assert (await refusal(bad))[2]["field"] == "worker_id"
            page = node.workers.ListWorkers(worker_pb2.ListWorkersRequest(page_size=-1))
            assert (await refusal(page))[2]["field"] == "page_size"

    run(story())


def test_a_task_is_explained_together_with_itself(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            await task_queue(node)
            await submit(node, a_task("a", payload=b"x"))

            answer = await explained(node, "a")

            assert (answer.task.name, answer.task.payload) == ("tasks/a", b"")
            assert answer.obstacles[0].reason == "NO_WORKER"

    run(story())


def test_what_cannot_be_in_time_is_refused_where_the_queue_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:
            policy = queue_pb2.SCHEDULING_POLICY_EARLIEST_DEADLINE
            await task_queue(node, policy=policy, refuse_infeasible=True)
            await task_queue(node, "lenient", policy=policy)
            worker = Worker(node, queues=["q", "lenient"])
            await worker.start()
            await until(lambda: len(node.node.tasking.scheduler.pool) == 1, "the worker is known")
            soon = Timestamp()
            soon.FromMilliseconds(node.machine.time_ms + 60_000)
            hour = Duration(seconds=3600)

            refused = await refusal(
                submit(node, a_task("a"), a_task("b", size=hour, deadline=soon), request_id="r")
            )
            first = await submit(node, a_task(size=Duration(seconds=1), deadline=soon), request_id="s")
            await submit(node, a_task("d", queue="lenient", size=hour, deadline=soon))

            assert refused[:2] == (Code.FAILED_PRECONDITION, "DEADLINE_INFEASIBLE")
            assert await listed(node) == ["d", first[0][0].removeprefix("tasks/")]
            await submit(node, *(a_task(f"e{place}", priority=9) for place in range(3)))
            again = submit(node, a_task(size=hour, deadline=soon), request_id="s")
            assert await again == first

    run(story())
