"""Fixtures of the cluster tests, and what the report of a failed one shows."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import clocks, rooms
from tests.cluster.cluster import LIVE
from tests.cluster.processes import tail

REQUIRED = os.environ.get("TASKRAFT_REQUIRE_ROOT_TESTS") == "1"
"""Set where the tests that need root must run: what is missing there fails them instead of skipping them."""

Say = Callable[[str], None]


def _need(absent: str) -> None:
    if absent and REQUIRED:
        pytest.fail(f"TASKRAFT_REQUIRE_ROOT_TESTS=1, but {absent}")
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Adds the last lines of every node's log to the report of a failed test."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed:
        for cluster in LIVE:
            for node in cluster.nodes:
                state = "paused" if node.paused else "running" if node.running else "ended"
                report.sections.append((f"{node.id} ({state}), {node.log}", tail(node.log)))
    return report  # type: ignore[return-value]
