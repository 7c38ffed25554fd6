"""Higher priority first, and waiting counts: `aging_ms` of waiting is worth one priority.

So of two tasks the one with the greater `priority + waited / aging` is first. Both sides grow equally while two tasks
wait, hence the order of a pair never changes and a key can be stored: order - priority * aging, least first. The wait
is bounded: a task is overtaken only by tasks of a higher priority that became ready less than
(their priority - its priority) * aging after it. Without aging (0) priority decides alone, and a task may wait forever.

Aging is the classic remedy for starvation: Silberschatz, Galvin, Gagne, Operating System Concepts, "Priority Scheduling".
"""

from typing import Final

from node.policies.order import TIME_MS_LIMIT, Facts, KeyOrder

AGING_MS_DEFAULT: Final = 60_000


class Priority(KeyOrder):
    """Higher priority first."""

    name: str = "PRIORITY"

    def __init__(self, *, aging_ms: int) -> None:
        """Waiting `aging_ms` counts as much as one priority more; 0: waiting does not count."""
        assert aging_ms >= 0
        self.ordering: str = f"priority:{aging_ms}"
        self._step_ms = aging_ms or TIME_MS_LIMIT

    def key(self, facts: Facts) -> int:
        """When a task of priority 0 must have become ready to be its equal."""
        return facts.order_ms - facts.priority * self._step_ms
