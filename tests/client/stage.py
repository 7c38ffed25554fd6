"""A broker in a thread of its own, for tests of what blocks."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from taskraft import App
from taskraft._bridge import Bridge
from tests.client.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class Stage:
    """A broker of three nodes, led by n1, and what a test does with it from outside of its thread."""

    def __init__(self, bridge: Bridge, broker: Broker) -> None:
        self._bridge = bridge
        self.broker = broker

    @property
    def addresses(self) -> str:
        return self.broker.addresses

    def work(self, app: App) -> int:
        """Run all tasks that are ready; returns how many."""
        return self._bridge.call(lambda: self.broker.tasks.work(app))

    def do(self, what: Callable[[Broker], T]) -> T:
        return self._bridge.call(lambda: what(self.broker))

    def kill(self) -> None:
        """End all nodes at once."""
        for node in self.broker.nodes.values():
            self._bridge.run(node.kill())

    def lead(self, node_id: str) -> None:
        self._bridge.run(self.broker.lead(node_id))

    def until(self, condition: Callable[[Broker], Any], timeout_s: float = 10.0) -> None:
        """Return when `condition` holds; TimeoutError if it does not in time."""
        end_s = time.monotonic() + timeout_s
        while not self.do(condition):
            if time.monotonic() > end_s:
                raise TimeoutError
            time.sleep(0.005)


@contextmanager
def staged() -> Iterator[Stage]:
    bridge, broker = Bridge(), Broker()
    bridge.run(broker.start("n1", "n2", "n3"))
    try:
        yield Stage(bridge, broker)
    finally:
        bridge.run(broker.close())
        bridge.stop()
