"""The gRPC port of a node: our services as bytes, health and reflection as everybody knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from node.api.cluster import Cluster
from node.api.forward import MESSAGE_BYTES_MAX, Forwarder
from node.api.groups import Groups
from node.api.locks import Locks
from node.api.peeking import Peeking
from node.api.publishing import Publishing
from node.api.queues import Queues
from node.api.redriving import Redriving
from node.api.router import Duplex, Method, Router, ServerStream, Unary
from node.api.schedules import Schedules
from node.api.streams import Streams
from node.api.task_streams import TaskStreams
from node.api.tasks import Tasks
from node.api.transactions import Transactions
from node.api.work import Work
from node.api.workers import Workers
from node.leadership import Leadership
from node.web.metrics import Metrics
from taskraft.v1 import cluster_pb2, lock_pb2, queue_pb2, schedule_pb2, task_pb2, worker_pb2

SERVICES: Final = (
    queue_pb2.DESCRIPTOR.services_by_name["QueueService"],
    task_pb2.DESCRIPTOR.services_by_name["TaskService"],
    worker_pb2.DESCRIPTOR.services_by_name["WorkerService"],
    schedule_pb2.DESCRIPTOR.services_by_name["ScheduleService"],
    lock_pb2.DESCRIPTOR.services_by_name["LockService"],
    cluster_pb2.DESCRIPTOR.services_by_name["ClusterService"],
)
EVERYWHERE: Final = frozenset(
    f"/{cluster_pb2.DESCRIPTOR.services_by_name['ClusterService'].full_name}/{name}"
    for name in ("GetCluster", "WatchCluster")
)
"""Paths of the methods that every node answers itself; all others are the leader's."""

READY: Final = "taskraft.v1.Ready"  # this node can serve: it leads or knows who does
LEADER: Final = "taskraft.v1.Leader"  # this node leads
WRITABLE: Final = "taskraft.v1.Writable"  # this node has disk space

OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # a second node on the same port must fail, not share it
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    (
        "grpc.keepalive_time_ms",
        10_000,
    ),  # a consumer whose machine vanished keeps its leases so long, and no longer
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
)


Service = (
    Queues
    | Transactions
    | Publishing
    | Peeking
    | Redriving
    | Groups
    | Streams
    | Cluster
    | Tasks
    | TaskStreams
    | Schedules
    | Locks
    | Workers
    | Work
)
"""What answers calls: each has methods of one service, by the names of the .proto files."""


def methods(*answering: Service) -> dict[str, Method]:
    """All our methods by path."""
    found: dict[str, Method] = {}
    for service in SERVICES:
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            (answer,) = [getattr(each, method.name) for each in answering if hasattr(each, method.name)]
            forwarded = path not in EVERYWHERE
            if method.client_streaming:
                found[path] = Duplex(answer)
            elif method.server_streaming:
                found[path] = ServerStream(answer, forwarded=forwarded)
            else:
                found[path] = Unary(answer, forwarded=forwarded)
    return found


class GrpcServer:
    """Serves one node. `port` is set by `start`."""

    def __init__(
        self,
        listen: str,
        routes: Mapping[str, Method],
        *,
        leadership: Leadership,
        forwarder: Forwarder,
        metrics: Metrics,
    ) -> None:
        self.port = 0
        self._listen = listen
        self._health = health.aio.HealthServicer()
        self.router = Router(routes, leadership=leadership, forwarder=forwarder, metrics=metrics)
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers((self.router,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        ours = (service.full_name for service in SERVICES)
        names = (*ours, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> None:
        """Listen. OSError if the address is taken or not ours."""
        try:
            self.port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise OSError(f"gRPC cannot listen on {self._listen}: {error}") from None
        await self._server.start()

    async def say(self, service: str, serving: bool) -> None:
        """Tell health checks about one of READY, LEADER and WRITABLE, or the process itself (empty)."""
        status = health_pb2.HealthCheckResponse
        await self._health.set(service, status.SERVING if serving else status.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Let calls finish, at most `grace_s`."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
