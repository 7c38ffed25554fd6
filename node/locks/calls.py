"""Calls that wait for a lock. What becomes of their claims is told by the state machine; a claim whose call went away is given
up at once, so that nobody waits for someone who is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from node.errors import ApiError, NotLeader, Refusal, ShuttingDown
from node.locks.keeper import Keeper
from node.state.listener import Silence
from node.state.lock_rows import HELD, WAITING, ClaimRow
from node.state.lock_transitions import not_held
from node.state.results import Refused
from taskraft.internal.v1 import command_pb2

GIVEN_UP: Final = command_pb2.LOCK_ENDING_GIVEN_UP
CALL_GONE: Final = command_pb2.LOCK_ENDING_CALL_GONE


class Call:
    """A call that waits. `outcome` gets the claim as it is held, None if it has ended without that, or an ApiError."""

    def __init__(self, lock: str, number: int) -> None:
        self.lock, self.number = lock, number
        self.outcome: asyncio.Future[ClaimRow | None] = asyncio.get_running_loop().create_future()

    def tell(self, outcome: ClaimRow | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def fail(self, error: ApiError) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
            self.outcome.exception()  # it is no mistake if nobody waits any more


@dataclass(slots=True)
class _Waiting:
    """The calls that wait for one claim: more than one if a call was repeated while the first was still there.

    `found`: one of them was told, or has found, that it is granted, so whoever called may rely on it.
    """

    calls: set[Call] = field(default_factory=set)
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
        call = self._join(lock, number)
        try:
            await asyncio.wait([call.outcome], timeout=wait_s)
            in_time = call.outcome.done()
            if not in_time:
                self._keeper.end(lock, number, GIVEN_UP)
            claim = await asyncio.shield(call.outcome)
            if claim is None and in_time:
                raise ended(lock)
            self._waiting[number].found = True
            return claim
        finally:
            self._leave(call)

    def _join(self, lock: str, number: int) -> Call:
        if self._stopping:
            raise ShuttingDown
        if self._keeper.term is None:
            raise self._not_leader()
        claim = self._keeper.attend(lock, number)
        if claim is None:
            raise ended(lock)
        call = Call(lock, number)
        waiting = self._waiting.setdefault(number, _Waiting())
        waiting.calls.add(call)
        if claim.state == HELD and not self._keeper.is_ending(number):
            waiting.found = True
            call.tell(claim)
        return call

    def _leave(self, call: Call) -> None:
        """A call is over: with an outcome, or because its caller went away."""
        waiting = self._waiting[call.number]
        waiting.calls.discard(call)
        if waiting.calls:
            return
        del self._waiting[call.number]
        gone = not call.outcome.done() or call.outcome.exception() is None
        if gone and not waiting.found:
            self._keeper.end(call.lock, call.number, CALL_GONE)

    # What the state machine and the node say ----------------------------------------------------------------------

    def lock_claim_changed(self, claim: ClaimRow) -> None:
        waiting = self._waiting.get(claim.number)
        if waiting is None or claim.state == WAITING:
            return
        if claim.state == HELD and self._keeper.is_ending(claim.number):
            return  # it was given up already, and is given back
        for call in waiting.calls:
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
        for waiting in self._waiting.values():
            for call in waiting.calls:
                call.fail(error)


def ended(lock: str) -> Refusal:
    """What was asked for by this request has ended, one way or another."""
    why = "what this request had of it has ended: it was released or lost, or the wait was over"
    metadata = {"lock": lock}
    return refusal(Refused(not_held(lock, 0).code, "LOCK_NOT_HELD", f"{lock}: {why}", metadata))


def refusal(refused: Refused) -> Refusal:
    """The same as an error."""
    return Refusal(refused.code, refused.reason, refused.message, refused.metadata)
