"""Fixtures of the cluster tests, and what the report of a failed one shows."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import clocks, rooms
from tests.cluster.cluster import LIVE, Cluster
from tests.cluster.load import Load
from tests.cluster.processes import tail

_LOADS = pytest.StashKey[list[Load]]()
REQUIRED = os.environ.get("REQUIRE_ROOT_TESTS") == "1"
"""Set where the tests that need root must run: what is missing there fails them instead of skipping them."""

Say = Callable[[str], None]
StartLoad = Callable[..., Load]
"""`start_load(cluster, **options)`: a workload on a queue of this test's own."""


def _need(absent: str) -> None:
    if absent and REQUIRED:
        pytest.fail(f"REQUIRE_ROOT_TESTS=1, but {absent}")
    if absent:
        pytest.skip(absent)


@pytest.fixture(scope="session")
def root() -> None:
    """Network namespaces and mounts are available."""
    _need(rooms.missing())


@pytest.fixture(scope="session")
def clock_shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library with which a process gets a wall clock that can be moved."""
    _need(clocks.missing())
    return clocks.build(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Say:
    """Prints a line of progress past the capture of output."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    terminal = pytestconfig.pluginmanager.getplugin("terminalreporter")

    def print_line(text: str) -> None:
        if capture is None or terminal is None:
            return
        with capture.global_and_fixture_disabled():
            terminal.write_line(f"\n    {text}", flush=True)

    return print_line


@pytest.fixture
def start_load(request: pytest.FixtureRequest) -> Iterator[StartLoad]:
    """Starts workloads that end with the test."""
    loads: list[Load] = []
    request.node.stash[_LOADS] = loads

    def begin(cluster: Cluster, **options: object) -> Load:
        name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))
        load = Load(cluster, f"{name}-{len(loads)}", **options)
        loads.append(load)
        return load

    yield begin
    for load in loads:
        load.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Adds the last lines of every node's log to the report of a failed test."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed:
        for cluster in LIVE:
            for node in cluster.nodes:
                state = "paused" if node.paused else "running" if node.running else "ended"
                report.sections.append((f"{node.id} ({state}), {node.log}", tail(node.log)))
        for load in item.stash.get(_LOADS, []):
            report.sections.append((f"workload, {load.log}", tail(load.log)))
    return report  # type: ignore[return-value]
