"""A worker of tasks as a process that we started: `taskraft worker` with the module of an app."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from taskraft.local.errors import LocalClusterError
from taskraft.local.layout import node_environment
from taskraft.local.process import CHILD, describe_exit, log_tail

STOP_GRACE_S = 10.0


class WorkerProcess:
    """`taskraft worker` with these arguments, its output in `log`. It dies with us; `stop()` it, or leave its block.

    Start it from the main thread: Linux ties the child's life to the thread that started it.
    """

    def __init__(self, arguments: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.log = log
        command = [sys.executable, "-P", "-m", "taskraft.cli", "worker", *arguments]
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-S", "-E", str(CHILD), str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=node_environment() | dict(environment),
                cwd=log.parent,
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def check(self) -> None:
        """Raise LocalClusterError, with the end of its log, if it has ended."""
        code = self._popen.poll()
        if code is not None:
            raise LocalClusterError(
                f"a worker ended with {describe_exit(code)}", f"{self.log} ends with:\n{log_tail(self.log)}"
            )

    def kill(self) -> int:
        """SIGKILL, as a crash would; returns its pid."""
        self._popen.send_signal(signal.SIGKILL)
        return self.pid

    async def stop(self) -> None:
        """SIGTERM, on which it finishes what it runs; SIGKILL if it does not end soon. Fine if it is gone already."""
        self._popen.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self._popen.wait, STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            self._popen.send_signal(signal.SIGKILL)
            await asyncio.to_thread(self._popen.wait)
