"""What stream processing has to come to, found the slow way: every window is looked at anew for every event."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

from taskraft.streams import Aggregation, Record, Windows, count, stream
from taskraft.streams._plan import Plan


class Event(NamedTuple):
    """An order: where, and when, in milliseconds."""

    key: str
    time_ms: int


@dataclass(frozen=True)
class Model:
    """Counts events by key and window, as the documentation says it."""

    windows: Windows
    lateness_ms: int = 0
    disorder_ms: int = 0

    def covers(self, start_ms: int, event: Event) -> bool:
        return start_ms <= event.time_ms < start_ms + self.windows.size_ms

    def starts(self, events: list[Event]) -> list[int]:
        """Every aligned start whose window could hold one of the events."""
        size, every = self.windows.size_ms, self.windows.every_ms
        if not events:
            return []
        first, last = min(event.time_ms for event in events), max(event.time_ms for event in events)
        numbers = range((first - size) // every - 1, last // every + 2)
        return [number * every for number in numbers]

    def totals(self, events: list[Event]) -> dict[tuple[int, str], int]:
        """How many events each window has if none is too late and all windows end."""
        found: dict[tuple[int, str], int] = defaultdict(int)
        for start in self.starts(events):
            for event in events:
                if self.covers(start, event):
                    found[start, event.key] += 1
        return dict(found)

    def emissions(self, events: list[Event]) -> tuple[list[tuple[int, str, int, bool]], list[Event]]:
        """Everything that is published, in order, as (start, key, count, update); and the events that came too late."""
        counts: dict[tuple[int, str], int] = defaultdict(int)
        published: set[tuple[int, str]] = set()
        out: list[tuple[int, str, int, bool]] = []
        late: list[Event] = []
        starts, size = self.starts(events), self.windows.size_ms
        watermark = None
        for event in events:
            open_starts = [
                start
                for start in starts
                if self.covers(start, event)
                and (watermark is None or watermark < start + size + self.lateness_ms)
            ]
            if not open_starts:
                late.append(event)
            for start in open_starts:
                slot = (start, event.key)
                counts[slot] += 1
                if watermark is not None and start + size <= watermark:
                    out.append((*slot, counts[slot], slot in published))
                    published.add(slot)
            if watermark is None or event.time_ms - self.disorder_ms > watermark:
                watermark = event.time_ms - self.disorder_ms
            due = [slot for slot in counts if slot not in published and slot[0] + size <= watermark]
            out += [(*slot, counts[slot], False) for slot in sorted(due)]
            published.update(due)
        return out, late


def orders(
    windows: Windows,
    *,
    lateness_ms: int = 0,
    disorder_ms: int = 0,
    aggregation: Aggregation[Any, Any] | None = None,
) -> Plan:
    """A topology whose records are {"key", "time_ms"}, and whose results are [start, key, value, update]."""
    return (
        stream("orders")
        .map(Record.json)
        .key_by(lambda order: str(order["key"]))
        .window(
            windows,
            time=lambda order: order["time_ms"] / 1_000,
            allowed_lateness=lateness_ms / 1_000,
            out_of_orderness=disorder_ms / 1_000,
            late_to="late",
        )
        .aggregate(aggregation or count())
        .to(
            "results",
            encode=lambda result: [
                result.window.start_ms if result.window else 0,
                result.key,
                result.value,
                result.update,
            ],
        )
        .plan
    )
