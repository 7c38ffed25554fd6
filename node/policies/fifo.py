"""First in, first out: tasks start in the order in which they became ready, those of one moment as they were submitted.

A task that comes back from a lost lease has the place that it had.
"""

from node.policies.order import Facts, KeyOrder


class Fifo(KeyOrder):
    """As they became ready."""

    name: str = "FIFO"
    ordering: str = "order"

    def key(self, facts: Facts) -> int:
        """When it became ready."""
        return facts.order_ms
