"""Who takes messages from a queue: Consume streams, and single Pull calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from node import limits
from node.dispatch.ledger import Range
from node.errors import ApiError


@dataclass(frozen=True, slots=True)
class Parcel:
    """`count` successive messages: the parts of an encoded Delivery, `size` bytes in all."""

    first: int
    count: int
    attempt: int
    parts: tuple[bytes | memoryview, ...]
    size: int


@dataclass(slots=True, eq=False)
class Consumer:
    """One Consume stream as dispatch sees it: its credit, and what is to be written to it.

    `signal` is set whenever there is something to write or the stream is to end. At most one parcel waits, so
    that what gathers while it is being written goes into the next one.
    """

    holder: str
    name: str
    served: int = 0
    credit_messages: int = 0
    credit_bytes: int | None = None
    parcel: Parcel | None = None
    acked: list[Range] = field(default_factory=list)
    lost: list[Range] = field(default_factory=list)
    settling: int = 0
    """Acknowledgements that were handed over and are not answered."""
    closing: bool = False
    """Nothing more is delivered; the stream ends when its acknowledgements are answered."""
    error: ApiError | None = None
    """What a stream that is closing ends with; None is a normal end."""
    signal: asyncio.Event = field(default_factory=asyncio.Event)
    drained: asyncio.Event = field(default_factory=asyncio.Event)

    lease_ms: int = 0  # its leases end with the stream

    @property
    def hungry(self) -> bool:
        """True if a parcel may be handed over now."""
        return (
            not self.closing
            and self.parcel is None
            and self.credit_messages > 0
            and (self.credit_bytes is None or self.credit_bytes > 0)
        )

    @property
    def messages_max(self) -> int:
        return self.credit_messages

    @property
    def bytes_max(self) -> int:
        """A parcel's size; its first message may be larger, so that it cannot block the stream."""
        soft = limits.PARCEL_BYTES_SOFT
        return soft if self.credit_bytes is None else min(soft, self.credit_bytes)

    alone: bool = True
    writing: bool = False
    """The parcel that waits is on its way to the consumer."""

    def add_credit(self, messages: int, size: int) -> None:
        """More may be delivered; a stream that never gives bytes is not limited by them."""
        self.credit_messages += messages
        if size:
            self.credit_bytes = (self.credit_bytes or 0) + size

    def take(self, parcel: Parcel) -> None:
        assert self.hungry
        self.credit_messages -= parcel.count
        if self.credit_bytes is not None:
            self.credit_bytes -= parcel.size
        self.parcel = parcel
        self.signal.set()

    def write(self) -> Parcel:
        """The parcel that waits is written now."""
        assert self.parcel
        self.writing = True
        return self.parcel

    def sent(self) -> None:
        """The parcel that waited was written."""
        assert self.parcel
        self.parcel, self.writing = None, False

    def recall(self) -> None:
        """A parcel that is not on its way yet is not delivered after all, and its credit is as before."""
        if self.parcel and not self.writing:
            self.add_credit(self.parcel.count, 0)
            if self.credit_bytes is not None:
                self.credit_bytes += self.parcel.size
            self.parcel = None

    def close(self, error: ApiError | None) -> None:
        """End the stream once its acknowledgements are answered; the first error stays."""
        if not self.closing:
            self.closing, self.error = True, error
        self.signal.set()
        self.drained.set()

    async def drain(self) -> None:
        """Wait until so few answers are unsent that another request may be read."""
        while len(self.acked) + len(self.lost) > limits.ANSWER_RANGES_MAX and not self.closing:
            self.drained.clear()
            await self.drained.wait()


@dataclass(slots=True, eq=False)
class PullCall:
    """One Pull call. `done` is set when it is to be answered: with `error`, or else with `parcels`."""

    holder: str
    messages_max: int
    lease_ms: int
    done: asyncio.Event = field(default_factory=asyncio.Event)
    error: ApiError | None = None
    served: int = 0
    size: int = 0
    full: bool = False
    parcels: list[Parcel] = field(default_factory=list)

    @property
    def hungry(self) -> bool:
        return not self.full and not self.done.is_set() and self.messages_max > 0

    @property
    def bytes_max(self) -> int:
        return limits.DELIVERY_BYTES_MAX - self.size

    @property
    def alone(self) -> bool:
        """Only the first message may be larger than `bytes_max`, which then is the whole answer's limit."""
        return not self.parcels

    def take(self, parcel: Parcel) -> None:
        assert self.hungry
        self.parcels.append(parcel)
        self.messages_max -= parcel.count
        self.size += parcel.size

    def finish(self, error: ApiError | None = None) -> None:
        """Answer now; what was said first stays."""
        if not self.done.is_set():
            self.error = error
            self.done.set()


Taker = Consumer | PullCall
