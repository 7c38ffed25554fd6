from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from taskraft import SyncClient, _generate_sync, errors

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVE = """
import asyncio
from tests.client.broker import Broker

async def serve() -> None:
    broker = Broker()
    await broker.start("n1", "n2", "n3")
    print(broker.addresses, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, input)
    await broker.close()

asyncio.run(serve())
"""


@pytest.fixture
def client() -> Iterator[SyncClient]:
    """A blocking client of a broker in another process, with a queue named `q`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with SyncClient(process.stdout.readline().strip(), timeout=10) as client:
            client.create_queue("q")
            yield client
        process.stdin.write("\n")
        process.stdin.close()
        process.wait(10)


def test_the_generated_twin_is_what_its_sources_say() -> None:
    assert (_generate_sync.HERE / "_sync.py").read_text() == _generate_sync.generated()


def test_everything_works_without_an_event_loop(client: SyncClient) -> None:
    queue = client.queue("q")
    queue.publish(b"first", {"k": "v"})
    queue.publish_many([b"%d" % n for n in range(3_000)])

    bodies = []
    with queue.consume() as consumer:
        for message in consumer:
            bodies.append(message.body)
            message.ack()
            if len(bodies) == 2_000:
                break
        for batch in consumer.batches():
            bodies += batch.bodies()
            batch.ack()
            if len(bodies) >= 3_001:
                break
        assert consumer.settle() == ()

    assert sorted(bodies) == sorted([b"first", *(b"%d" % n for n in range(3_000))])
    assert client.get_queue("q").stats.messages == 0
    assert [queue.name for queue in client.list_queues()] == ["q"]
    assert client.cluster().leader_id == "n1"


def test_a_bare_loop_closes_its_consumer(client: SyncClient) -> None:
    queue = client.queue("q")
    queue.publish_many([b"x"] * 3)
    for message in queue.consume():
        message.ack(confirm=True)
        break

    stats = client.get_queue("q").stats

    assert (stats.messages, stats.leased_messages) == (2, 0)


def test_threads_share_a_client_and_a_consumer(client: SyncClient) -> None:
    queue, seen = client.queue("q"), list[bytes]()
    threads = [threading.Thread(target=queue.publish, args=(b"%d" % n,)) for n in range(20)]
    with queue.consume() as consumer:

        def work() -> None:
            for message in consumer:
                message.ack()
                seen.append(message.body)
                if len(seen) == 20:
                    consumer.close()

        threads += [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

    assert sorted(seen) == sorted(b"%d" % n for n in range(20))


def test_errors_are_raised_where_the_caller_waits(client: SyncClient) -> None:
    with pytest.raises(errors.QueueNotFound):
        client.queue("nowhere").publish(b"x")
    with pytest.raises(errors.QueueNotFound), client.queue("nowhere").consume():
        pass


def test_control_c_ends_the_wait_and_leaves_the_client_usable(client: SyncClient) -> None:
    interrupted, main = threading.Event(), threading.main_thread().ident
    assert main is not None

    def insist() -> None:
        """One may be lost: Python drops what is raised while it collects garbage."""
        while not interrupted.wait(0.5):
            signal.pthread_kill(main, signal.SIGINT)

    with client.queue("q").consume() as consumer:
        alarm = threading.Thread(target=insist)
        alarm.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in consumer:
                raise AssertionError("the queue is empty")
        interrupted.set()
        alarm.join()

        client.queue("q").publish(b"x")
        for message in consumer:
            assert message.body == b"x"
            break


def test_a_closed_client_says_so_and_its_thread_is_gone() -> None:
    client = SyncClient("127.0.0.1:1")
    client.close()
    client.close()

    with pytest.raises(errors.ClientClosed):
        client.get_queue("q")
    assert "taskraft" not in [thread.name for thread in threading.enumerate()]
