"""The app of the workers in cluster tests: every execution writes down when it began and how it ended.

`EXECUTIONS` names the folder; each process has a file of its own there, one JSON object a line.
"""

import json
import os
import time
from collections.abc import Generator
from pathlib import Path

from taskraft import App, current_task

app = App()
app.queue("work", lease=2, max_attempts=5, backoff=0.05)
app.queue("slices", lease=2, policy="round_robin", time_slice=0.2)


def note(what: str) -> None:
    task = current_task()
    line = {"task": task.task_id, "lease": task.lease_id, "attempt": task.attempt, "what": what}
    with (Path(os.environ["EXECUTIONS"]) / f"{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


@app.task(queue="work")
def sleep(seconds: float) -> float:
    note("begin")
    time.sleep(seconds)
    note("end")
    return seconds


@app.task(queue="work")
def add(numbers: list[int]) -> int:
    note("begin")
    note("end")
    return sum(numbers)


@app.task(queue="slices")
def count(until: int) -> Generator[int, None, int]:
    """Counts to `until`, a twentieth of a second each, and begins where an earlier slice or attempt stopped."""
    start: int = current_task().checkpoint or 0
    note(f"from {start}")
    for number in range(start, until):
        time.sleep(0.05)
        yield number + 1
    return until
