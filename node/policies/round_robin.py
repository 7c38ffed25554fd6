"""In turns: a task runs for a slice, yields a checkpoint and goes to the back of the queue, to resume anywhere.

Of n tasks on one worker none waits longer than n - 1 slices for its next one, so that short tasks end soon without
anybody knowing which they are (L. Kleinrock, "Analysis of a time-shared processor", Naval Research Logistics
Quarterly 11, 1964). The end of a slice sets the task's `order_ms` to that moment.
"""

from typing import Final

from node.policies.order import Facts, KeyOrder

SLICE_MS_DEFAULT: Final = 1_000


class RoundRobin(KeyOrder):
    """In turns of a slice each."""

    name: str = "ROUND_ROBIN"
    ordering: str = "order"

    def __init__(self, *, slice_ms: int) -> None:
        """A task that runs is asked to yield after `slice_ms`."""
        assert slice_ms > 0
        self.slice_ms: int | None = slice_ms

    def key(self, facts: Facts) -> int:
        """When it became ready, or ended its last slice."""
        return facts.order_ms
