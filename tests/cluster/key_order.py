"""What clients saw of a queue whose messages go one after the other of each key, and whether that order was kept.

Times (`at_ms`) are of the machine's monotonic clock, which all processes share. A message is begun after it was received,
and done or given back before the broker is told, so what the broker orders, these times order, too. `problems` knows the
promise and nothing of the implementation:

- of each key messages begin in the order of the queue: one may begin again, but none after a later one;
- when a message begins, all earlier ones of its key are done; what was given back, or was with a consumer that went away,
  must have begun again and be done.

A message that a new leader gives to somebody else is where it began last: who had it before does not count any more.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

What = Literal["published", "begun", "done", "back", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to a client; `left` is of a consumer and has no message."""

    what: What
    at_ms: float
    who: str
    key: str = ""
    sequence: int = 0
    body: str = ""


def dump(event: Event) -> str:
    """One line of JSON."""
    return json.dumps(asdict(event))


class Reader:
    """Reads events from files that grow: whole lines only, a program that was killed may have left half a line."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._read_bytes: dict[Path, int] = {}

    def read(self, paths: Iterable[Path]) -> list[Event]:
        """All that these files hold, in no order."""
        for path in paths:
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(self._read_bytes.setdefault(path, 0))
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read_bytes[path] += len(whole) + len(newline)
            self.events += [Event(**json.loads(line)) for line in whole.decode().splitlines()]
        return self.events


def problems(events: Iterable[Event]) -> list[str]:
    """What broke the promise, in words; empty if it was kept."""
    by_key: dict[str, list[Event]] = defaultdict(list)
    left: list[Event] = []
    for event in sorted(events, key=lambda each: (each.at_ms, each.what == "begun")):
        if event.what == "left":
            left.append(event)
        else:
            by_key[event.key].append(event)
    return [problem for key, story in by_key.items() if key for problem in _of_key(key, story, left)]


def unfinished(events: Iterable[Event]) -> set[int]:
    """The sequences that were published and never done."""
    events = list(events)
    done = {event.sequence for event in events if event.what == "done"}
    return {event.sequence for event in events if event.what == "published"} - done


def _of_key(key: str, story: list[Event], left: list[Event]) -> Iterator[str]:
    published = sorted(event.sequence for event in story if event.what == "published")
    state: dict[int, Event] = {}
    newest = 0
    merged = sorted([*story, *left], key=lambda each: (each.at_ms, each.what == "begun"))
    for event in merged:
        if event.what == "left":
            for sequence, last in state.items():
                if last.what == "begun" and last.who == event.who:
                    state[sequence] = event
        elif event.what == "begun":
            if event.sequence < newest:
                yield f"{key}: {event.sequence} begins at {event.who} after {newest} had begun"
            newest = max(newest, event.sequence)
            for earlier in published:
                if earlier >= event.sequence:
                    break
                was = state.get(earlier)
                if was is None or was.what != "done":
                    how = f"{was.what} at {was.who}" if was else "not begun"
                    yield f"{key}: {event.sequence} begins at {event.who} while {earlier} is {how}"
            state[event.sequence] = event
        elif event.what != "published":
            was = state.get(event.sequence)
            if was is not None and was.who == event.who:
                state[event.sequence] = event
