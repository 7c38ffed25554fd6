"""A broker in memory that gives out tasks: real gRPC servers that keep the promises of worker.proto.

All nodes share one table of tasks, which plays the replicated log. Leases live as long as the stream; after a break the
worker has `GRACE_S` to come back and name them. A frozen node takes connections and answers nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc

from taskraft.v1 import (
    cluster_pb2,
    cluster_pb2_grpc,
    queue_pb2,
    queue_pb2_grpc,
    task_pb2,
    task_pb2_grpc,
    worker_pb2,
    worker_pb2_grpc,
)
from tests.client.broker import status_of
from tests.client.store import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

GRACE_S = 0.5
HEARTBEAT_MS = 100
ENDED = {task_pb2.TASK_STATE_SUCCEEDED, task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_DEAD_LETTERED}


class Row:
    """A task, what happened to it and what was said of it."""

    def __init__(self, task: task_pb2.Task) -> None:
        self.task = task
        self.attempt = 0
        self.lease_id = 0  # 0: not leased
        self.holder = ""
        self.assignment = worker_pb2.Assignment()
        self.checkpoint = b""
        self.progress: list[worker_pb2.LeaseProgress] = []
        self.outcomes: list[worker_pb2.Outcome] = []  # that were committed
        self.refused: list[worker_pb2.Outcome] = []
        self.events: list[str] = []
        self.parents: list[worker_pb2.ParentResult] = []
        self.ended = asyncio.Event()

    @property
    def error(self) -> task_pb2.TaskError:
        return self.outcomes[-1].failure.error


class WorkBroker:
    """A cluster of nodes and its tasks. `answers` closed: outcomes are committed and not answered."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.ready: deque[Row] = deque()
        self.leases: dict[int, Row] = {}
        self.nodes: dict[str, WorkNode] = {}
        self.sessions: list[WorkSession] = []
        self.leader_id = ""
        self.term = 1
        self.answers = asyncio.Event()
        self.answers.set()
        self.changed = asyncio.Event()
        self.queues = {"queues/q"}
        self.heartbeat_ms = HEARTBEAT_MS
        self.asked_for: list[str] = []  # names that GetTask was called with
        self._leases_given = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(node.address for node in self.nodes.values())

    @property
    def session(self) -> WorkSession:
        """The newest stream."""
        return self.sessions[-1]

    async def start(self, *node_ids: str) -> None:
        for node_id in node_ids:
            self.nodes[node_id] = WorkNode(self, node_id)  # type: ignore[abstract]  # only what workers call
            await self.nodes[node_id].start()
        self.leader_id = node_ids[0]

    async def close(self) -> None:
        self.answers.set()
        for node in self.nodes.values():
            node.thawed.set()
            await node.kill()

    async def lead(self, node_id: str) -> None:
        """Another leader; the streams of the old one end if it still answers."""
        old, self.leader_id, self.term = self.leader_id, node_id, self.term + 1
        self.nodes[old].deposed.set()
        self.nodes[old].deposed = asyncio.Event()

    def submit(
        self, kind: str, payload: bytes = b"", content_type: str = "application/json", **fields: Any
    ) -> Row:
        task = task_pb2.Task(
            name=f"tasks/t{len(self.rows)}",
            queue="queues/q",
            type=kind,
            payload=payload,
            content_type=content_type,
        )
        task.max_attempts = fields.pop("max_attempts", 1)
        row = Row(task)
        for name, value in fields.items():
            setattr(row, name, value)
        self.rows.append(row)
        self.ready.append(row)
        self.wake()
        return row

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def lease(self, holder: str, most: int) -> list[worker_pb2.Assignment]:
        given: list[worker_pb2.Assignment] = []
        while self.ready and len(given) < most:
            row = self.ready.popleft()
            self._leases_given += 1
            row.attempt += 1
            row.lease_id, row.holder = self._leases_given, holder
            row.events.append("leased")
            row.assignment = worker_pb2.Assignment(
                task=row.task,
                lease_id=row.lease_id,
                attempt=row.attempt,
                checkpoint=row.checkpoint,
                parents=row.parents,
            )
            row.assignment.lease.FromMilliseconds(30_000)
            self.leases[row.lease_id] = row
            given.append(row.assignment)
        return given

    def lose(self, row: Row, why: str = "lost") -> None:
        """The lease is over; the task waits again."""
        del self.leases[row.lease_id]
        row.lease_id, row.holder = 0, ""
        row.events.append(why)
        self.ready.append(row)
        self.wake()

    def settle(self, outcome: worker_pb2.Outcome, holder: str) -> bool:
        """Commit what a lease came to; False if it is not this holder's."""
        row = self.leases.get(outcome.lease_id)
        if row is None or row.holder != holder:
            for one in self.rows:
                if one.assignment.lease_id == outcome.lease_id:
                    one.refused.append(outcome)
            return False
        row.outcomes.append(outcome)
        kind = outcome.WhichOneof("kind")
        if kind == "yield":
            stop: worker_pb2.TaskYield = getattr(outcome, "yield")
            row.checkpoint = stop.checkpoint or row.checkpoint
            row.attempt -= 1
            self.lose(row, worker_pb2.RevokeReason.Name(stop.reason).removeprefix("REVOKE_REASON_").lower())
        elif kind == "failure" and not outcome.failure.permanent and row.attempt < row.task.max_attempts:
            self.lose(row, "failed")
        else:
            del self.leases[row.lease_id]
            row.lease_id = 0
            row.events.append("succeeded" if kind == "result" else "ended")
            row.ended.set()
        return True

    def gone(self, holder: str) -> None:
        """The stream of this worker broke: what it does not claim in time is lost."""

        def expire() -> None:
            if any(session.holder == holder and session.open for session in self.sessions):
                return
            for row in [row for row in self.leases.values() if row.holder == holder]:
                self.lose(row)

        asyncio.get_running_loop().call_later(GRACE_S, expire)


class WorkSession:
    """One Work stream."""

    def __init__(self, broker: WorkBroker, node: WorkNode, hello: worker_pb2.Hello, context: Any) -> None:
        self.hello = hello
        self.holder = f"{hello.worker_id} {hello.instance_id}"
        self.open = True
        self.credit = 0
        self.draining = False
        self.heartbeats: list[worker_pb2.Heartbeat] = []
        self.frames: list[worker_pb2.WorkRequest] = []
        self.received: set[int] = set()
        self.largest = 0  # of what it held at once
        self.cut = asyncio.Event()
        self._broker = broker
        self._node = node
        self._context = context
        self._writing = asyncio.Lock()
        self._granted = asyncio.Event()

    async def run(self, requests: AsyncIterator[worker_pb2.WorkRequest]) -> None:
        broker = self._broker
        held = [
            lease_id
            for lease_id in self.hello.held_lease_ids
            if (row := broker.leases.get(lease_id)) is not None and row.holder == self.holder
        ]
        for row in [
            row for row in broker.leases.values() if row.holder == self.holder and row.lease_id not in held
        ]:
            broker.lose(row, "not_named")
        welcome = worker_pb2.Welcome(
            session_id=f"s{len(broker.sessions)}", held_lease_ids=held, term=broker.term
        )
        welcome.heartbeat_interval.FromMilliseconds(broker.heartbeat_ms)
        await self.write(worker_pb2.WorkResponse(welcome=welcome))
        parts = [self._listen(requests), self._assign(), self._node.deposed.wait(), self.cut.wait()]
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[2].done():
                await self._context.abort(*status_of(self._node.not_leader().failure))
            if tasks[3].done():
                await self._context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            for task in tasks[:2]:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            self.open = False
            broker.gone(self.holder)

    async def write(self, response: worker_pb2.WorkResponse) -> None:
        async with self._writing:
            await self._node.thawed.wait()
            await self._context.write(response)

    async def revoke(self, row: Row, reason: worker_pb2.RevokeReason) -> None:
        """Ask for a lease back."""
        revoke = worker_pb2.Revoke(lease_ids=[row.assignment.lease_id], reason=reason)
        await self.write(worker_pb2.WorkResponse(revoke=revoke))

    async def _assign(self) -> None:
        broker = self._broker
        while True:
            changed = broker.changed
            most = 0 if self.draining else self.credit
            if given := broker.lease(self.holder, most):
                self.credit -= len(given)
                self.largest = max(
                    self.largest, sum(row.holder == self.holder for row in broker.leases.values())
                )
                await self.write(worker_pb2.WorkResponse(assign=worker_pb2.Assign(assignments=given)))
                continue
            self._granted.clear()
            waits = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._granted.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def _listen(self, requests: AsyncIterator[worker_pb2.WorkRequest]) -> None:
        async for request in requests:
            await self._node.thawed.wait()
            self.frames.append(request)
            match request.WhichOneof("request"):
                case "credit":
                    self.credit += request.credit.tasks
                    self._granted.set()
                case "received":
                    self.received.update(request.received.lease_ids)
                case "progress":
                    self._progress(request.progress.tasks)
                case "outcomes":
                    await self._outcomes(request.outcomes.outcomes)
                case "drain":
                    self.draining = True
                case "heartbeat":
                    self.heartbeats.append(request.heartbeat)
                    ack = worker_pb2.HeartbeatAck(sequence=request.heartbeat.sequence)
                    await self.write(worker_pb2.WorkResponse(heartbeat_ack=ack))

    def _progress(self, reports: Sequence[worker_pb2.LeaseProgress]) -> None:
        for one in reports:
            if row := self._broker.leases.get(one.lease_id):
                row.progress.append(one)
                row.checkpoint = one.checkpoint or row.checkpoint

    async def _outcomes(self, outcomes: Sequence[worker_pb2.Outcome]) -> None:
        acked = [one.lease_id for one in outcomes if self._broker.settle(one, self.holder)]
        rejected = [one.lease_id for one in outcomes if one.lease_id not in set(acked)]
        await self._broker.answers.wait()
        if acked:
            await self.write(worker_pb2.WorkResponse(acked=worker_pb2.Acked(lease_ids=acked)))
        if rejected:
            refusal = worker_pb2.Rejected(lease_ids=rejected, reason="LEASE_LOST")
            await self.write(worker_pb2.WorkResponse(rejected=refusal))


class WorkNode(
    worker_pb2_grpc.WorkerServiceServicer,
    task_pb2_grpc.TaskServiceServicer,
    queue_pb2_grpc.QueueServiceServicer,
    cluster_pb2_grpc.ClusterServiceServicer,
):
    """One node; only the leader works."""

    def __init__(self, broker: WorkBroker, node_id: str) -> None:
        self.broker = broker
        self.node_id = node_id
        self.address = "127.0.0.1:0"
        self.deposed = asyncio.Event()
        self.thawed = asyncio.Event()
        self.thawed.set()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 5000)]
        )
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(self, self._server)
        task_pb2_grpc.add_TaskServiceServicer_to_server(self, self._server)
        queue_pb2_grpc.add_QueueServiceServicer_to_server(self, self._server)
        cluster_pb2_grpc.add_ClusterServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(self.address)}"
        await self._server.start()

    async def kill(self) -> None:
        """Drop all connections and listen no more; `start` brings the node back."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(None)

    def not_leader(self) -> Refused:
        leader = self.broker.nodes[self.broker.leader_id]
        return Refused(
            grpc.StatusCode.UNAVAILABLE,
            "NOT_LEADER",
            leader_id=leader.node_id,
            leader_endpoint=leader.address,
            term=str(self.broker.term),
        )

    async def _enter(self, context: Any) -> None:
        await self.thawed.wait()
        if self.broker.leader_id != self.node_id:
            await context.abort(*status_of(self.not_leader().failure))

    async def Work(self, requests: AsyncIterator[Any], context: Any) -> None:  # type: ignore[override]
        await self._enter(context)
        hello = (await anext(requests)).hello
        if not self.broker.queues.issuperset(hello.queues):
            await context.abort(*status_of(Refused(grpc.StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND").failure))
        session = WorkSession(self.broker, self, hello, context)
        self.broker.sessions.append(session)
        await session.run(requests)

    async def CreateQueue(self, request: Any, context: Any) -> Any:
        await self._enter(context)
        self.broker.queues.add(f"queues/{request.queue_id}")
        return queue_pb2.CreateQueueResponse(queue=queue_pb2.Queue(name=f"queues/{request.queue_id}"))

    async def GetQueue(self, request: Any, context: Any) -> Any:
        return queue_pb2.GetQueueResponse(queue=queue_pb2.Queue(name=request.name))

    async def GetTask(self, request: Any, context: Any) -> Any:
        await self._enter(context)
        self.broker.asked_for.append(request.name)
        row = next((row for row in self.broker.rows if row.task.name == request.name), None)
        if row is None:
            refused = Refused(grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
            await context.abort(*status_of(refused.failure))
            raise AssertionError
        task = task_pb2.Task()
        task.CopyFrom(row.task)
        task.result.CopyFrom(row.outcomes[-1].result)
        return task_pb2.GetTaskResponse(task=task)

    async def GetCluster(self, request: Any, context: Any) -> Any:
        await self.thawed.wait()
        broker = self.broker
        members = [
            cluster_pb2.Member(id=node.node_id, grpc_address=node.address) for node in broker.nodes.values()
        ]
        cluster = cluster_pb2.Cluster(
            node_id=self.node_id, leader_id=broker.leader_id, term=broker.term, members=members
        )
        return cluster_pb2.GetClusterResponse(cluster=cluster)
