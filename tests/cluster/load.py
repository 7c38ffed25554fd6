"""A workload that runs beside a test, and the judgement of what its clients saw."""

import itertools
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.history import Disturbed, Event, Published, Verdict, check, load
from tests.cluster.processes import NotInTime, end, python, start, tail, wait_for

LEASE_S = 30


class Load:
    """Producers and consumers of one queue, in a process of their own (tests/cluster/workload.py).

    `options` are those of the workload: producers, consumers, rate, batch, body_bytes, prefetch, late.
    """

    def __init__(self, cluster: Cluster, queue: str, **options: Any) -> None:
        self._cluster, self.queue = cluster, queue
        self._history = cluster.folder / f"{queue}.history"
        self._log = cluster.folder / f"{queue}.log"
        self._faults: list[Event] = []
        self._events: list[Event] = []
        self._read_bytes = 0
        given = {
            "addresses": cluster.addresses,
            "queue": queue,
            "history": self._history,
            "lease": LEASE_S,
            **options,
        }
        words = [
            word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        self._process: subprocess.Popen[str] = start(
            python("tests.cluster.workload", *words), prefix=cluster.prefix, log=self._log, talk=True
        )

    def events(self) -> list[Event]:
        """All that the workload wrote down so far."""
        if self._history.exists():
            with self._history.open("rb") as file:
                file.seek(self._read_bytes)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read_bytes += len(whole) + len(newline)
            self._events += [load(line) for line in whole.decode().splitlines()]
        return self._events

    def acknowledged(self) -> int:
        """Messages whose publish was answered so far."""
        return sum(each.last - each.first + 1 for each in self._answered())

    def _answered(self) -> Iterator[Published]:
        return (each for each in self.events() if isinstance(each, Published) and each.outcome == "ok")

    def wait_acknowledged(self, messages: int, *, timeout_s: float = 30.0) -> None:
        """Until this many more messages are acknowledged."""
        goal = self.acknowledged() + messages

        def reached() -> bool:
            assert self._process.poll() is None, f"the workload ended:\n{tail(self._log)}"
            return self.acknowledged() >= goal

        wait_for(reached, f"{messages} more acknowledged publishes on {self.queue}", timeout_s=timeout_s)

    def wait_service(self, since_ms: float | None = None, *, timeout_s: float = 30.0) -> float:
        """Until a publish that began after `since_ms`, or now, is acknowledged; the seconds from then to its answer."""
        since = time.monotonic() * 1000 if since_ms is None else since_ms

        def served() -> Published | None:
            return next((each for each in self._answered() if each.began_ms >= since), None)

        return (wait_for(served, "an acknowledged publish", timeout_s=timeout_s).at_ms - since) / 1000

    def longest_gap(self) -> float:
        """The longest time between two acknowledged publishes, in seconds."""
        times = sorted(each.at_ms for each in self._answered())
        return max((after - before for before, after in itertools.pairwise(times)), default=0) / 1000

    @contextmanager
    def fault(self, cause: str) -> Iterator[float]:
        """While this lasts, and only then, messages may come again for this cause. Gives when it began, in ms."""
        began_ms = time.monotonic() * 1000
        yield began_ms
        self._faults.append(Disturbed(cause=cause, began_ms=began_ms, at_ms=time.monotonic() * 1000))

    def finish(self, *, timeout_s: float = 60.0) -> Verdict:
        """Stops the producers, drains the queue and judges the whole history."""
        assert self._process.stdin is not None
        self._process.stdin.write("finish\n")
        self._process.stdin.flush()
        try:
            code = self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise NotInTime(f"{self.queue} is not empty after {timeout_s:g} s:\n{tail(self._log)}") from None
        assert code == 0, f"the workload failed:\n{tail(self._log)}"
        return check([*self.events(), *self._faults], lease_ms=LEASE_S * 1000)

    def close(self) -> None:
        """Ends the process, if it has not ended."""
        end(self._process)

    @property
    def log(self) -> Path:
        """What the workload printed."""
        return self._log
