"""The command line against real nodes, as a person uses it: each command is a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskraft.local import free_port, read_cluster_file
from tests.client.cli_up import MAIN, READY_S, STOP_S, Up, environment

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Three nodes that serve several tests, none of which stops them."""
    running = Up(tmp_path_factory.mktemp("up") / "data", "--port", str(free_port(3)))
    try:
        running.wait_until_it_says("Ctrl-C")
        yield running
    finally:
        running.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts clusters on this test's directory."""
    running: list[Up] = []

    def start(*options: str) -> Up:
        running.append(Up(tmp_path / "data", *options))
        return running[-1]

    yield start
    for one in running:
        one.close()


def alive(pid: int) -> bool:
    """True if the process runs; one that is dead and not buried by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_up_prints_where_every_node_listens(up: Up) -> None:
    layout, _ = read_cluster_file(up.directory)

    for place in layout.nodes:
        assert all(address in up.said for address in (place.grpc, place.http, place.raft))


def test_status_shows_all_members_and_one_leader(up: Up) -> None:
    info = up.json("status")

    assert [member["id"] for member in info["members"]] == ["n1", "n2", "n3"]
    assert [member["role"] for member in info["members"]].count("leader") == 1
    assert f"{info['leader_id']}, term {info['term']}" in up.run("status")


def test_the_life_of_a_queue(up: Up) -> None:
    created = up.json("queue", "create", "life", "--ack-deadline", "1m", "--max-bytes", "1MiB")
    assert (created["name"], created["ack_deadline"], created["max_bytes"]) == ("life", 60.0, 1 << 20)

    changed = up.json("queue", "update", "life", "--overflow", "drop_oldest", "--pause")
    assert (changed["overflow"], changed["paused"], changed["ack_deadline"]) == ("drop_oldest", True, 60.0)
    assert "life" in up.run("queue", "list")
    assert "paused" in up.run("queue", "show", "life")

    up.run("queue", "publish", "life", "a", "b")
    assert up.json("queue", "purge", "life", "--yes") == {"purged_messages": 2}
    assert up.json("queue", "delete", "life", "--yes") == {"deleted": "life"}
    assert "life" not in [info["name"] for info in up.json("queue", "list")]


def test_messages_come_from_arguments_pipes_and_files_and_out_again(up: Up, tmp_path: Path) -> None:
    up.run("queue", "create", "sources")
    (tmp_path / "lines").write_text("file 1\nfile 2")

    up.run("queue", "publish", "sources", "argument", "--header", "from=args")
    up.run("queue", "publish", "sources", given="piped 1\npiped 2\n")
    published = up.json("queue", "publish", "sources", "--file", str(tmp_path / "lines"))
    up.run("queue", "publish", "sources", "--file", str(tmp_path / "lines"), "--input", "whole")

    assert (published["messages"], published["first_sequence"], published["last_sequence"]) == (2, 4, 5)
    lines = up.run("queue", "consume", "sources", "--output", "json").splitlines()
    messages = [json.loads(line) for line in lines]
    bodies = ["argument", "piped 1", "piped 2", "file 1", "file 2", "file 1\nfile 2"]
    assert [message["body"] for message in messages] == bodies
    assert [message["sequence"] for message in messages] == [1, 2, 3, 4, 5, 6]
    assert messages[0]["headers"] == {"from": "args"}
    assert up.run("queue", "consume", "sources", "--raw", "--wait", "100ms") == ""


def test_what_one_queue_gives_another_takes(up: Up) -> None:
    up.run("queue", "create", "here")
    up.run("queue", "create", "there")
    up.run("queue", "publish", "here", "one", "two", "--header", "k=v")

    lines = up.run("queue", "consume", "here", "--output", "json")
    up.run("queue", "publish", "there", "--input", "json", given=lines)

    there = up.run("queue", "consume", "there", "--output", "json").splitlines()
    assert [(m["body"], m["headers"]) for m in map(json.loads, there)] == [
        ("one", {"k": "v"}),
        ("two", {"k": "v"}),
    ]


def test_looking_takes_nothing_and_a_count_takes_no_more(up: Up) -> None:
    up.run("queue", "create", "looked-at")
    up.run("queue", "publish", "looked-at", "a", "b", "c")

    assert up.run("queue", "consume", "looked-at", "--no-ack", "--raw") == "a\nb\nc\n"
    assert up.run("queue", "consume", "looked-at", "--count", "2", "--raw") == "a\nb\n"
    assert up.run("queue", "consume", "looked-at", "--raw") == "c\n"


def test_following_prints_what_comes_until_ctrl_c(up: Up) -> None:
    up.run("queue", "create", "followed")
    layout, _ = read_cluster_file(up.directory)
    following = subprocess.Popen(
        [sys.executable, "-c", MAIN, "queue", "consume", "followed", "--follow", "--raw"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(layout.address),
    )
    with following:
        assert following.stdout is not None
        up.run("queue", "publish", "followed", "first")
        assert following.stdout.readline() == "first\n"
        up.run("queue", "publish", "followed", "second")
        assert following.stdout.readline() == "second\n"

        following.send_signal(signal.SIGINT)

        assert following.wait(STOP_S) == 0


def test_a_queue_that_is_not_there_is_an_error_with_a_hint(up: Up) -> None:
    assert up.run("queue", "publish", "nowhere", "x", code=1) == ""


def test_leadership_moves_where_it_is_sent(up: Up) -> None:
    leader = up.json("status")["leader_id"]
    target = next(id_ for id_ in ("n1", "n2", "n3") if id_ != leader)

    assert up.json("cluster", "transfer", target) == {"leader_id": target}
    assert up.json("status")["leader_id"] == target


def test_the_benchmarks_measure(up: Up) -> None:
    published = up.json("bench", "publish", "--duration", "0.3", "--batch", "100")
    assert published["messages_per_s"] > 0
    ended = up.json("bench", "e2e", "--messages", "2000", "--batch", "100")
    assert (ended["messages"], ended["redelivered"]) == (2_000, 0)
    latency = up.json("bench", "latency", "--duration", "0.2")
    assert all(latency[what]["p50_ms"] > 0 for what in ("publish", "grpc_echo", "fdatasync_4k"))
    assert up.json("queue", "list") == [
        one for one in up.json("queue", "list") if not one["name"].startswith("bench")
    ]


def test_a_second_cluster_on_the_directory_is_refused(up: Up) -> None:
    second = Up(up.directory)
    try:
        assert second.process.wait(READY_S) == 1
        assert second.process.stdout is not None
        assert "another cluster runs on" in second.process.stdout.read()
    finally:
        second.close()


def test_a_dead_node_is_reported_and_left_and_the_rest_stops_on_ctrl_c(start: Callable[..., Up]) -> None:
    up = start("--port", str(free_port(3)))
    up.wait_until_it_says("Ctrl-C")
    up.run("queue", "create", "kept")
    up.run("queue", "publish", "kept", "safe")
    pids = up.pids

    os.kill(pids["n2"], signal.SIGKILL)
    up.wait_until_it_says("n2 died (SIGKILL)")

    assert up.json("queue", "show", "kept")["stats"]["messages"] == 1
    assert up.stop() == 0
    assert not any(map(alive, pids.values()))
    assert up.pids == {}

    again = start()
    again.wait_until_it_says("Ctrl-C")
    assert "going on with the data" in again.said
    assert again.run("queue", "consume", "kept", "--raw") == "safe\n"
    assert again.stop(signal.SIGTERM) == 0


def test_failover_is_measured_and_nothing_is_lost(start: Callable[..., Up]) -> None:
    up = start("--port", str(free_port(3)))
    up.wait_until_it_says("Ctrl-C")

    result = up.json("bench", "failover", "--cluster", str(up.directory), "-n", "2")

    assert (result["trials"], result["lost"], result["stored_twice"]) == (2, 0, 0)
    assert len(result["kill_to_ack_ms"]["runs"]) == 2
    pids = up.pids
    assert len(pids) == 3
    assert up.stop() == 0
    assert not any(map(alive, pids.values()))


def test_tasks_are_measured_and_none_is_missing() -> None:
    options = ["--runs", "1", "--duration", "0.3", "--layers", "3", "--width", "10", "--backlog", "1000"]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "bench", "tasks", *options, "--trials", "1", "--output", "json"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["tasks_per_s"]["median"] > 0
    assert (
        0 < result["latency"]["submit_to_start"]["p50_ms"] <= result["latency"]["submit_to_result"]["p50_ms"]
    )
    assert result["workflow"]["total_s"]["median"] > 0
    takeover = result["takeover"]
    assert takeover["missing"] == 0
    assert 0 < takeover["kill_to_leader_ms"]["median"] < takeover["kill_to_start_ms"]["median"]


def test_a_node_that_cannot_start_shows_the_end_of_its_log(start: Callable[..., Up]) -> None:
    up = start("--port", str(free_port(3)), "--", "--heartbeat-ms", "nonsense")

    assert up.process.wait(READY_S) == 1

    assert up.process.stdout is not None
    said = up.process.stdout.read()
    assert "heartbeat_ms" in said or "heartbeat-ms" in said
    assert "Traceback" not in said


def test_the_demonstration_ends_well_with_some_of_its_files() -> None:
    story = (
        "from taskraft.demo import source_files, tell\n"
        "from taskraft.terminal.session import run_async\n"
        "if __name__ == '__main__':\n"
        "    raise SystemExit(not run_async(tell(source_files()[:150])))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", story],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("is dead") == 3
    assert done.stdout.count("equal") == 2
