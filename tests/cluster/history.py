"""What clients saw of one queue, and whether a queue that keeps its promises could have shown it to them.

A history is a list of events in the order in which one process recorded them, so their times (`at_ms`, the
monotonic clock of the machine) never go back. `check` knows the promises and nothing of the implementation:

- nothing acknowledged is lost: a body whose publish was answered was delivered by the end (the history must
  have been drained);
- nothing is unexpected: only published bodies arrive, unchanged, under the sequence that the answer named,
  and never one whose publish was refused for good;
- a body is stored once, whatever retries and failovers its publish went through;
- a message whose acknowledgement was confirmed never comes again, and one that comes again for another
  reason does so after something that explains it: a lease that ran out, a nack, a consumer that left, or a
  change of leader (`Disturbed`);
- the queue is FIFO: a producer's messages have the order in which it published them, and a consumer sees
  the queue's order except where one of the causes above sends messages back.
"""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, assert_never


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One call of a producer: bodies `first` to `last`, counted per producer from 1, and how it ended.

    `ok`: stored from `first_sequence` on; `refused`: certainly not stored; `unknown`: either.
    """

    producer: str
    first: int
    last: int
    outcome: Literal["ok", "refused", "unknown"]
    began_ms: float
    at_ms: float
    first_sequence: int = 0
    reason: str = ""

    def __post_init__(self) -> None:
        assert 1 <= self.first <= self.last
        assert self.began_ms <= self.at_ms
        assert (self.first_sequence > 0) == (self.outcome == "ok")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Messages with successive sequences arrived; `bodies` are the names that producers gave them."""

    consumer: str
    first_sequence: int
    bodies: tuple[str, ...]
    attempt: int
    at_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Acked:
    """A consumer's acknowledgement of these sequences was confirmed as committed."""

    consumer: str
    first: int
    last: int
    at_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Nacked:
    """A consumer gave these sequences back."""

    consumer: str
    first: int
    last: int
    at_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A consumer went away; what it held and had not acknowledged may go to others."""

    consumer: str
    at_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbed:
    """From `began_ms` to `at_ms` deliveries may come again: a change of leader, or a fault under way."""

    cause: str
    began_ms: float
    at_ms: float


Event = Published | Delivered | Acked | Nacked | Left | Disturbed
_KINDS: dict[str, type[Event]] = {
    "published": Published,
    "delivered": Delivered,
    "acked": Acked,
    "nacked": Nacked,
    "left": Left,
    "disturbed": Disturbed,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def dump(event: Event) -> str:
    """One line of JSON."""
    return json.dumps({"event": _NAMES[type(event)], **asdict(event)})


def load(line: str) -> Event:
    """The event that `dump` wrote."""
    values: dict[str, Any] = json.loads(line)
    kind = _KINDS[values.pop("event")]
    assert values.keys() <= {each.name for each in fields(kind)}, line
    if "bodies" in values:
        values["bodies"] = tuple(values["bodies"])
    return kind(**values)


def read(path: Path) -> list[Event]:
    """All events of a file; a last line that is still being written is left out."""
    return [load(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a history amounts to; `problems` is empty if every promise was kept."""

    published: int
    acknowledged: int
    refused: int
    unknown: int
    recovered: int
    """Bodies of unknown outcome that did arrive."""
    delivered: int
    redelivered: dict[str, int]
    """Deliveries after the first one, by their cause."""
    problems: tuple[str, ...]

    def __str__(self) -> str:
        causes = ", ".join(f"{count} {cause}" for cause, count in sorted(self.redelivered.items())) or "none"
        text = (
            f"{self.published} published ({self.acknowledged} acknowledged, {self.refused} refused, "
            f"{self.unknown} unknown of which {self.recovered} arrived), {self.delivered} delivered, "
            f"again: {causes}"
        )
        return "\n".join([text, *self.problems])


def check(history: Iterable[Event], *, lease_ms: float) -> Verdict:
    """Judges a drained history of a queue whose leases last `lease_ms`."""
    tale = _Tale(lease_ms)
    for event in sorted(history, key=lambda each: each.at_ms):
        tale.add(event)
    problems = [
        *_lost(tale),
        *_unexpected(tale),
        *_stored_twice(tale),
        *_unexplained(tale),
        *_out_of_publish_order(tale),
        *_out_of_delivery_order(tale),
    ]
    again = Counter(cause for _, _, cause in tale.redelivered)
    return Verdict(
        published=len(tale.outcomes),
        acknowledged=sum(outcome == "ok" for outcome in tale.outcomes.values()),
        refused=sum(outcome == "refused" for outcome in tale.outcomes.values()),
        unknown=sum(outcome == "unknown" for outcome in tale.outcomes.values()),
        recovered=sum(tale.outcomes.get(body) == "unknown" for body in tale.sequences),
        delivered=sum(len(times) for times in tale.deliveries.values()),
        redelivered=dict(again),
        problems=_shortened(problems),
    )


@dataclass(slots=True)
class _Delivery:
    consumer: str
    attempt: int
    at_ms: float


@dataclass(slots=True)
class _Tale:
    """The events of a history, one message at a time."""

    lease_ms: float
    outcomes: dict[str, str] = field(default_factory=dict)
    promised: dict[str, int] = field(default_factory=dict)
    """Body to the sequence that the answer of its publish named."""
    sequences: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Body to the sequences under which it arrived, each once."""
    deliveries: dict[int, list[_Delivery]] = field(default_factory=lambda: defaultdict(list))
    confirmed_ms: dict[int, float] = field(default_factory=dict)
    nacked_ms: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    left_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    disturbances: list[Disturbed] = field(default_factory=list)
    redelivered: list[tuple[int, _Delivery, str]] = field(default_factory=list)
    """Sequence, the later delivery and its cause; filled by `_unexplained`."""

    def add(self, event: Event) -> None:
        match event:
            case Published():
                for offset, number in enumerate(range(event.first, event.last + 1)):
                    body = f"{event.producer}:{number}"
                    self.outcomes[body] = event.outcome
                    if event.outcome == "ok":
                        self.promised[body] = event.first_sequence + offset
            case Delivered():
                for sequence, body in enumerate(event.bodies, start=event.first_sequence):
                    if sequence not in self.sequences[body]:
                        self.sequences[body].append(sequence)
                    self.deliveries[sequence].append(_Delivery(event.consumer, event.attempt, event.at_ms))
            case Acked():
                for sequence in range(event.first, event.last + 1):
                    self.confirmed_ms.setdefault(sequence, event.at_ms)
            case Nacked():
                for sequence in range(event.first, event.last + 1):
                    self.nacked_ms[sequence].append(event.at_ms)
            case Left():
                self.left_ms[event.consumer].append(event.at_ms)
            case Disturbed():
                self.disturbances.append(event)
            case _:
                assert_never(event)

    def disturbance(self, from_ms: float, to_ms: float) -> str:
        """The cause of a disturbance between the two times, or nothing."""
        for each in self.disturbances:
            if each.began_ms <= to_ms and from_ms <= each.at_ms:
                return each.cause
        return ""

    def cause(self, sequence: int, before: _Delivery, after: _Delivery) -> str:
        """Why a message came again, or nothing if there is no reason."""
        if self.confirmed_ms.get(sequence, after.at_ms) < after.at_ms:
            return ""
        if any(before.at_ms <= at_ms <= after.at_ms for at_ms in self.nacked_ms[sequence]):
            return "nacked"
        if any(before.at_ms <= at_ms <= after.at_ms for at_ms in self.left_ms[before.consumer]):
            return "consumer left"
        if disturbance := self.disturbance(before.at_ms, after.at_ms):
            return disturbance
        return "lease ran out" if after.at_ms - before.at_ms >= self.lease_ms else ""


def _lost(tale: _Tale) -> Iterator[str]:
    for body in tale.promised:
        if body not in tale.sequences:
            yield f"lost: {body} was acknowledged as sequence {tale.promised[body]} and never arrived"


def _unexpected(tale: _Tale) -> Iterator[str]:
    for body, sequences in tale.sequences.items():
        if body not in tale.outcomes:
            yield f"unexpected: {body} arrived as sequence {sequences[0]} and was never published"
        elif tale.outcomes[body] == "refused":
            yield f"unexpected: {body} arrived as sequence {sequences[0]} though its publish was refused"
        elif body in tale.promised and tale.promised[body] not in sequences:
            yield f"moved: {body} was acknowledged as {tale.promised[body]} and arrived as {sequences[0]}"


def _stored_twice(tale: _Tale) -> Iterator[str]:
    for body, sequences in tale.sequences.items():
        if len(sequences) > 1:
            yield f"stored twice: {body} arrived under the sequences {sequences}"
    holders: dict[int, str] = {}
    for body, sequence in [
        *((body, sequence) for body, sequences in tale.sequences.items() for sequence in sequences),
        *tale.promised.items(),
    ]:
        if holders.setdefault(sequence, body) != body:
            yield f"two in one place: {body} and {holders[sequence]} share the sequence {sequence}"


def _unexplained(tale: _Tale) -> Iterator[str]:
    for sequence, deliveries in tale.deliveries.items():
        for before, after in itertools.pairwise(deliveries):
            cause = tale.cause(sequence, before, after)
            tale.redelivered.append((sequence, after, cause or "unexplained"))
            if cause:
                continue
            if tale.confirmed_ms.get(sequence, after.at_ms) < after.at_ms:
                late_ms = after.at_ms - tale.confirmed_ms[sequence]
                yield (
                    f"came back: sequence {sequence} reached {after.consumer} {late_ms:.0f} ms "
                    "after its acknowledgement was confirmed"
                )
            else:
                yield (
                    f"unexplained: sequence {sequence} reached {before.consumer} and "
                    f"{after.at_ms - before.at_ms:.0f} ms later {after.consumer} (attempt {after.attempt})"
                )


def _out_of_publish_order(tale: _Tale) -> Iterator[str]:
    """Only answered publishes: one of unknown outcome may overtake, its producer did not wait for it."""
    high: dict[str, tuple[int, int]] = {}
    known = {**{body: each[0] for body, each in tale.sequences.items()}, **tale.promised}
    numbered = [(*_parts(body), known[body]) for body, outcome in tale.outcomes.items() if outcome == "ok"]
    for producer, number, sequence in sorted(numbered):
        before, at = high.get(producer, (0, 0))
        if sequence <= at:
            yield f"not FIFO: {producer}:{number} is at {sequence}, after {producer}:{before} at {at}"
        else:
            high[producer] = (number, sequence)


def _out_of_delivery_order(tale: _Tale) -> Iterator[str]:
    """A consumer's first deliveries rise, unless something between the two sent messages back."""
    firsts = [(times[0].at_ms, sequence, times[0]) for sequence, times in tale.deliveries.items()]
    high: dict[str, tuple[int, float]] = {}
    for at_ms, sequence, delivery in sorted(firsts, key=lambda each: (each[0], each[1])):
        top, top_ms = high.get(delivery.consumer, (0, 0.0))
        if sequence > top:
            high[delivery.consumer] = (sequence, at_ms)
        elif delivery.attempt == 1 and not tale.disturbance(top_ms, at_ms):
            yield f"not FIFO: {delivery.consumer} first saw {sequence} after {top}"


def _parts(body: str) -> tuple[str, int]:
    producer, _, number = body.rpartition(":")
    return producer, int(number)


def _shortened(problems: list[str], per_kind: int = 5) -> tuple[str, ...]:
    """A few problems of each kind and how many more there are: a broken run has thousands."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        kinds[problem.partition(":")[0]].append(problem)
    shown: list[str] = []
    for kind, each in kinds.items():
        shown += each[:per_kind]
        if len(each) > per_kind:
            shown.append(f"{kind}: {len(each) - per_kind} more")
    return tuple(shown)
