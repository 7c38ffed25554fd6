"""One node as a process that we started."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from taskraft.local.layout import NodePlace, node_environment

LOG_TAIL_LINES = 15
CHILD = Path(__file__).with_name("child.py")


class NodeProcess:
    """A running node; `exited` is done, with the exit code, once it is gone.

    Start it from the main thread: Linux ties the child's life to the thread that started it.
    """

    def __init__(self, place: NodePlace) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.place = place
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        place.log.parent.mkdir(parents=True, exist_ok=True)
        with place.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-S", "-E", str(CHILD), str(os.getpid()), *place.argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=node_environment(),
                cwd=place.log.parent,
            )
        watcher = threading.Thread(target=self._watch, args=(asyncio.get_running_loop(),), daemon=True)
        watcher.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return not self.exited.done()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that is gone already is none of our worry."""
        self._popen.send_signal(number)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        code = self._popen.wait()
        with suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            loop.call_soon_threadsafe(self._gone, code)

    def _gone(self, code: int) -> None:
        if not self.exited.done():
            self.exited.set_result(code)


def log_tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a node's log, for people; empty if there is none."""
    try:
        with path.open(errors="replace") as log:
            return "\n".join(readable(line.rstrip()) for line in deque(log, maxlen=lines))
    except OSError:
        return ""


def readable(line: str) -> str:
    """A line of a node's log without its JSON: level, action and the rest; of a traceback its last line."""
    try:
        fact = json.loads(line)
        level, action = fact.pop("level"), fact.pop("action")
    except (ValueError, KeyError, AttributeError, TypeError):
        return line
    rest = {key: str(value).rstrip().rpartition("\n")[2] for key, value in fact.items() if key != "at_ms"}
    return " ".join([level, action, *(f"{key}={value}" for key, value in rest.items())])


def describe_exit(code: int) -> str:
    """`exit code 3`, or `SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
