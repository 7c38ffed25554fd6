"""Running a processor in a test: records in, what was published out."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from taskraft.streams import Record
from taskraft.streams._plan import Output, Plan
from taskraft.streams._processor import Processor
from tests.client.streams_model import Event

PUBLISH_MS = 1_767_225_600_000  # 2026-01-01T00:00Z


def record(sequence: int, body: Any, *, publish_ms: int = PUBLISH_MS, **headers: str) -> Record:
    return Record(
        sequence=sequence, body=json.dumps(body).encode(), publish_ms=publish_ms, headers=headers, key="k"
    )


def records(events: Iterable[Event]) -> list[Record]:
    return [record(number, event._asdict()) for number, event in enumerate(events, 1)]


def settle(processor: Processor) -> None:
    while processor.step():
        pass


class Run:
    """A processor whose cuts are kept, as the cluster would keep them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stored: dict[str, bytes] = {}
        self.outputs: list[Output] = []
        self.processor = Processor(plan, self.stored)
        settle(self.processor)

    def take(self, given: Sequence[Record]) -> None:
        for one in given:
            self.processor.take(one)
            settle(self.processor)

    def store(self) -> None:
        cut = self.processor.cut()
        self.stored |= cut.state
        self.outputs += cut.outputs

    def begin_again(self) -> None:
        """Another processor takes over from what is stored."""
        self.processor = Processor(self.plan, self.stored)

    def published(self, queue: str = "results") -> list[Any]:
        return [json.loads(output.body) for output in self.outputs if output.queue == queue]


def run(plan: Plan, given: Sequence[Record]) -> Run:
    done = Run(plan)
    done.take(given)
    done.store()
    return done
