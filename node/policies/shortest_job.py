"""Shorter expected run time first, those of equal length as they were submitted.

Among all orders of tasks that are ready together on one worker this one has the least mean completion time
(W. E. Smith, "Various optimizers for single-stage production", Naval Research Logistics Quarterly 3, 1956). Long tasks
may wait for as long as shorter ones arrive.
"""

from node.policies.order import Facts, KeyOrder


class ShortestJobFirst(KeyOrder):
    """Shorter expected run time first."""

    name: str = "SHORTEST_JOB_FIRST"
    ordering: str = "size"

    def key(self, facts: Facts) -> int:
        """How long it is expected to run."""
        return facts.size_ms
