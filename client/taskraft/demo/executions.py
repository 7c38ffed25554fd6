"""What the workflow's tasks wrote down themselves, compared with what the brokers say of them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskraft import TaskInfo


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a task's function. `ended` is False if its worker was killed meanwhile."""

    task: str
    lease: int
    attempt: int
    worker: str
    ended: bool


def read_executions(log: Path) -> list[Execution]:
    """All runs in the log, in the order in which they began. A task that ran twice under one lease is two runs."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    ended: dict[tuple[str, int], int] = defaultdict(int)
    for line in lines:
        ended[line["task"], line["lease"]] += line["ended"]
    runs = []
    for line in lines:
        if line["ended"]:
            continue
        key = line["task"], line["lease"]
        runs.append(Execution(*key, line["attempt"], line["worker"], ended[key] > 0))
        ended[key] -= 1
    return runs


@dataclass(frozen=True, slots=True)
class Comparison:
    """What really ran, against the tasks' histories. Everything is as promised if `unexplained` is empty.

    `repeated` tasks ran more than once, because their worker was killed; `lost_attempts` were leased to it and never
    came to an end. `unexplained` says, for people, what should not have happened.
    """

    executions: int
    attempts: int
    repeated: int
    lost_attempts: int
    unexplained: tuple[str, ...]


def compare(tasks: Sequence[TaskInfo], executions: Iterable[Execution], killed: str) -> Comparison:
    """Hold the runs against the tasks as the brokers have them at the end; `killed` is the worker that was killed."""
    runs: Mapping[str, list[Execution]] = defaultdict(list)
    for one in executions:
        runs[one.task].append(one)
    wrong = [
        f"{name} ran and is no task of the workflow" for name in runs.keys() - {task.id for task in tasks}
    ]
    for task in tasks:
        wrong += faults(task, runs[task.id], killed)
    return Comparison(
        executions=sum(map(len, runs.values())),
        attempts=sum(task.attempt for task in tasks),
        repeated=sum(len(of) > 1 for of in runs.values()),
        lost_attempts=sum(task.attempt - 1 for task in tasks),
        unexplained=tuple(sorted(wrong)),
    )


def faults(task: TaskInfo, runs: Sequence[Execution], killed: str) -> list[str]:
    """What is wrong with a task: each attempt runs once, the last one counts, and only a killed worker's are repeated."""
    if task.state != "succeeded":
        return [f"{task.id} is {task.state}"]
    if not runs:
        return [f"{task.id} succeeded and never ran"]
    wrong = []
    leases = [run.lease for run in runs]
    if len(set(leases)) < len(leases):
        wrong.append(f"{task.id} ran twice under one lease")
    last = max(runs, key=lambda run: run.lease)
    if (last.attempt, last.ended) != (task.attempt, True):
        wrong.append(
            f"{task.id} succeeded at attempt {task.attempt}, its last run was attempt {last.attempt}"
        )
    wrong += [
        f"{task.id} ran again after {run.worker} had it, which was not killed"
        for run in runs
        if run.lease != last.lease and run.worker != killed
    ]
    lost = [event for event in task.events if event.reason in ("LEASE_EXPIRED", "INSTANCE_REPLACED")]
    if task.attempt != 1 + len(lost):
        wrong.append(f"{task.id} has {task.attempt} attempts and lost {len(lost)} leases")
    wrong += [
        f"{task.id} lost a lease of {event.worker_id}, which was not killed"
        for event in lost
        if event.worker_id not in ("", killed)
    ]
    return wrong
