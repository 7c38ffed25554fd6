"""Earlier deadline first; tasks without one come last, as they were submitted.

If any order meets all deadlines of tasks that are ready together on one worker, this one does (J. R. Jackson,
"Scheduling a production line to minimize maximum tardiness", UCLA 1955; Liu and Layland, JACM 20, 1973).
"""

from typing import Final

from node.policies.order import TIME_MS_LIMIT, Facts, KeyOrder

NO_DEADLINE: Final = 1 << 62
assert NO_DEADLINE > TIME_MS_LIMIT


class EarliestDeadline(KeyOrder):
    """Earlier deadline first."""

    name: str = "EARLIEST_DEADLINE"
    ordering: str = "deadline"

    def key(self, facts: Facts) -> int:
        """Its deadline."""
        return facts.deadline_ms or NO_DEADLINE
