"""One real node for the length of a block."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from taskraft.local import Layout, free_port
from taskraft.local.layout import node_environment, split_address
from taskraft.local.process import CHILD, describe_exit, log_tail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from taskraft.local import NodePlace

READY_S = 30.0
STOP_S = 5.0
POLL_S = 0.01
STARTS_MAX = 3  # somebody else may take a port between the look and the start
SETTINGS = (
    *("--heartbeat-ms", "10"),
    *("--election-ms", "50"),  # alone it need not wait for others to speak up first
    *("--log-segment-bytes", "8MiB"),
    *("--shutdown-ms", "500"),
)


class NodeFailed(Exception):
    """The node did not start; the message ends with its log."""


@contextmanager
def node(*, data_dir: Path | str | None = None, settings: Iterable[str] = ()) -> Iterator[str]:
    """A broker of one node, as "host:port": ready when the block begins, gone when it ends.

    It is a process of its own on free ports of this machine. Without `data_dir` it forgets everything at the end; with
    it, the next node with the same directory goes on. `settings` are further flags of `taskraft node`. It also ends with
    the thread that started it, should that be killed. Raises NodeFailed.
    """
    with tempfile.TemporaryDirectory(prefix="taskraft-", ignore_cleanup_errors=True) as scratch:
        directory = Path(data_dir or scratch)
        place, process = _start(directory, (*SETTINGS, *settings))
        try:
            yield place.grpc
        finally:
            _stop(process)


def _start(directory: Path, settings: tuple[str, ...]) -> tuple[NodePlace, subprocess.Popen[bytes]]:
    for attempt in range(1, STARTS_MAX + 1):
        [place] = Layout.plan(directory, nodes=1, port=free_port(1), settings=settings).nodes
        process = _spawn(place)
        try:
            _wait_until_ready(place, process)
        except BaseException as error:
            _stop(process)
            if not isinstance(error, NodeFailed) or attempt == STARTS_MAX or "in use" not in str(error):
                raise
        else:
            return place, process
    raise AssertionError


def _spawn(place: NodePlace) -> subprocess.Popen[bytes]:
    place.log.parent.mkdir(parents=True, exist_ok=True)
    with place.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-S", "-E", str(CHILD), str(os.getpid()), *place.argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=node_environment(),
            cwd=place.log.parent,
        )


def _wait_until_ready(place: NodePlace, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + READY_S
    while not _is_ready(place.http):
        if (code := process.poll()) is not None:
            raise NodeFailed(
                f"the node ended with {describe_exit(code)}; its log ends with:\n{log_tail(place.log)}"
            )
        if time.monotonic() > deadline_s:
            raise NodeFailed(
                f"the node is not ready after {READY_S:g} s; its log ends with:\n{log_tail(place.log)}"
            )
        time.sleep(POLL_S)


def _is_ready(address: str) -> bool:
    host, port = split_address(address)
    connection = http.client.HTTPConnection(host, port, timeout=1.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    process.kill()
    process.wait()
