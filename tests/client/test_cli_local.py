"""Local clusters: who listens where, what cluster.json says, and processes that die with us.

The processes here are small stand-ins; test_cli_up.py starts real nodes.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taskraft.cli.up import choose_layout
from taskraft.local import (
    AttachedCluster,
    Layout,
    LocalCluster,
    LocalClusterError,
    NodePlace,
    free_port,
    read_cluster_file,
)
from taskraft.local.attached import runs
from taskraft.local.process import log_tail
from taskraft.local.worker import WorkerProcess

SLEEP = (sys.executable, "-c", "import signal; signal.sigwait([signal.SIGTERM])")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()",
)


def stand_ins(directory: Path, command: tuple[str, ...] = SLEEP, nodes: int = 2) -> Layout:
    """A layout whose nodes run `command`, each with an argument of its own."""
    plan = Layout.plan(directory, nodes=nodes, port=free_port(nodes))
    places = tuple(replace(place, argv=(*command, place.id, str(directory))) for place in plan.nodes)
    return Layout(plan.directory, places)


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nodes_have_the_agreed_ports_and_know_each_other(tmp_path: Path) -> None:
    layout = Layout.plan(tmp_path, nodes=3, port=7001, settings=["--heartbeat-ms", "20"])

    assert [(node.id, node.grpc, node.http, node.raft) for node in layout.nodes] == [
        ("n1", "127.0.0.1:7001", "127.0.0.1:7101", "127.0.0.1:7201"),
        ("n2", "127.0.0.1:7002", "127.0.0.1:7102", "127.0.0.1:7202"),
        ("n3", "127.0.0.1:7003", "127.0.0.1:7103", "127.0.0.1:7203"),
    ]
    assert layout.address == "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003"
    members = "n1=127.0.0.1:7201,n2=127.0.0.1:7202,n3=127.0.0.1:7203"
    for node in layout.nodes:
        assert node.argv[node.argv.index("--members") + 1] == members
        assert node.argv[-2:] == ("--heartbeat-ms", "20")


@pytest.mark.parametrize(("nodes", "port"), [(0, 7001), (10, 7001), (3, 0), (3, 65_400)])
def test_a_layout_that_cannot_be_is_refused(tmp_path: Path, nodes: int, port: int) -> None:
    with pytest.raises(LocalClusterError):
        Layout.plan(tmp_path, nodes=nodes, port=port)


def test_the_cluster_file_says_what_was_planned_and_who_runs(tmp_path: Path) -> None:
    layout = Layout.plan(tmp_path, nodes=2, port=7001)

    layout.write({"n1": 4711})

    assert read_cluster_file(tmp_path) == (layout, {"n1": 4711})
    first = json.loads((tmp_path / "cluster.json").read_text())["nodes"][0]
    assert first.keys() == {"id", "pid", "grpc", "http", "raft", "data_dir", "log", "argv"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nodes": [{"id": "n1"}]}'])
def test_a_file_that_is_no_cluster_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.json").write_text(text)

    with pytest.raises(LocalClusterError, match=r"is not a cluster\.json"):
        read_cluster_file(tmp_path)


def test_an_old_directory_is_started_as_it_was(tmp_path: Path) -> None:
    Layout.plan(tmp_path, nodes=5, port=9001).write({})

    layout, known = choose_layout(tmp_path, None, None, [])

    assert known
    assert [node.raft for node in layout.nodes] == [f"127.0.0.1:{9201 + i}" for i in range(5)]


@pytest.mark.parametrize(("nodes", "port"), [(3, None), (None, 7001)])
def test_an_old_directory_is_not_started_with_other_members(
    tmp_path: Path, nodes: int | None, port: int | None
) -> None:
    Layout.plan(tmp_path, nodes=5, port=9001).write({})

    with pytest.raises(LocalClusterError, match="5 nodes on port 9001") as error:
        choose_layout(tmp_path, nodes, port, [])

    assert "--nodes 5 --port 9001" in error.value.hint


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    layout = stand_ins(tmp_path)
    host, port = layout.nodes[1].http.split(":")

    async def start() -> None:
        cluster = LocalCluster(layout)
        with pytest.raises(LocalClusterError, match=f"{layout.nodes[1].http} is in use"):
            cluster.start()
        await cluster.stop()

    with socket.create_server((host, int(port))):
        asyncio.run(start())
    assert not (tmp_path / "cluster.json").exists()
    assert not (tmp_path / "n1").exists()


def test_two_clusters_never_share_a_directory(tmp_path: Path) -> None:
    async def start() -> None:
        cluster, other = LocalCluster(stand_ins(tmp_path)), LocalCluster(stand_ins(tmp_path))
        cluster.start()
        try:
            with pytest.raises(LocalClusterError, match="another cluster runs on"):
                other.start()
            await other.stop()
            assert alive(cluster.pid("n1"))
        finally:
            await cluster.stop()
        other.start()
        await other.stop()

    asyncio.run(start())


def test_stopping_ends_every_node_and_says_so_in_the_file(tmp_path: Path) -> None:
    async def start_and_stop() -> list[int]:
        cluster = LocalCluster(stand_ins(tmp_path))
        cluster.start()
        pids = read_cluster_file(tmp_path)[1]
        assert pids == {"n1": cluster.pid("n1"), "n2": cluster.pid("n2")}
        assert await cluster.stop() == []
        return list(pids.values())

    assert not any(map(alive, asyncio.run(start_and_stop())))
    assert read_cluster_file(tmp_path)[1] == {}


def test_a_node_that_does_not_listen_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    layout = stand_ins(tmp_path, STUBBORN, nodes=1)

    async def start_and_stop() -> int:
        cluster = LocalCluster(layout)
        cluster.start()
        await asyncio.to_thread(wait_for, lambda: "deaf" in layout.nodes[0].log.read_text())
        pid = cluster.pid("n1")
        assert await cluster.stop(grace_s=0.2) == ["n1"]
        return pid

    assert not alive(asyncio.run(start_and_stop()))


def test_a_node_that_dies_is_reported_once_and_not_restarted(tmp_path: Path) -> None:
    reports: list[tuple[str, str]] = []

    def note(place: NodePlace, how: str) -> None:
        reports.append((place.id, how))

    async def story() -> None:
        cluster = LocalCluster(stand_ins(tmp_path, nodes=3), on_exit=note)
        cluster.start()
        os.kill(cluster.pid("n2"), signal.SIGKILL)
        while not reports:
            await asyncio.sleep(0.01)
        cluster.kill("n3")
        await cluster.stop()

    asyncio.run(asyncio.wait_for(story(), 20))

    assert reports == [("n2", "SIGKILL")]


def test_a_killed_node_is_restarted_with_its_command_and_the_file_follows(tmp_path: Path) -> None:
    async def story() -> None:
        cluster = LocalCluster(stand_ins(tmp_path))
        cluster.start()
        old = cluster.kill("n1")
        await cluster.restart("n1")
        try:
            assert cluster.pid("n1") != old
            assert read_cluster_file(tmp_path)[1]["n1"] == cluster.pid("n1")
            assert alive(cluster.pid("n1"))
        finally:
            await cluster.stop()

    asyncio.run(asyncio.wait_for(story(), 20))


def test_what_another_process_restarted_is_stopped_too(tmp_path: Path) -> None:
    async def story() -> int:
        cluster = LocalCluster(stand_ins(tmp_path))
        cluster.start()
        try:
            await asyncio.to_thread(wait_for, lambda: runs(cluster.pid("n1"), cluster.layout.nodes[0]))
            attached = AttachedCluster(tmp_path)
            attached.kill("n1")
            await attached.restart("n1")
            await asyncio.to_thread(wait_for, lambda: runs(attached.pids["n1"], cluster.layout.nodes[0]))
            assert attached.pid("n1") != cluster.pid("n1")
        finally:
            late = await cluster.stop()
        assert late == []
        return attached.pids["n1"]

    pid = asyncio.run(asyncio.wait_for(story(), 20))

    assert not alive(pid)


def test_a_stranger_with_a_nodes_old_pid_is_never_killed(tmp_path: Path) -> None:
    stand_ins(tmp_path).write({"n1": os.getpid()})

    with pytest.raises(LocalClusterError, match="does not run"):
        AttachedCluster(tmp_path).kill("n1")


def test_no_node_survives_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.client.test_cli_local import stand_ins\n"
        "from taskraft.local import LocalCluster\n"
        "async def main():\n"
        "    LocalCluster(stand_ins(Path(sys.argv[1]))).start()\n"
        "    print('started', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"started\n"
        layout, pids = read_cluster_file(tmp_path)
        wait_for(lambda: all(runs(pids[place.id], place) for place in layout.nodes))

        parent.kill()

    wait_for(lambda: not any(map(alive, pids.values())))


def test_the_end_of_a_log_is_shown_without_its_json_and_tracebacks(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    fact = {
        "at_ms": 1,
        "level": "ERROR",
        "action": "failed",
        "error": "Traceback:\n  File x\nOSError: no space",
    }
    log.write_text("first\n" + json.dumps(fact) + "\n[1]\nplain text\n")

    assert log_tail(log, 3) == "ERROR failed error=OSError: no space\n[1]\nplain text"
    assert log_tail(tmp_path / "none") == ""


def test_a_worker_that_cannot_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    worker = WorkerProcess(["no_such_module:app"], log=tmp_path / "worker.log", environment={})

    wait_for(lambda: not alive(worker.pid))

    with pytest.raises(LocalClusterError, match="exit code 2") as told:
        worker.check()
    assert "no_such_module" in told.value.hint


@pytest.mark.parametrize(("kill", "how"), [(True, "SIGKILL"), (False, "SIGTERM")])
def test_a_worker_is_killed_or_stopped_with_its_block(tmp_path: Path, kill: bool, how: str) -> None:
    (tmp_path / "waiting_app.py").write_text(
        "import signal\nprint('loaded', flush=True)\nsignal.pause()\n"  # never becomes a worker
    )
    log = tmp_path / "worker.log"

    async def story() -> None:
        async with WorkerProcess(["waiting_app"], log=log, environment={}) as worker:
            await asyncio.to_thread(wait_for, lambda: "loaded" in log.read_text())
            if kill:
                assert worker.kill() == worker.pid
        with pytest.raises(LocalClusterError, match=how):
            worker.check()

    asyncio.run(story())
