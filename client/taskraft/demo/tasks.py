"""What the workers do: the tasks of the demonstration's workflow. `taskraft worker taskraft.demo.tasks:app` runs them."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from taskraft import App, current_task
from taskraft.demo.counting import count_tokens, standard_library

QUEUE = "tokens"
TOKENIZE, MERGE = "tokenize", "merge"
LOG_VARIABLE, WORKER_VARIABLE = "TASKRAFT_DEMO_LOG", "TASKRAFT_DEMO_WORKER"
LEASE_S = 3.0  # how long the tasks of a dead worker wait for it; a live one is never silent for so long
MERGE_PRIORITY = 100  # above all of TOKENIZE: what can be merged is merged first

app = App(queue=QUEUE)
app.queue(QUEUE, policy="priority", lease=LEASE_S, max_attempts=5)


@app.task(name=TOKENIZE, resources={"cpu": 1}, cpu_bound=True)
def tokenize(paths: list[str]) -> dict[str, int]:
    """The tokens of these files of the standard library, by kind."""
    with noted():
        return merged(count_tokens((standard_library() / path).read_bytes()) for path in paths)


@app.task(name=MERGE, priority=MERGE_PRIORITY, resources={"cpu": 0.5}, cpu_bound=True)
def merge(parts: list[dict[str, int]]) -> dict[str, int]:
    """The sum of what other tasks counted."""
    with noted():
        return merged(parts)


def merged(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


@contextmanager
def noted() -> Iterator[None]:
    """Write down that this task begins and, unless it is killed, that it ends: what really ran, whatever a broker says."""
    task = current_task()
    entry = {
        "task": task.task_id,
        "lease": task.lease_id,
        "attempt": task.attempt,
        "worker": os.environ[WORKER_VARIABLE],
    }
    append(entry | {"ended": False})
    yield
    append(entry | {"ended": True})


def append(entry: dict[str, object]) -> None:
    """Add a line to the log, in one write: lines of several processes do not mix."""
    descriptor = os.open(os.environ[LOG_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(entry).encode() + b"\n")
    finally:
        os.close(descriptor)


def total_size(paths: Iterable[Path]) -> int:
    """Bytes of these files of the standard library."""
    return sum((standard_library() / path).stat().st_size for path in paths)
