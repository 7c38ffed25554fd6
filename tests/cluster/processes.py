"""Child processes that never outlive the test run, and waiting for a condition."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]

T = TypeVar("T")


class NotInTime(AssertionError):
    """A condition did not come true before its deadline."""


def wait_for(condition: Callable[[], T | None], what: str, *, timeout_s: float = 20.0) -> T:
    """The first true value of `condition`, asked 50 times a second; `NotInTime` says `what` did not happen."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)
    return value


def throughout(seconds: float, observe: Callable[[], T]) -> set[T]:
    """All that is seen in this time: the way to show that something does not happen."""
    seen = {observe()}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.02)
        seen.add(observe())
    return seen


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of our own programs: importable from anywhere, free of the caller's settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("TASKRAFT_")}
    return own | {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}", "PYTHONUNBUFFERED": "1"} | dict(extra or {})


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules with the interpreter of the tests."""
    return [sys.executable, "-m", module, *arguments]


def start(
    command: Sequence[str],
    *,
    prefix: Sequence[str] = (),
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    talk: bool = False,
) -> subprocess.Popen[str]:
    """Starts a command that the kernel kills when this process dies.

    `prefix` is another command that runs it, such as nsenter; every part of the chain must exec the next,
    so that the process id is the command's own. Output goes to the end of `log`; with `talk`, standard
    input and output are pipes and only the errors go there.
    """
    with (log or Path(os.devnull)).open("ab") as out:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *prefix, *command],
            stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talk else out,
            stderr=out,
            env=environment(env),
            text=True,
        )


def end(process: subprocess.Popen[str]) -> None:
    """Kills a process, stopped or not, and waits until it is gone; nothing happens if it is."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    if not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
