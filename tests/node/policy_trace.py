"""A queue, its policy and workers that are all alike, in simulated time: who runs when."""

import heapq
from collections.abc import Iterable
from typing import NamedTuple

from node.policies import Facts, Head, Policy


class Work(NamedTuple):
    """A task: when it becomes ready and how long it runs; `size_ms` is what is expected, 0: exactly that."""

    number: int
    run_ms: int
    ready_ms: int = 0
    priority: int = 0
    size_ms: int = 0
    deadline_ms: int = 0
    tenant: str = ""


class Run(NamedTuple):
    """One turn of a task at a worker."""

    work: Work
    start_ms: int
    end_ms: int
    ended: bool  # the task, not only its slice


def trace(policy: Policy, works: Iterable[Work], *, workers: int = 1, until_ms: int = 1 << 47) -> list[Run]:
    """Runs the tasks as the policy says, one lane a tenant, and returns all turns in the order of their starts."""
    return _Simulation(policy, works, workers).run(until_ms)


def completion_ms(runs: Iterable[Run]) -> dict[int, int]:
    """When each task ended, by number."""
    return {run.work.number: run.end_ms for run in runs if run.ended}


def mean_completion_ms(runs: Iterable[Run]) -> float:
    """Of the tasks that ended: from ready to ended."""
    times = [run.end_ms - run.work.ready_ms for run in runs if run.ended]
    return sum(times) / len(times)


class _Simulation:
    def __init__(self, policy: Policy, works: Iterable[Work], workers: int) -> None:
        self.policy = policy
        self.coming = sorted(works, key=lambda work: (work.ready_ms, work.number))[::-1]
        self.lanes: dict[str, list[tuple[int, int, Work]]] = {}
        self.left_ms = {work.number: work.run_ms for work in self.coming}
        self.busy: list[tuple[int, int, Run]] = []  # by end
        self.free = workers
        self.runs: list[Run] = []

    def run(self, until_ms: int) -> list[Run]:
        while self.coming or self.busy:
            now_ms = min(
                [end_ms for end_ms, _, _ in self.busy[:1]] + [work.ready_ms for work in self.coming[-1:]]
            )
            if now_ms > until_ms:
                break
            while self.coming and self.coming[-1].ready_ms <= now_ms:
                work = self.coming.pop()
                self.wait(work, work.ready_ms)
            while self.busy and self.busy[0][0] <= now_ms:
                self.settle(heapq.heappop(self.busy)[2], now_ms)
            while self.free and self.lanes:
                self.start(now_ms)
        return self.runs

    def wait(self, work: Work, order_ms: int) -> None:
        key = self.policy.key(
            Facts(work.number, order_ms, work.priority, work.size_ms or work.run_ms, work.deadline_ms)
        )
        if work.tenant not in self.lanes:
            self.lanes[work.tenant] = []
            self.policy.opened(work.tenant)
        heapq.heappush(self.lanes[work.tenant], (key, work.number, work))

    def start(self, now_ms: int) -> None:
        lane = min(self.lanes.values(), key=lambda lane: self.policy.rank(_head(lane)))
        _, number, work = heapq.heappop(lane)
        self.policy.started(work.tenant, work.size_ms or work.run_ms)
        if not lane:
            del self.lanes[work.tenant]
            self.policy.closed(work.tenant)
        turn_ms = min(self.left_ms[number], self.policy.slice_ms or self.left_ms[number])
        self.left_ms[number] -= turn_ms
        run = Run(work, now_ms, now_ms + turn_ms, self.left_ms[number] == 0)
        self.free -= 1
        self.runs.append(run)
        heapq.heappush(self.busy, (run.end_ms, number, run))

    def settle(self, run: Run, now_ms: int) -> None:
        self.free += 1
        self.policy.settled(run.work.tenant, run.work.size_ms or run.work.run_ms, run.end_ms - run.start_ms)
        if not run.ended:
            self.wait(run.work, now_ms)


def _head(lane: list[tuple[int, int, Work]]) -> Head:
    key, number, work = lane[0]
    return Head(key, number, work.tenant)
