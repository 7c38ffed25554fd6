"""A local cluster, and commands against it."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from taskraft.cli import run
from taskraft.local import read_cluster_file

MAIN = "from taskraft.cli import main; main()"
READY_S, STOP_S, COMMAND_S = 60, 30, 60


def environment(address: str = "") -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("TASKRAFT_")}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return own | {"PYTHONPATH": path, "COLUMNS": "200"} | ({"TASKRAFT_ADDRESS": address} if address else {})


class Up:
    """A running `taskraft up`, and other commands against its cluster."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "up", "--data-dir", str(directory), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment() | {"PYTHONUNBUFFERED": "1"},
        )
        self.said = ""

    def wait_until_it_says(self, text: str) -> None:
        assert self.process.stdout is not None
        deadline = time.monotonic() + READY_S
        while text not in self.said:
            line = self.process.stdout.readline()
            self.said += line
            assert line, f"it ended without {text!r}:\n{self.said}"
            assert time.monotonic() < deadline, self.said

    @property
    def pids(self) -> dict[str, int]:
        return read_cluster_file(self.directory)[1]

    def run(self, *arguments: str, given: str = "", code: int = 0) -> str:
        """Runs a command to its end; returns what it printed."""
        layout, _ = read_cluster_file(self.directory)
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *arguments],
            input=given,
            capture_output=True,
            text=True,
            env=environment(layout.address),
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    def json(self, *arguments: str, given: str = "") -> Any:
        return json.loads(self.run(*arguments, "--output", "json", given=given))

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Commands:
    """Commands in this process, with standard streams of their own: much quicker than a process each."""

    def __init__(self, address: str) -> None:
        self.address = address

    def run(self, *arguments: str, given: str = "", code: int = 0, columns: int = 200) -> str:
        """Runs a command to its end; returns what it printed."""
        ended, printed, errors = self._done(arguments, given, columns)
        assert ended == code, errors
        return printed

    def json(self, *arguments: str, given: str = "") -> Any:
        return json.loads(self.run(*arguments, "--output", "json", given=given))

    def fail(self, *arguments: str) -> str:
        """Runs a command that must end with exit code 1 and print nothing; returns its error."""
        ended, printed, errors = self._done(arguments, "", 200)
        assert (ended, printed) == (1, ""), printed + errors
        return errors

    def _done(self, arguments: Sequence[str], given: str, columns: int) -> tuple[int, str, str]:
        printed, errors = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(printed),
            redirect_stderr(errors),
        ):
            patch.setenv("TASKRAFT_ADDRESS", self.address)
            patch.setenv("COLUMNS", str(columns))
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
            code = run(arguments)
        return code, printed.getvalue(), errors.getvalue()
