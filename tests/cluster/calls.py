"""Calls with nothing but grpcio and the generated stubs, as a client without the SDK makes them."""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2, status_pb2

from taskraft.v1 import queue_pb2, queue_pb2_grpc

PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call failed: the status and what google.rpc.ErrorInfo says."""

    code: grpc.StatusCode
    reason: str
    metadata: dict[str, str]


def refusal(call: Callable[[], Any]) -> Refusal | None:
    """How a call is refused; None if it succeeds."""
    try:
        call()
    except grpc.RpcError as error:
        return refusal_of(error)
    return None


def refusal_of(error: grpc.RpcError) -> Refusal:
    """What a failed call was told."""
    assert isinstance(error, grpc.Call)
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            assert info.domain == "taskraft"
    return Refusal(error.code(), info.reason, dict(info.metadata))


class Plain:
    """The queue service of one node."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self.queues = queue_pb2_grpc.QueueServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def create(self, queue: str, **settings: Any) -> queue_pb2.Queue:
        """Creates a queue."""
        request = queue_pb2.CreateQueueRequest(queue_id=queue, queue=queue_pb2.Queue(**settings))
        return self.queues.CreateQueue(request, timeout=PATIENCE_S).queue

    def get(self, queue: str) -> queue_pb2.Queue:
        """A queue with its statistics."""
        request = queue_pb2.GetQueueRequest(name=f"queues/{queue}")
        return self.queues.GetQueue(request, timeout=PATIENCE_S).queue

    def publish(self, queue: str, *bodies: bytes) -> int:
        """Stores messages; the sequence of the first."""
        messages = [queue_pb2.Message(body=body) for body in bodies]
        request = queue_pb2.PublishRequest(queue=f"queues/{queue}", messages=messages)
        return self.queues.Publish(request, timeout=PATIENCE_S).first_sequence

    def pull(self, queue: str, messages: int, wait_s: int = 5) -> queue_pb2.PullResponse:
        """Leases messages, waiting for the first one."""
        request = queue_pb2.PullRequest(queue=f"queues/{queue}", max_messages=messages)
        request.wait.seconds = wait_s
        return self.queues.Pull(request, timeout=PATIENCE_S)

    def acknowledge(self, queue: str, lease_id: str, first: int, last: int) -> None:
        """Removes leased messages."""
        ranges = [queue_pb2.SequenceRange(first=first, last=last)]
        request = queue_pb2.AcknowledgeRequest(queue=f"queues/{queue}", lease_id=lease_id, ranges=ranges)
        self.queues.Acknowledge(request, timeout=PATIENCE_S)


def bodies(pulled: queue_pb2.PullResponse) -> dict[int, bytes]:
    """Sequence to body of all that was delivered."""
    return {
        sequence: message.body
        for delivery in pulled.deliveries
        for sequence, message in enumerate(delivery.messages, start=delivery.first_sequence)
    }
