import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc

from taskraft.v1 import queue_pb2, queue_pb2_grpc
from tests.node.single_node import free_port

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 30


@contextmanager
def node(data_dir: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A node as a process of its own, alone in its cluster."""
    command = [sys.executable, "-m", "node", "--node-id", "n1", "--data-dir", str(data_dir)]
    for name in ("grpc", "http", "raft"):
        command += [f"--{name}-listen", f"127.0.0.1:{free_port()}"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("TASKRAFT_")}
    process = subprocess.Popen(
        [*command, *flags],
        env=own | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout
    fact: dict[str, str] = json.loads(process.stdout.readline())
    return fact


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and the last line of the log."""
    _, log = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, log.strip().splitlines()[-1]


@contextmanager
def stub(address: str) -> Iterator[Any]:
    with grpc.insecure_channel(address) as channel:
        yield queue_pb2_grpc.QueueServiceStub(channel)


def test_a_node_serves_until_it_is_told_to_stop_and_finds_everything_again(tmp_path: Path) -> None:
    with node(tmp_path) as process:
        fact = ready(process)
        with stub(fact["grpc"]) as queues:
            queues.CreateQueue(queue_pb2.CreateQueueRequest(queue_id="q"), timeout=TIMEOUT_S)
            request = queue_pb2.PublishRequest(queue="queues/q", messages=[queue_pb2.Message(body=b"kept")])
            queues.Publish(request, timeout=TIMEOUT_S)
        with urlopen(f"http://{fact['http']}/metrics", timeout=TIMEOUT_S) as page:
            assert b'taskraft_queue_depth{queue="queues/q",state="ready"} 1.0' in page.read()

        process.send_signal(signal.SIGTERM)
        code, last = ended(process)

    assert code == 0
    assert json.loads(last)["action"] == "stopped"
    with node(tmp_path) as process, stub(ready(process)["grpc"]) as queues:
        pulled = queues.Pull(queue_pb2.PullRequest(queue="queues/q", max_messages=1), timeout=TIMEOUT_S)
        assert pulled.deliveries[0].messages[0].body == b"kept"


def test_a_second_node_does_not_touch_a_directory_that_is_in_use(tmp_path: Path) -> None:
    with node(tmp_path) as first:
        ready(first)
        with node(tmp_path) as second:
            code, last = ended(second)

    fact = json.loads(last)
    assert code == 1
    assert fact["action"] == "node_failed"
    assert "used by another process" in fact["why"]


def test_a_wrong_setting_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    with node(tmp_path / "data", "--election-ms", "1") as process:
        code, last = ended(process)

    assert code == 2
    assert "election_ms" in last
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken_ends_the_node_with_one_line_that_says_so(tmp_path: Path) -> None:
    with node(tmp_path / "1") as first:
        taken = ready(first)["grpc"]
        with node(tmp_path / "2", "--grpc-listen", taken) as second:
            code, last = ended(second)

    fact = json.loads(last)
    assert code == 1
    assert taken in fact["why"]
    assert "error" not in fact
