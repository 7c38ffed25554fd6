"""Planted bugs in what a cluster does with locks: such as a careless change could bring back, and how each one shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from node.locks.keepalive import Grant, KeepAlive, Stream
from node.locks.keeper import Keeper
from node.state import lock_transitions
from node.state.lock_rows import HELD, ClaimRow, LockRow
from node.state.results import Result
from node.state.tables import Position, Tables
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import lock_pb2
from tests.sim.lock_faults import LockRates

Handler = Callable[[Tables, Position, Any], Result]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockBug:
    """One broken part, and how that shows."""

    shows_as: str
    """A regular expression: the violated promise."""
    patches: dict[str, object] = field(default_factory=dict)
    """What is replaced, by its dotted name."""
    handlers: dict[str, Handler] = field(default_factory=dict)
    """What is done for a kind of command."""
    rates: LockRates = field(default_factory=LockRates)
    seed: int = 1
    """Where to begin to look for a run that notices."""


# The state.


def overtakes(tables: Tables, at: Position, command: internal.AcquireLock) -> Result:
    """Whoever could have the lock has it, though others wait."""
    lock = tables.locks.lock(command.name)
    hidden, lock.waiters = lock.waiters, {}
    try:
        return lock_transitions.acquire(tables, at, command)
    finally:
        lock.waiters = hidden | lock.waiters


def admits_one_more(self: LockRow, claim: ClaimRow) -> bool:
    """Holders that were lost are not counted."""
    lost, self.lost = self.lost, {}
    try:
        return admits(self, claim)
    finally:
        self.lost = lost


def granted_as_asked(self: ClaimRow, token: int, time_ms: int) -> ClaimRow:
    """Tokens are those of asking, not of being granted."""
    return replace(self, state=HELD, token=self.number, grant_ms=time_ms)


admits = LockRow.admits


# The leader.


async def keeps_without_asking(
    self: KeepAlive, stream: Stream, sequence: int, grants: Sequence[Grant]
) -> lock_pb2.KeepAliveLockResponse:
    """A keepalive is answered by a leader that does not ask whether it still is one."""
    answer = lock_pb2.KeepAliveLockResponse(sequence=sequence)
    for name, token in grants:
        if self._keeper.keep(name, token, self._clock.now_ms()) is not None:
            answer.kept.add(name=name, token=token)
        else:
            answer.lost.add(name=name, token=token)
    return answer


def counts_from_the_grant(self: Keeper, claim: ClaimRow) -> Any:
    """A lease ends a TTL after its grant on the clock of the log, whoever leads: what was kept alive in the memory of another
    leader is forgotten.
    """
    watched = watch(self, claim)
    if claim.state == HELD:
        length_ms = claim.grant_ms + claim.ttl_ms - self._clock.wall_ms()
        self._end_at(watched, self._clock.now_ms() + max(0, length_ms))
    return watched


def knows_only_its_own(self: Keeper) -> None:
    """A new leader does not look for those who held locks before."""
    self._loaded_to = None


watch = Keeper._watch


BUGS: dict[str, LockBug] = {
    "a keepalive is answered without a barrier": LockBug(
        patches={"node.locks.keepalive.KeepAlive.keep": keeps_without_asking},
        shows_as="s too early",
        rates=LockRates(island=0.02, crash=0.001, pause=0.001),
        seed=7,
    ),
    "leases are counted on the clock of the log": LockBug(
        patches={"node.locks.keeper.Keeper._watch": counts_from_the_grant},
        shows_as="s too early",
    ),
    "a new leader forgets who held what": LockBug(
        patches={"node.locks.keeper.Keeper._load": knows_only_its_own},
        shows_as="of rest in use|of calm locks were had",
    ),
    "those who come later overtake those who wait": LockBug(
        handlers={"acquire_lock": overtakes}, shows_as="who asked earlier"
    ),
    "a lock delay is not kept": LockBug(
        patches={"node.state.lock_rows.LockRow.admits": admits_one_more},
        shows_as="while there is|beyond the permits",
    ),
    "tokens go back": LockBug(
        patches={"node.state.lock_rows.ClaimRow.granted": granted_as_asked}, shows_as="is granted after"
    ),
}
