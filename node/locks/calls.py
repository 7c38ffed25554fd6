"""Calls that wait for a lock. What becomes of their claims is told by the state machine; a claim whose call went away is given
up at once, so that nobody waits for someone who is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from node.errors import ApiError, NotLeader, Refusal, ShuttingDown
from node.locks.keeper import Keeper
from node.state.listener import Silence
from node.state.lock_rows import HELD, WAITING, ClaimRow
from node.state.lock_transitions import not_held
from node.state.results import Refused
from taskraft.internal.v1 import command_pb2

GIVEN_UP: Final = command_pb2.LOCK_ENDING_GIVEN_UP
CALL_GONE: Final = command_pb2.LOCK_ENDING_CALL_GONE


Outcome: TypeAlias = ClaimRow | ApiError | None
"""What a call is told: the claim as it is held, None if it has ended without that, or why this leader cannot say."""


class Call:
    """A call that waits; `on_outcome` is called once."""

    def __init__(self, lock: str, number: int, on_outcome: Callable[[Outcome], None]) -> None:
        self.lock, self.number = lock, number
        self.told = self.failed = False
        self._on_outcome = on_outcome

    def tell(self, outcome: Outcome) -> None:
        if not self.told:
            self.told, self.failed = True, isinstance(outcome, ApiError)
            self._on_outcome(outcome)


@dataclass(slots=True)
class _Waiting:
    """The calls that wait for one claim: more than one if a call was repeated while the first was still there.

    `found`: one of them was told, or has found, that it is granted, so whoever called may rely on it.
    """

    calls: dict[Call, None] = field(default_factory=dict)  # in the order in which they came
    found: bool = False


class Calls(Silence):
    """All calls that wait for locks on this leader."""

    def __init__(self, keeper: Keeper, *, not_leader: Callable[[], NotLeader]) -> None:
        self._keeper, self._not_leader = keeper, not_leader
        self._waiting: dict[int, _Waiting] = {}
        self._stopping = False

    async def granted(self, lock: str, number: int, wait_s: float) -> ClaimRow | None:
        """Wait until a claim is held; None if it is not within that time, and has been given up. Raises Refusal
        (LOCK_NOT_HELD) if it ends otherwise, or has ended before, NotLeader, ShuttingDown. If the caller goes away the claim is
        given up, too.
        """
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        call = self.join(lock, number, outcome.set_result)
        try:
            await asyncio.wait([outcome], timeout=wait_s)
            in_time = call.told
            if not in_time:
                self._keeper.end(lock, number, GIVEN_UP)
            claim = await asyncio.shield(outcome)
            if isinstance(claim, ApiError):
                raise claim
            if claim is None and in_time:
                raise ended(lock)
            self.answered(call)
            return claim
        finally:
            self.leave(call)

    def join(self, lock: str, number: int, on_outcome: Callable[[Outcome], None]) -> Call:
        """A call waits for a claim until it leaves. Raises as `granted` does."""
        if self._stopping:
            raise ShuttingDown
        if self._keeper.term is None:
            raise self._not_leader()
        claim = self._keeper.attend(lock, number)
        if claim is None:
            raise ended(lock)
        call = Call(lock, number, on_outcome)
        waiting = self._waiting.setdefault(number, _Waiting())
        waiting.calls[call] = None
        if claim.state == HELD and not self._keeper.is_ending(number):
            waiting.found = True
            call.tell(claim)
        return call

    def answered(self, call: Call) -> None:
        """Whoever called is told what became of its claim, and relies on it from now on."""
        self._waiting[call.number].found = True

    def leave(self, call: Call) -> None:
        """A call is over: it was answered, or its caller went away."""
        waiting = self._waiting[call.number]
        waiting.calls.pop(call, None)
        if waiting.calls:
            return
        del self._waiting[call.number]
        if not call.failed and not waiting.found:
            self._keeper.end(call.lock, call.number, CALL_GONE)

    # What the state machine and the node say ----------------------------------------------------------------------

    def lock_claim_changed(self, claim: ClaimRow) -> None:
        waiting = self._waiting.get(claim.number)
        if waiting is None or claim.state == WAITING:
            return
        if claim.state == HELD and self._keeper.is_ending(claim.number):
            return  # it was given up already, and is given back
        for call in list(waiting.calls):
            call.tell(claim if claim.state == HELD else None)

    def lead(self, term: int) -> None:
        """Calls come when they come."""

    def follow(self) -> None:
        self._end_all(self._not_leader())

    def stop(self) -> None:
        """This node stops: calls go on elsewhere, and find their places there."""
        self._stopping = True
        self._end_all(ShuttingDown())

    def _end_all(self, error: ApiError) -> None:
        for waiting in list(self._waiting.values()):
            for call in list(waiting.calls):
                call.tell(error)


def ended(lock: str) -> Refusal:
    """What was asked for by this request has ended, one way or another."""
    why = "what this request had of it has ended: it was released or lost, or the wait was over"
    metadata = {"lock": lock}
    return refusal(Refused(not_held(lock, 0).code, "LOCK_NOT_HELD", f"{lock}: {why}", metadata))


def refusal(refused: Refused) -> Refusal:
    """The same as an error."""
    return Refusal(refused.code, refused.reason, refused.message, refused.metadata)
