"""What all policies have in common: the facts that they order by, and how an order is told."""

from typing import Final, NamedTuple, Protocol

Rank = tuple[float, int, int]

# Every time in the contract is a timestamp up to the year 9999: 253,402,300,799,999 ms, which is below this.
TIME_MS_LIMIT: Final = 1 << 48


class Facts(NamedTuple):
    """What is known of a task when it becomes ready. Invariant: its times are in [0, TIME_MS_LIMIT)."""

    number: int  # grows with the order of submission
    order_ms: int  # when it became ready, or went to the back of its queue
    priority: int
    size_ms: int  # expected run time
    deadline_ms: int  # 0: none


class Head(NamedTuple):
    """The first task of a lane: the one with the least (key, number)."""

    key: int
    number: int
    tenant: str


class Policy(Protocol):
    """Which task is next."""

    @property
    def name(self) -> str:
        """As in the contract: the SchedulingPolicy without its prefix."""

    @property
    def ordering(self) -> str:
        """Names the function `key`: policies with equal orderings give equal keys to equal facts, now and later."""

    @property
    def slice_ms(self) -> int | None:
        """How long a task runs before it is asked to yield; None: to its end."""

    @property
    def rank_is_static(self) -> bool:
        """True if the rank of a lane changes only with its head."""

    def key(self, facts: Facts) -> int:
        """The place of a task in its lane, a signed 64-bit integer: least first, ties by number. Pure, and forever the
        same for the same `ordering`: keys are stored, and compared with those that other versions made.
        """

    def rank(self, head: Head) -> Rank:
        """The place of a lane among the lanes of its queue at this moment: least first. Different for different heads."""

    def opened(self, tenant: str) -> None:
        """A lane of this tenant that had no waiting task has one."""

    def closed(self, tenant: str) -> None:
        """A lane of this tenant has no waiting task any more."""

    def started(self, tenant: str, charged_ms: int) -> None:
        """A task was leased: `charged_ms` is its expected run time."""

    def settled(self, tenant: str, charged_ms: int, run_ms: int) -> None:
        """A lease ended, in whatever way, after `run_ms`; `charged_ms` is what `started` was told."""


class KeyOrder:
    """A policy whose lanes stand in the order of their heads' keys, and which does no accounting."""

    slice_ms: int | None = None
    rank_is_static: bool = True

    def rank(self, head: Head) -> Rank:
        """By key, then by number."""
        return (0.0, head.key, head.number)

    def opened(self, tenant: str) -> None:
        """Nothing to be counted."""

    def closed(self, tenant: str) -> None:
        """Nothing to be counted."""

    def started(self, tenant: str, charged_ms: int) -> None:
        """Nothing to be charged."""

    def settled(self, tenant: str, charged_ms: int, run_ms: int) -> None:
        """Nothing to be corrected."""
