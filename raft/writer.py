"""The thread that writes the log. One write at a time; the loop is told when it is on disk.

A plain thread and a queue: an executor's futures cost more than the rest of a small write.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from raft.promises import Write

Done = Callable[[Write, float, BaseException | None], None]
"""Called on the loop with the write, how many seconds it took, and why it failed."""


class Writer:
    """Carries out writes in a thread of its own. Used from one event loop."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Write | None] = SimpleQueue()
        self._submitted_s = self._loop.time()
        self._thread = threading.Thread(target=self._run, name="raft-write")
        self._thread.start()

    @property
    def quiet_s(self) -> float:
        """How long ago the last write was submitted."""
        return self._loop.time() - self._submitted_s

    def submit(self, write: Write) -> None:
        self._submitted_s = self._loop.time()
        self._queue.put(write)

    def close(self) -> None:
        """Let the write under way finish; blocks until then. `done` may still be called on the loop."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (write := self._queue.get()) is not None:
            began = time.perf_counter()
            error: BaseException | None = None
            try:
                write.run()
            except BaseException as failure:  # noqa: BLE001  the owner decides; this thread must not die silently
                error = failure
            try:
                self._loop.call_soon_threadsafe(self._done, write, time.perf_counter() - began, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits for this write any more
