"""Leaders and consumers are killed; messages of a key stay in order, priorities too, and dead letters are counted exactly."""

import random
from collections.abc import Iterator

import pytest

from taskraft import OutgoingMessage, SyncClient
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import Say
from tests.cluster.key_client import Clients
from tests.cluster.key_order import problems, unfinished
from tests.cluster.processes import wait_for

pytestmark = pytest.mark.cluster

DRAIN_S = 120.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("ordering")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    """The shared cluster with every node running and healthy, whatever the test before did to it."""
    for node in shared.nodes:
        if not node.running:
            node.start()
    shared.wait_healthy()
    return shared


@pytest.fixture
def client(cluster: Cluster) -> Iterator[SyncClient]:
    with SyncClient(cluster.addresses, timeout=60) as connected:
        yield connected


def kill_leader(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.kill()
    cluster.leader([node for node in cluster.nodes if node is not leader])
    leader.start()
    cluster.wait_healthy()


def drained(client: SyncClient, queue: str) -> None:
    """Wait until a queue is empty."""
    wait_for(lambda: client.get_queue(queue).stats.messages == 0, f"{queue} to be empty", timeout_s=DRAIN_S)


def test_messages_of_a_key_stay_in_order_whoever_dies(cluster: Cluster, client: SyncClient, say: Say) -> None:
    client.create_queue("keyed", max_in_flight_per_key=1)
    clients = Clients(cluster, "keyed")
    try:
        clients.start("produce", "p")
        for name in ("c1", "c2", "c3"):
            clients.start("consume", name)
        for turn in range(3):
            clients.wait_done(300)
            clients.kill(f"c{turn + 1}")
            kill_leader(cluster)
            clients.start("consume", f"c{turn + 4}")
        clients.wait_done(300)
        clients.finish("p")
        drained(client, "keyed")
        events = clients.events()
    finally:
        clients.close()

    published = sum(event.what == "published" for event in events)
    say(f"{published} messages, {sum(event.what == 'begun' for event in events)} begun, of 30 keys")
    assert problems(events) == []
    assert unfinished(events) == set()
    assert published > 900


def test_the_highest_priority_comes_first_also_from_a_new_leader(
    cluster: Cluster, client: SyncClient, say: Say
) -> None:
    client.create_queue("ranked")
    queue, rng = client.queue("ranked"), random.Random(4)
    priorities = [rng.randrange(10) for _ in range(1_000)]
    messages = [OutgoingMessage(b"m", priority=priority) for priority in priorities]
    for at in range(0, len(messages), 50):
        queue.publish_many(messages[at : at + 50])

    first: dict[int, int] = {}
    while len(first) < len(messages):
        pulled = queue.pull(max_messages=25, wait=5)
        for message in pulled:
            first.setdefault(message.sequence, message.priority)
        pulled.ack()
        if len(first) == 500:
            kill_leader(cluster)
    drained(client, "ranked")

    got = list(first)
    say(f"{len(got)} messages of 10 priorities")
    assert [first[sequence] for sequence in got] == sorted(priorities, reverse=True)
    assert got == sorted(got, key=lambda sequence: (-first[sequence], sequence))
    assert {sequence: priorities[sequence - 1] for sequence in got} == first


def test_what_is_given_up_is_a_dead_letter_exactly_once(
    cluster: Cluster, client: SyncClient, say: Say
) -> None:
    client.create_queue("dead")
    client.create_queue("risky", max_attempts=3, dead_letter_queue="dead")
    clients = Clients(cluster, "risky")
    try:
        clients.start("produce", "p", poison=10)
        for name in ("c1", "c2"):
            clients.start("consume", name)
        for turn in range(2):
            clients.wait_done(300)
            kill_leader(cluster)
            clients.start("consume", f"c{turn + 3}")
        clients.finish("p")
        drained(client, "risky")
        events = clients.events()
    finally:
        clients.close()

    letters: list[tuple[int, str, int]] = []
    while pulled := client.queue("dead").pull(max_messages=500, wait=2):
        for message in pulled:
            letter = message.dead_letter
            assert letter is not None
            assert letter.source == "risky"
            letters.append((letter.source_sequence, letter.reason, letter.attempts))
        pulled.ack()
    poison = {
        event.sequence for event in events if event.what == "published" and event.body.startswith("poison")
    }
    say(f"{len(letters)} dead letters of {len(poison)} messages that nobody can do")
    assert sorted(sequence for sequence, _, _ in letters) == sorted(poison)
    assert {(reason, attempts) for _, reason, attempts in letters} == {("max_attempts", 3)}
    assert unfinished(events) == poison
