"""What was published, acknowledged and processed, and what must be true of it."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from rich.markup import escape
from rich.table import Table

from taskraft.demo.workflow import WorkflowStory
from taskraft.terminal.report import human_bytes, human_count, pairs

WRONG_SHOWN = 5
FRESH, REDELIVERED, NOT_RECORDED, PUBLISHED_TWICE = (
    "first delivery",
    "redelivered, and marked so: attempt above 1",
    "delivered again: the dead leader had not recorded its delivery, or the ack never reached it",
    "published twice",
)


@dataclass(frozen=True, slots=True)
class Result:
    """A consumer's count of one file."""

    path: str
    sequence: int
    attempt: int
    consumer: str
    tokens: Counter[str]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        fields = json.loads(body)
        return cls(**(fields | {"tokens": Counter(fields["tokens"])}))


@dataclass(slots=True)
class Ledger:
    """Everything that happened. Invariant: `totals` has each file once, however often it was processed."""

    published: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    published_bytes: int = 0
    sequences: dict[str, int] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    by_consumer: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)

    @property
    def processed(self) -> int:
        return len(self.sequences)

    @property
    def lost(self) -> set[str]:
        """Acknowledged, and processed by nobody."""
        return self.acknowledged - self.sequences.keys()

    def note(self, result: Result) -> str:
        """Take a result; returns FRESH, or why this file was processed again."""
        self.by_consumer[result.consumer] += 1
        if result.path not in self.sequences:
            self.sequences[result.path] = result.sequence
            self.totals += result.tokens
            return FRESH
        if result.sequence != self.sequences[result.path]:
            cause = PUBLISHED_TWICE
        else:
            cause = REDELIVERED if result.attempt > 1 else NOT_RECORDED
        self.duplicates[cause] += 1
        return cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """The leader's end: who it was, who came after it, and how long nothing was acknowledged.

    There is one only if the killed node came back and caught up.
    """

    old_leader: str
    new_leader: str
    kill_to_ack_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The end of the story."""

    ledger: Ledger
    failover: Failover
    expected: Counter[str]
    cluster_s: float
    single_process_s: float

    @property
    def good(self) -> bool:
        """Nothing lost, nothing published twice, everything acknowledged, the totals right."""
        ledger = self.ledger
        return (
            not ledger.lost
            and ledger.published == ledger.acknowledged == set(ledger.sequences)
            and PUBLISHED_TWICE not in ledger.duplicates
            and ledger.totals == self.expected
        )

    def table(self) -> Table:
        ledger, failover = self.ledger, self.failover
        causes = [f"{count} {cause}" for cause, count in ledger.duplicates.items()]
        consumers = ", ".join(f"{name} {count}" for name, count in sorted(ledger.by_consumer.items()))
        rows = {
            "files published": f"{human_count(len(ledger.published))} ({human_bytes(ledger.published_bytes)})",
            "acknowledged": human_count(len(ledger.acknowledged)),
            "processed": f"{human_count(ledger.processed)} in {self.cluster_s:.1f} s ({consumers})",
            "duplicates": "\n".join([human_count(ledger.duplicates.total()), *causes]),
            "lost": f"[red]{human_count(len(ledger.lost))}[/]" if ledger.lost else "[green]0[/]",
            "kill -9 to the next acknowledged publish": f"[bold]{failover.kill_to_ack_s * 1000:.0f} ms[/] "
            f"({failover.old_leader} killed, {failover.new_leader} leads)",
            f"{failover.old_leader} after its restart": "has caught up",
            "tokens counted by the consumers": human_count(ledger.totals.total()),
            "tokens counted by one process": f"{human_count(self.expected.total())} in {self.single_process_s:.1f} s",
            "totals": equality(ledger.totals, self.expected),
        }
        return pairs(rows, title="[bold]The standard library through a cluster whose leader was killed[/]")

    def differences(self) -> str:
        return differences(self.ledger.totals, self.expected)


def differences(counted: Counter[str], expected: Counter[str]) -> str:
    """The kinds of tokens that were counted differently, for people."""
    return ", ".join(
        f"{kind} {counted[kind]} instead of {expected[kind]}"
        for kind in sorted(expected.keys() | counted.keys())
        if counted[kind] != expected[kind]
    )


def equality(counted: Counter[str], expected: Counter[str]) -> str:
    if counted == expected:
        return f"[green]equal, in all {len(expected)} kinds of tokens[/]"
    return f"[red]different: {differences(counted, expected)}[/]"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowVerdict:
    """The end of the second part."""

    story: WorkflowStory
    expected: Counter[str]

    @property
    def good(self) -> bool:
        """Every task succeeded, nothing ran but what had to, and the totals are right."""
        return not self.story.comparison.unexplained and self.story.totals == self.expected

    def table(self) -> Table:
        story, comparison = self.story, self.story.comparison
        types = Counter(task.type for task in story.tasks)
        tasks = ", ".join(f"{count} {type_}" for type_, count in types.items())
        workers = Counter(task.worker_id for task in story.tasks)
        ended_by = ", ".join(f"{name} {count}" for name, count in sorted(workers.items()))
        wrong = [f"[red]{escape(one)}[/]" for one in comparison.unexplained[:WRONG_SHOWN]]
        rows = {
            "tasks": f"{len(story.tasks)} ({tasks}), submitted in one commit",
            "ended well": f"{sum(task.state == 'succeeded' for task in story.tasks)} in {story.seconds:.1f} s ({ended_by})",
            "attempts": f"{comparison.attempts}: {len(story.tasks)}, and {comparison.lost_attempts} more of tasks that "
            f"{story.killed_worker} had when it was killed",
            "functions really called": f"{comparison.executions}: {human_count(comparison.repeated, 'task')} ran twice, "
            f"as {story.killed_worker} could not finish",
            "ran again after they had ended": "\n".join([f"[red]{len(wrong)}[/]", *wrong])
            if wrong
            else "[green]0[/]",
            "kill -9 of the leader to the next end of a task": f"[bold]{story.kill_to_end_s * 1000:.0f} ms[/] "
            f"({story.old_leader} killed, {story.new_leader} leads)",
            "tokens counted by the workflow": human_count(story.totals.total()),
            "totals": equality(story.totals, self.expected),
        }
        return pairs(rows, title="[bold]The same as a workflow, whose worker and leader were killed[/]")
