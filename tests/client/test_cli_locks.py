"""Locks from the command line, against a real node."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskraft import SyncClient
from taskraft.local import free_port, read_cluster_file
from tests.client.cli_up import COMMAND_S, MAIN, Commands, Up, environment

pytestmark = pytest.mark.cluster

SHOW = "import os; print(os.environ['TASKRAFT_LOCK_NAME'], os.environ['TASKRAFT_LOCK_TOKEN'])"
SLEEP = "import sys, time; print('began', flush=True); time.sleep(60)"
STUBBORN = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('began', flush=True); time.sleep(60)"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    directory: Path = tmp_path_factory.mktemp("up")
    cluster = Up(directory, "--nodes", "1", "--port", str(free_port(1)))
    try:
        cluster.wait_until_it_says("pid")
        yield cluster
        cluster.stop()
    finally:
        cluster.close()


@pytest.fixture
def address(up: Up) -> str:
    return read_cluster_file(up.directory)[0].address


@pytest.fixture
def commands(address: str) -> Commands:
    return Commands(address)


def started(address: str, *arguments: str) -> subprocess.Popen[str]:
    """`taskraft lock run` in a process of its own, when its command has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "lock", "run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(address),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "began\n"
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and what it said of errors."""
    _, errors = process.communicate(timeout=COMMAND_S)
    return process.returncode, errors


def test_a_command_runs_under_a_lock_and_knows_its_token(up: Up, commands: Commands) -> None:
    first = up.run("lock", "run", "import", "--", sys.executable, "-c", SHOW).split()
    second = up.run("lock", "run", "import", "--", sys.executable, "-c", SHOW).split()

    assert first[0] == second[0] == "import"
    assert int(first[1]) < int(second[1])
    assert commands.json("lock", "list") == []


def test_the_exit_code_is_that_of_the_command(up: Up) -> None:
    up.run("lock", "run", "exit", "--", sys.executable, "-c", "raise SystemExit(7)", code=7)
    up.run("lock", "run", "exit", "--", "no-such-command", code=127)


def test_a_held_lock_is_shown_listed_and_refused(address: str, commands: Commands) -> None:
    with SyncClient(address) as client, client.lock("held", holder_id="me", labels={"job": "x"}) as lock:
        (listed,) = commands.json("lock", "list")
        assert (listed["name"], listed["holders"][0]["token"]) == ("held", lock.token)
        assert "me" in commands.run("lock", "list")
        shown = commands.run("lock", "show", "held")
        assert str(lock.token) in shown
        assert "job=x" in shown

        refused = commands.fail("lock", "run", "held", "--wait", "0", "--", "true")

        assert "LOCK_HELD" in refused
        assert "me" in refused
    assert "Nobody uses held" in commands.run("lock", "show", "held")
    assert "No lock is in use" in commands.run("lock", "list")


def test_locks_are_measured(commands: Commands) -> None:
    arguments = ("bench", "locks", "--duration", "0.2", "--outstanding", "3")

    result = commands.json(*arguments)

    assert [result[part]["outstanding"] for part in ("single", "own", "contended")] == [1, 3, 3]
    assert min(result[part]["locks"] for part in result) > 0
    assert "all the same" in commands.run(*arguments)


def test_a_lock_that_is_taken_away_ends_its_command(address: str, commands: Commands) -> None:
    process = started(address, "taken", "--ttl", "3s", "--", sys.executable, "-c", SLEEP)
    commands.run("lock", "release", "taken", "--yes")

    code, errors = ended(process)

    assert code == 1
    assert "LOCK_LOST" in errors


def test_a_command_that_does_not_end_is_killed(address: str, commands: Commands) -> None:
    process = started(address, "stubborn", "--ttl", "3s", "--", sys.executable, "-c", STUBBORN)
    commands.run("lock", "release", "stubborn", "--yes")

    assert ended(process)[0] == 1


def test_ctrl_c_goes_to_the_command_and_the_lock_is_free_after_it(address: str, commands: Commands) -> None:
    process = started(address, "ctrl-c", "--", sys.executable, "-c", SLEEP)

    process.send_signal(signal.SIGINT)

    assert ended(process)[0] in (
        1,
        128 + signal.SIGINT,
    )  # Python says KeyboardInterrupt in one way or the other
    assert commands.json("lock", "show", "ctrl-c")["holder_count"] == 0


def test_nobody_can_be_released_where_nobody_or_more_than_one_is(address: str, commands: Commands) -> None:
    commands.run("lock", "release", "free", "--yes", code=2)
    with SyncClient(address) as client, client.lock("two", permits=2), client.lock("two", permits=2) as lock:
        commands.run("lock", "release", "two", "--yes", code=2)
        commands.run("lock", "release", "two", "--yes", "--token", str(lock.token))
        assert commands.json("lock", "show", "two")["holder_count"] == 1
        assert "LOCK_NOT_HELD" in commands.fail("lock", "release", "two", "--yes", "--token", str(lock.token))
        lock._inner._lease.end()  # type: ignore[union-attr]  # it is not ours any more
