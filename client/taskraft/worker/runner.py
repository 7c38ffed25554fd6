"""What a worker holds: which tasks wait here, which run, and what is said of them. Everything here is in one loop.

Invariant: a lease is in `held` from its assignment until its outcome is in the outbox (or nobody wants that any more),
and while it is there it takes a place, also when it was revoked: only its end frees that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING

from taskraft.v1 import worker_pb2
from taskraft.worker import lines, outcomes
from taskraft.worker.job import REASONS, Job
from taskraft.worker.parents import is_incomplete

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from taskraft import App
    from taskraft._context import Revoked
    from taskraft._task import TaskFunction
    from taskraft.worker.executors import Executor
    from taskraft.worker.outbox import Outbox
    from taskraft.worker.pace import Pace
    from taskraft.worker.parents import Fetcher
    from taskraft.worker.session import Session

TICK_S = 1.0
OVERDUE_S = 1.0  # after it was asked to yield, a task is reported
PROGRESS_S = 0.05  # between two reports of progress: what comes meanwhile goes together
UNKNOWN_TYPE = "UNKNOWN_TYPE"
WORKER_STOPPED = "WORKER_STOPPED"
_AT_ONCE = ("cancelled", "lease_lost", "timeout")  # reasons for which nobody waits for a good moment
_IN_STEPS = ("generator", "async_generator")

_log = logging.getLogger("taskraft.worker")


class Runner:
    """The `Listener` of a session, and the owner of all jobs. Created and called in the session's loop.

    `kind_of` says which executor runs a task. `finished` and `noted` may be called from any thread.
    """

    def __init__(
        self,
        app: App,
        outbox: Outbox,
        pace: Pace,
        kind_of: Callable[[TaskFunction[..., Any, Any]], str],
        drain_asked: Callable[[str], None],
    ) -> None:
        self._app = app
        self._outbox = outbox
        self._pace = pace
        self._kind_of = kind_of
        self._drain_asked = drain_asked
        self._loop = asyncio.get_running_loop()
        self.executors: dict[str, Executor] = {}
        self.held_jobs: dict[int, Job] = {}
        self.in_hand: Counter[str] = Counter()
        self.draining = False
        self._session: Session | None = None
        self._fetcher: Fetcher | None = None
        self._credit = 0
        self._ended: deque[tuple[Job, worker_pb2.Outcome]] = deque()
        self._noted: deque[Job] = deque()
        self._collecting = False
        self._reporting = False
        self._named_overdue: set[int] = set()
        self.attempts: dict[str, int] = {}  # of tasks that do not say, by queue; for the log
        self.begun = asyncio.Event()  # set by the first welcome
        self.empty = asyncio.Event()  # set while nothing is held
        self.empty.set()

    def use(self, session: Session, fetcher: Fetcher, executors: Mapping[str, Executor]) -> None:
        """What this works with, all of which calls it in turn."""
        self._session = session
        self._fetcher = fetcher
        self.executors = dict(executors)

    # What tasks come to ------------------------------------------------------------------------------------------

    def finished(self, job: Job, outcome: worker_pb2.Outcome) -> None:
        """A job has come to an end; any thread."""
        self._ended.append((job, outcome))
        if not self._collecting:
            self._collecting = True
            with suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
                self._loop.call_soon_threadsafe(self._collect)

    def noted(self, job: Job) -> None:
        """A job has progress to tell; any thread."""
        self._noted.append(job)
        if not self._reporting:
            self._reporting = True
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._loop.call_later, PROGRESS_S, self._report)

    def _collect(self) -> None:
        self._collecting = False  # first: what ends from now on calls again
        ended, held, outbox = self._ended, self.held_jobs, self._outbox
        counts: Counter[str] = Counter()
        seconds: Counter[str] = Counter()
        while ended:
            job, outcome = ended.popleft()
            counts[job.kind] += 1
            seconds[job.kind] += job.ran_s  # type: ignore[assignment]  # Counter adds floats as well
            if held.pop(job.lease_id, None) is None:
                continue
            if job.lost:
                continue
            if job.noted:
                outbox.report(job.progress())
            lines.ended(job, outcome, self.attempts)
            outbox.outcome(outcome)
        for kind, count in counts.items():
            self.in_hand[kind] -= count
            self._pace.ran(kind, count, seconds[kind])
        self._settle()

    def _report(self) -> None:
        self._reporting = False
        while self._noted:
            job = self._noted.popleft()
            if job.noted and job.lease_id in self.held_jobs and not job.lost:
                self._outbox.report(job.progress())
        self._wake()

    def _claim(self, job: Job) -> bool:
        """Take a job that has not begun away from who would run it; False if it has begun."""
        assert self._fetcher is not None
        lease_id = job.lease_id
        waiting = self.executors[job.kind].waiting.pop(lease_id, None) or self._fetcher.waiting.pop(
            lease_id, None
        )
        return waiting is not None

    def _give_back(self, job: Job, reason: Revoked) -> None:
        """A job that has not begun goes back."""
        del self.held_jobs[job.lease_id]
        self.in_hand[job.kind] -= 1
        if not job.lost:
            self._outbox.outcome(outcomes.yielded(job.lease_id, reason))

    def _settle(self) -> None:
        """After jobs came or went: ask for more, and say so if there are none."""
        if self.held_jobs:
            self.empty.clear()
        else:
            self.empty.set()
        if self._session is not None and self._session.connected and not self.draining:
            more = self._pace.room(self.in_hand, self._credit)
            self._credit += more
            self._outbox.credit += more
        self._wake()

    def _wake(self) -> None:
        if self._session is not None:
            self._session.wake()

    # What the session tells --------------------------------------------------------------------------------------

    def held(self) -> Iterable[int]:
        return [lease_id for lease_id, job in self.held_jobs.items() if not job.lost]

    def welcomed(self, lost: set[int]) -> None:
        self.begun.set()
        for lease_id in lost & self.held_jobs.keys():
            job = self.held_jobs[lease_id]
            job.lost = True
            self._revoke(job, "lease_lost")
        for job in self.held_jobs.values():
            if job.checkpoint and not job.lost:  # the last stream may have lost it
                self._outbox.report(job.progress())
        self._credit = 0
        self._settle()

    def broken(self) -> None:
        self._credit = 0

    def assigned(self, assignments: Sequence[worker_pb2.Assignment]) -> None:
        batches: dict[str, list[Job]] = {kind: [] for kind in self.executors}
        tasks, payloads, held = self._app.tasks, self._app.payloads, self.held_jobs
        payload_bytes, slice_s = 0, 0.0
        for assignment in assignments:
            lease_id, task = assignment.lease_id, tasks.get(assignment.task.type)
            self._outbox.received.append(lease_id)
            if task is None:
                text = f"this worker has no task {assignment.task.type!r}"
                self._outbox.outcome(outcomes.failed(lease_id, UNKNOWN_TYPE, text))
            elif lease_id not in held:
                kind = self._kind_of(task)
                held[lease_id] = job = Job(assignment, task, payloads, kind, self.noted)
                payload_bytes += len(assignment.task.payload)
                if assignment.HasField("slice"):
                    slice_s = assignment.slice.ToNanoseconds() / 1e9
                batches[kind].append(job)
        counts = {kind: len(jobs) for kind, jobs in batches.items()}
        self.in_hand.update(counts)
        self._credit = max(0, self._credit - len(assignments))
        self._pace.arrived(counts, payload_bytes, slice_s)
        for jobs in batches.values():
            self._put(jobs)
        self._settle()

    def _put(self, jobs: list[Job]) -> None:
        """Let these wait for their turn; those that lack something, for that first."""
        assert self._fetcher is not None
        whole = []
        for job in jobs:
            if self.draining:
                self._give_back(job, "drained")
            elif job.assignment.parents and is_incomplete(job.assignment):
                self._fetcher.put(job)
            else:
                whole.append(job)
        if whole:
            self.executors[whole[0].kind].put(whole)

    def prepared(self, job: Job) -> None:
        """What was omitted in its assignment is there."""
        self._put([job])

    def revoked(self, lease_ids: Sequence[int], reason: worker_pb2.RevokeReason) -> None:
        for lease_id in lease_ids:
            job = self.held_jobs.get(lease_id)
            if job is not None:  # else its outcome is on its way, which answers this
                self._revoke(job, REASONS.get(reason, "lease_lost"))
        self._settle()

    def settled(self) -> None:
        if self._session is not None:
            self._pace.turnaround_s = self._session.turnaround_s or self._pace.turnaround_s

    def drain_requested(self, reason: str) -> None:
        self._drain_asked(reason)

    def load(self) -> float:
        waiting = {kind: len(executor.waiting) for kind, executor in self.executors.items()}
        running = {kind: self.in_hand[kind] - count for kind, count in waiting.items()}
        return self._pace.load(running, waiting)

    def overdue(self) -> list[int]:
        now = time.monotonic()
        return [
            job.lease_id
            for job in self.held_jobs.values()
            if job.revoked in ("slice_end", "preempted") and now - job.revoked_s > OVERDUE_S
        ]

    # Stopping ----------------------------------------------------------------------------------------------------

    def _revoke(self, job: Job, reason: Revoked) -> None:
        """Stop a job, or ask it to stop, as far as that is possible; its outcome is said when it has ended."""
        if self._claim(job):
            unused = reason == "slice_end"  # it had nothing of its slice, and keeps its turn
            self._give_back(job, "drained" if unused else reason)
        elif job.revoked not in _AT_ONCE:
            job.revoked, job.revoked_s = reason, time.monotonic()
            executor, in_steps = self.executors[job.kind], job.task.kind in _IN_STEPS
            if reason in _AT_ONCE or (reason == "preempted" and not in_steps):
                executor.stop(job)
            else:
                executor.tell(job)

    def drain(self) -> None:
        """Take nothing more, hand back what has not begun, ask generators to yield."""
        self.draining = True
        for job in list(self.held_jobs.values()):
            if self._claim(job):
                self._give_back(job, "drained")
            elif job.revoked is None and job.task.kind in _IN_STEPS:
                self._revoke(job, "drained")
        self._settle()

    def abandon(self) -> None:
        """The time is over: stop what can be stopped, and say of the rest that its worker stopped."""
        for job in list(self.held_jobs.values()):
            job.revoked = job.revoked or "drained"
            if self.executors[job.kind].stop(job):
                continue
            del self.held_jobs[job.lease_id]
            if job.lost:
                continue
            if job.checkpoint:
                self._outbox.outcome(outcomes.yielded(job.lease_id, "drained", job.checkpoint))
            else:
                text = "the worker stopped before the task ended"
                outcome = outcomes.failed(job.lease_id, WORKER_STOPPED, text)
                lines.ended(job, outcome, self.attempts)
                self._outbox.outcome(outcome)
        self._settle()

    # Now and then ------------------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Once a second: what waits too long goes back, what does not yield is named."""
        while True:
            await asyncio.sleep(TICK_S)
            self._hand_back_excess()
            self._drop_lapsed()
            for lease_id in set(self.overdue()) - self._named_overdue:
                task = self.held_jobs[lease_id].assignment.task.name
                _log.warning("task_does_not_yield", extra={"fields": {"task": task, "lease": lease_id}})
            self._named_overdue = set(self.overdue())

    def _hand_back_excess(self) -> None:
        now = time.monotonic()
        for kind, executor in self.executors.items():
            elapsed_s = [
                now - job.began_s for job in self.held_jobs.values() if job.began_s and job.kind == kind
            ]
            if len(elapsed_s) >= executor.slots:  # none of them has ended for that long
                self._pace.runs_for(kind, min(elapsed_s))
            late = self._pace.excess(kind, len(executor.waiting))
            for job in list(executor.waiting.values())[::-1][:late]:
                if self._claim(job):
                    self._give_back(job, "drained")
        self._settle()

    def _drop_lapsed(self) -> None:
        """Without a broker, do not begin what others will have been given by now."""
        if self._session is None or self._session.connected:
            return
        silent_s = self._session.silent_s
        for executor in self.executors.values():
            for job in list(executor.waiting.values()):
                lease_s = job.assignment.lease.ToNanoseconds() / 1e9
                if lease_s and silent_s > lease_s and self._claim(job):
                    job.lost = True
                    self._give_back(job, "lease_lost")
        self._settle()
