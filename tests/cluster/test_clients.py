"""What any client can do, and what none can break: plain stubs, bad input, garbage on the ports."""

import os
import pickle
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from taskraft.v1 import queue_pb2
from tests.cluster.calls import PATIENCE_S, Plain, Refusal, bodies, refusal, refusal_of
from tests.cluster.cluster import Cluster, Node
from tests.cluster.processes import wait_for

pytestmark = pytest.mark.cluster

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("clients")) as cluster:
        yield cluster


@pytest.fixture
def follower(cluster: Cluster) -> Iterator[Plain]:
    """The queue service of a node that does not lead; the cluster must be as healthy after the test."""
    before = [node.process.pid for node in cluster.nodes if node.process is not None]
    with Plain(cluster.followers()[0].grpc) as plain:
        yield plain
    cluster.wait_healthy()
    assert [node.process.pid for node in cluster.nodes if node.process is not None] == before


def consume(plain: Plain, *requests: queue_pb2.ConsumeRequest) -> Iterator[queue_pb2.ConsumeResponse]:
    """The answers to a Consume stream that stays open until its iterator is closed."""
    asked = iter(requests)
    call = plain.queues.Consume(asked, timeout=PATIENCE_S)
    try:
        yield from call
    finally:
        call.cancel()


def start_of(queue: str) -> queue_pb2.ConsumeRequest:
    return queue_pb2.ConsumeRequest(start=queue_pb2.ConsumeStart(queue=queue, consumer_id="plain"))


def credit(messages: int) -> queue_pb2.ConsumeRequest:
    return queue_pb2.ConsumeRequest(credit=queue_pb2.Credit(messages=messages))


def test_a_plain_client_at_a_follower_creates_publishes_pulls_and_acknowledges(follower: Plain) -> None:
    created = follower.create("plain")
    assert created.name == "queues/plain"

    assert follower.publish("plain", b"one", b"two") == 1
    pulled = follower.pull("plain", 10)
    assert bodies(pulled) == {1: b"one", 2: b"two"}
    follower.acknowledge("plain", pulled.lease_id, 1, 2)

    assert follower.get("plain").stats.messages == 0


def test_a_plain_client_at_a_follower_consumes_and_acknowledges_over_a_stream(follower: Plain) -> None:
    follower.create("streamed")
    follower.publish("streamed", *(b"%d" % number for number in range(100)))
    ack = queue_pb2.ConsumeAck(ranges=[queue_pb2.SequenceRange(first=1, last=100)])
    received: list[bytes] = []
    acknowledged = 0

    def requests() -> Iterator[queue_pb2.ConsumeRequest]:
        yield start_of("queues/streamed")
        yield credit(100)
        wait_for(lambda: len(received) == 100, "a hundred messages")
        yield queue_pb2.ConsumeRequest(ack=ack)
        wait_for(lambda: acknowledged == 100, "their acknowledgement")

    for answer in follower.queues.Consume(requests(), timeout=PATIENCE_S):
        received += [message.body for message in answer.delivery.messages]
        acknowledged += sum(span.last - span.first + 1 for span in answer.acked.ranges)

    assert received == [b"%d" % number for number in range(100)]
    assert follower.get("streamed").stats.messages == 0


def test_bad_requests_get_the_documented_error(follower: Plain) -> None:
    follower.create("strict", max_message_bytes=1000)
    negative = queue_pb2.ListQueuesRequest(page_size=-1)
    far = queue_pb2.PullRequest(queue="queues/strict", max_messages=1, wait=Duration(seconds=3600))
    cases = [
        (lambda: follower.publish("nowhere", b"x"), grpc.StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND"),
        (lambda: follower.pull("nowhere", 1), grpc.StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND"),
        (lambda: follower.get("nowhere"), grpc.StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND"),
        (lambda: follower.publish("strict", b"x" * 1001), INVALID, "PAYLOAD_TOO_LARGE"),
        (lambda: follower.publish("strict", b"x" * (1 << 20) + b"x"), INVALID, "PAYLOAD_TOO_LARGE"),
        (lambda: follower.publish("strict"), INVALID, "INVALID_FIELD"),
        (lambda: follower.publish("", b"x"), INVALID, "INVALID_FIELD"),
        (lambda: follower.create(""), INVALID, "INVALID_FIELD"),
        (lambda: follower.create("no spaces"), INVALID, "INVALID_FIELD"),
        (lambda: follower.create("x" * 129), INVALID, "INVALID_FIELD"),
        (
            lambda: follower.create("strict", max_message_bytes=5),
            grpc.StatusCode.ALREADY_EXISTS,
            "QUEUE_EXISTS",
        ),
        (lambda: follower.pull("strict", 0), INVALID, "INVALID_FIELD"),
        (lambda: follower.queues.Pull(far, timeout=PATIENCE_S), INVALID, "INVALID_FIELD"),
        (lambda: follower.queues.ListQueues(negative, timeout=PATIENCE_S), INVALID, "INVALID_FIELD"),
        (lambda: follower.acknowledge("strict", "never", 1, 1), grpc.StatusCode.ABORTED, "LEASE_LOST"),
        (lambda: follower.acknowledge("strict", "never", 2, 1), INVALID, "INVALID_FIELD"),
    ]

    answers = [refusal(call) for call, _, _ in cases]

    got = [(answer.code, answer.reason) if answer is not None else None for answer in answers]
    assert got == [(code, reason) for _, code, reason in cases]
    for answer in answers:
        assert answer is not None
        assert answer.reason != "INVALID_FIELD" or answer.metadata.get("field"), answer


def test_an_acknowledgement_of_a_lease_that_was_given_back_is_refused(follower: Plain) -> None:
    follower.create("stale")
    follower.publish("stale", b"x")
    pulled = follower.pull("stale", 1)
    back = queue_pb2.ModifyAckDeadlineRequest(
        queue="queues/stale", lease_id=pulled.lease_id, ranges=[queue_pb2.SequenceRange(first=1, last=1)]
    )
    back.ack_deadline.seconds = 0
    follower.queues.ModifyAckDeadline(back, timeout=PATIENCE_S)

    answer = refusal(lambda: follower.acknowledge("stale", pulled.lease_id, 1, 1))

    assert answer is not None
    assert (answer.code, answer.reason) == (grpc.StatusCode.ABORTED, "LEASE_LOST")
    assert bodies(follower.pull("stale", 1)) == {1: b"x"}


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([start_of("queues/credit"), credit(-1)], (INVALID, "INVALID_CREDIT")),
        ([start_of("queues/nowhere")], (grpc.StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND")),
        ([start_of("")], (INVALID, "INVALID_FIELD")),
        ([credit(1)], (INVALID, "INVALID_FIELD")),
        ([start_of("queues/credit"), start_of("queues/credit")], (INVALID, "INVALID_FIELD")),
        ([start_of("queues/credit"), queue_pb2.ConsumeRequest()], (INVALID, "INVALID_FIELD")),
    ],
    ids=["negative credit", "unknown queue", "empty name", "no start", "second start", "nothing"],
)
def test_a_bad_stream_request_ends_that_stream_with_the_documented_error(
    follower: Plain, requests: list[queue_pb2.ConsumeRequest], expected: tuple[grpc.StatusCode, str]
) -> None:
    follower.create("credit")

    def answer() -> Refusal:
        try:
            for _ in consume(follower, *requests):
                pass
        except grpc.RpcError as error:
            return refusal_of(error)
        raise AssertionError("the stream ended without an error")

    refused = answer()
    assert (refused.code, refused.reason) == expected


def throw(address: str, data: bytes) -> None:
    """Sends bytes to a port and waits until the node ends the connection or has nothing to say for a while."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        try:
            connection.sendall(data)
            connection.settimeout(0.3)
            while connection.recv(1 << 16):
                pass
        except (TimeoutError, ConnectionError):
            pass


class Hostile:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._path),)


def garbage(seed: int) -> list[bytes]:
    """Things that are no gRPC and no peer message."""
    dice = random.Random(seed)
    noise = [dice.randbytes(size) for size in (1, 7, 64, 4096, 200_000)]
    lengths = [struct.pack(order, size) for order in ("<I", ">I") for size in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF)]
    framed = [struct.pack(order, len(each)) + each for order in ("<I", ">I") for each in noise[:3]]
    return [
        *noise,
        *lengths,
        *framed,
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + noise[2],
    ]


@pytest.mark.parametrize("port", ["grpc", "raft", "http"])
def test_garbage_on_a_port_ends_that_connection_and_nothing_else(
    cluster: Cluster, follower: Plain, port: str
) -> None:
    leader = cluster.leader()
    term = cluster.term()

    for node in (leader, cluster.others(leader)[0]):
        for data in garbage(seed=1):
            throw(getattr(node, port), data)

    follower.create(f"after-{port}")
    assert follower.publish(f"after-{port}", b"x") == 1
    assert (cluster.leader(), cluster.term()) == (leader, term)


def test_a_hostile_pickle_on_the_peer_port_is_never_loaded(
    cluster: Cluster, follower: Plain, tmp_path: Path
) -> None:
    hacked = tmp_path / "hacked"
    poison = pickle.dumps(Hostile(hacked))
    node: Node = cluster.leader()
    pickle.loads(poison)
    assert hacked.is_dir(), "the pickle must be able to do harm"
    hacked.rmdir()

    for data in (poison, struct.pack("<I", len(poison)) + poison, struct.pack(">I", len(poison)) + poison):
        throw(node.raft, data)

    assert not hacked.exists()
    follower.create("after-pickle")
    assert follower.publish("after-pickle", b"x") == 1
