"""When what anyone has of a lock ends, unless it is kept alive: leases of holders, places of those who do not come back,
lock delays. What has ended is proposed, and ends when that is applied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import Final, Protocol

from node import limits
from node.clock import Clock
from node.commands import Command, plain
from node.dispatch.queue import Answer
from node.state.listener import Silence
from node.state.lock_rows import ENDED, HELD, LOST, WAITING, ClaimRow, LockRow
from taskraft.internal.v1 import command_pb2

LOADED_AT_ONCE: Final = 500  # claims read when leadership begins: each step holds the event loop
AGAIN_MS: Final = 100  # after an ending was not carried out
VOID_MAX: Final = 64  # entries of the heap that may be void, beside as many as there are valid ones

_BY_TIME: Final = {
    WAITING: command_pb2.LOCK_ENDING_CALL_GONE,
    HELD: command_pb2.LOCK_ENDING_EXPIRED,
    LOST: command_pb2.LOCK_ENDING_DELAY_OVER,
}
"""How a claim in each state ends when its time is over."""


class State(Protocol):
    """The part of the state machine that knows locks."""

    def lock(self, name: str) -> LockRow:
        """The lock of the full name."""
        ...

    def lock_claims(self, lock: str = "", number: int = 0, limit: int = -1) -> list[ClaimRow]:
        """What anyone has of any lock, by name and number, after that claim."""
        ...


@dataclass(slots=True)
class _Watched:
    """A claim, and when it ends on the monotonic clock; None: not by itself.

    `ending` is what was decided and is on its way into the log, or 0; `again` what was decided and was not carried out.
    `looked_at_ms`: that of its entries in the heap that is valid; keepalives move `due_ms` only, which costs nothing.
    """

    claim: ClaimRow
    due_ms: int | None = None
    ending: int = 0
    again: int = 0
    looked_at_ms: int = -1


class Keeper(Silence):
    """Knows until when each claim lasts. Invariant: there is something only while `term` is set.

    `touch` is called whenever `pump` has something to do, `wake` when there are commands for the broker.
    """

    def __init__(
        self, state: State, *, clock: Clock, touch: Callable[[], None], wake: Callable[[], None]
    ) -> None:
        self.term: int | None = None
        self._state, self._clock = state, clock
        self._touch, self._wake = touch, wake
        self._watched: dict[int, _Watched] = {}
        self._heap: list[tuple[int, int]] = []
        """(time, number): when claims are to be looked at. Each that has a `due_ms` is in it, not later than that."""
        self._pump_ms: int | None = None
        """When `pump` will be called by itself."""
        self._decided: deque[_Watched] = deque()
        self._loaded_to: tuple[str, int] | None = None

    # Leadership ---------------------------------------------------------------------------------------------------

    def lead(self, term: int) -> None:
        assert not self._watched
        self.term, self._loaded_to, self._pump_ms = term, ("", 0), None
        self._touch()

    def follow(self) -> None:
        self.term = self._loaded_to = None
        for forgotten in (self._watched, self._heap, self._decided):
            forgotten.clear()

    def reset(self) -> None:
        assert self.term is None, "a leader never installs a snapshot"

    # What the state machine says ----------------------------------------------------------------------------------

    def lock_claim_changed(self, claim: ClaimRow) -> None:
        if self.term is None:
            return
        if claim.state == ENDED:
            self._watched.pop(claim.number, None)
        else:
            self._watch(claim)

    def _watch(self, claim: ClaimRow) -> _Watched:
        """From now on this claim has all its time: as it is new, new in its state, or new to this leader.

        Whoever was granted the lock when its call had gone gives it back all the same: that is on its way.
        """
        watched = self._watched.get(claim.number)
        if watched is None:
            watched = self._watched[claim.number] = _Watched(claim)
        watched.claim, watched.again = claim, 0
        if watched.ending != command_pb2.LOCK_ENDING_CALL_GONE:
            watched.ending = 0
        length_ms = claim.lock_delay_ms if claim.state == LOST else claim.ttl_ms
        self._end_at(watched, self._clock.now_ms() + length_ms)
        return watched

    def _end_at(self, watched: _Watched, due_ms: int) -> None:
        watched.due_ms = due_ms
        self._look_at(watched)
        if len(self._heap) > 2 * len(self._watched) + VOID_MAX:  # most of them have ended before their time
            self._heap.clear()
            for each in self._watched.values():
                if each.due_ms is not None:
                    self._look_at(each)
        if self._pump_ms is None or due_ms < self._pump_ms:
            self._touch()

    def _look_at(self, watched: _Watched) -> None:
        assert watched.due_ms is not None
        watched.looked_at_ms = watched.due_ms
        heappush(self._heap, (watched.due_ms, watched.claim.number))

    # What others ask for ------------------------------------------------------------------------------------------

    def keep(self, name: str, token: int, since_ms: int) -> ClaimRow | None:
        """Let a holder have its TTL from that time at least; None if that token does not hold the lock, or not for long:
        its end is on its way into the log. Believe it only after a barrier: see the package.
        """
        watched = self._held(name, token)
        if watched is None or watched.ending:
            return None
        assert watched.due_ms is not None
        watched.due_ms = max(watched.due_ms, since_ms + watched.claim.ttl_ms)
        return watched.claim

    def _held(self, name: str, token: int) -> _Watched | None:
        claim = self._state.lock(name).holder(token)
        return None if claim is None or self.term is None else self._known(claim)

    def _known(self, claim: ClaimRow) -> _Watched:
        """A claim of the state; one that was not loaded yet is now."""
        return self._watched.get(claim.number) or self._watch(claim)

    def attend(self, name: str, number: int) -> ClaimRow | None:
        """A call waits for what becomes of this claim, which does not end by itself while it WAITS from now on. None if there
        is no such claim, or it is LOST; its end may be on its way into the log all the same: see `is_ending`.
        """
        claim = self._state.lock(name).claims.get(number)
        if claim is None or claim.state == LOST:
            return None
        watched = self._known(claim)
        if claim.state == WAITING and not watched.ending:
            watched.due_ms = None
        return claim

    def is_ending(self, number: int) -> bool:
        """True while the end of a claim is on its way into the log."""
        watched = self._watched.get(number)
        return watched is not None and watched.ending != 0

    def end(self, name: str, number: int, ending: int) -> None:
        """End a claim now, if it is there; an end that is on its way stays what it is."""
        claim = self._state.lock(name).claims.get(number)
        if claim is None or self.term is None:
            return
        watched = self._known(claim)
        if not watched.ending:
            self._decide(watched, ending)
            self._wake()

    def left_ms(self, claim: ClaimRow) -> int:
        """How long it lasts unless it is kept alive."""
        watched = self._known(claim)
        return 0 if watched.due_ms is None else max(0, watched.due_ms - self._clock.now_ms())

    # Pumping ------------------------------------------------------------------------------------------------------

    def pump(self) -> int | None:
        """Decide what has ended; returns when to be called again at the latest, monotonic; None if there is no claim."""
        if self.term is None:
            return None
        self._load()
        now_ms = self._clock.now_ms()
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, number = heappop(self._heap)
            watched = self._watched.get(number)
            if watched is None or watched.due_ms is None or watched.ending or watched.looked_at_ms != at_ms:
                continue
            if watched.due_ms > now_ms:  # it was kept alive
                self._look_at(watched)
            else:
                self._decide(watched, watched.again or _BY_TIME[watched.claim.state])
        if self._decided:
            self._wake()
        if self._loaded_to is not None:
            self._pump_ms = now_ms
        else:
            self._pump_ms = self._heap[0][0] if self._heap else None
        return self._pump_ms

    def _load(self) -> None:
        """Read some more of the claims that there were when leadership began."""
        if self._loaded_to is None:
            return
        claims = self._state.lock_claims(*self._loaded_to, LOADED_AT_ONCE)
        for claim in claims:
            self._known(claim)
        whole = len(claims) == LOADED_AT_ONCE
        self._loaded_to = (claims[-1].lock, claims[-1].number) if whole else None

    def _decide(self, watched: _Watched, ending: int) -> None:
        watched.ending = ending
        self._decided.append(watched)

    # For the broker -----------------------------------------------------------------------------------------------

    def commands(self) -> Iterator[tuple[Command, Answer]]:
        """What was decided."""
        while self._decided:
            ended: list[tuple[_Watched, int]] = []
            while self._decided and len(ended) < limits.LOCKS_KEPT_MAX:
                watched = self._decided.popleft()
                if self._watched.get(watched.claim.number) is watched and watched.ending:
                    ended.append((watched, watched.ending))
            if ended:
                yield _command(ended), partial(self._answered, self.term, ended)

    def _answered(
        self, term: int | None, ended: Sequence[tuple[_Watched, int]], error: BaseException | None
    ) -> None:
        """What has ended is not watched any more, or as something else; the others are decided again."""
        if self.term is None or term != self.term:
            return
        again_ms = self._clock.now_ms() + (AGAIN_MS if error is not None else 0)
        for watched, ending in ended:
            if self._watched.get(watched.claim.number) is watched and watched.ending == ending:
                watched.ending, watched.again = 0, ending
                self._end_at(watched, again_ms)


def _command(ended: Sequence[tuple[_Watched, int]]) -> Command:
    claims = [
        command_pb2.EndedLockClaim(
            lock=watched.claim.lock,
            number=watched.claim.number,
            ending=ending,  # type: ignore[arg-type]
        )
        for watched, ending in ended
    ]
    return plain(command_pb2.Command(end_lock_claims=command_pb2.EndLockClaims(claims=claims)))
