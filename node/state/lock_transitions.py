"""What commands do to locks. Whoever gets a lock gets it here, within the command that makes it free.

Lines are first in, first out: whoever cannot have the lock holds up all behind, also those who could. The log knows no
leases: how long a holder was silent, and that nobody waits any more, is seen by the leader and comes as a command that names
the claim. So no clock is asked here, and what happens to a lock is the same on every node.
"""

from typing import Final

from node import limits
from node.state.lock_rows import ENDED, HELD, LOST, WAITING, ClaimRow, LockRow
from node.state.results import Claimed, Code, Done, Refused, Result
from node.state.tables import Position, Tables
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import lock_pb2

ORDINAL_BITS: Final = 12
PLACE_BITS: Final = 12

assert limits.LOCK_WAITERS_MAX < 1 << PLACE_BITS, "all who wait for a lock may get it in one command"


class _Tokens:
    """The tokens of one command: greater than those of all commands before, and growing. There are none for commands that
    stand too far back in their entry, as in one of a leader with thousands of queues at work.
    """

    def __init__(self, at: Position) -> None:
        ordinal = min(at.ordinal, 1 << ORDINAL_BITS)
        self._next = ((at.log_index << ORDINAL_BITS) + ordinal) << PLACE_BITS
        self._end = self._next + (0 if at.ordinal >> ORDINAL_BITS else 1 << PLACE_BITS)

    def next(self) -> int:
        assert self._next < self._end
        self._next += 1
        return self._next - 1

    def enough(self) -> bool:
        """Whether there are some for all who may wait for one lock."""
        return self._end - self._next >= limits.LOCK_WAITERS_MAX


def acquire(tables: Tables, at: Position, command: command_pb2.AcquireLock) -> Result:
    """A claim to a lock: granted if it is free and nobody waits, or else a place in the line."""
    tokens = _Tokens(at)
    if not tokens.enough():
        return _far_back()
    lock = tables.locks.lock(command.name)
    if lock.claims and lock.permits != command.permits:
        return _mismatch(lock, command.permits)
    claim = ClaimRow(
        number=at.stamp,
        lock=command.name,
        state=WAITING,
        mode=command.mode,
        permits=command.permits,
        ttl_ms=command.ttl_ms,
        lock_delay_ms=command.lock_delay_ms,
        create_ms=at.time_ms,
        holder_id=command.holder_id,
        labels=lock_pb2.LockWaiter(labels=command.labels).SerializeToString(deterministic=True),
    )
    if not lock.waiters and lock.admits(claim):
        _put(tables, claim.granted(tokens.next(), at.time_ms))
    elif command.at_once:
        return held(lock)
    elif len(lock.waiters) >= limits.LOCK_WAITERS_MAX:
        message = f"{lock.name}: {len(lock.waiters)} wait for it already"
        return Refused(Code.RESOURCE_EXHAUSTED, "LOCK_LINE_FULL", message, {"lock": lock.name})
    else:
        _put(tables, claim)
    return Claimed(claim.number)


def release(tables: Tables, at: Position, command: command_pb2.ReleaseLock) -> Result:
    """The lock is given back, and goes to the next in line."""
    tokens = _Tokens(at)
    if not tokens.enough():
        return _far_back()
    lock = tables.locks.lock(command.name)
    claim = lock.holder(command.token)
    if claim is None:
        return not_held(command.name, command.token)
    _drop(tables, claim)
    _grant(tables, at, lock, tokens)
    return Done()


def end(tables: Tables, at: Position, command: command_pb2.EndLockClaims) -> Result:
    """Claims end, each unless it is in another state by now; the rest is left for another command if they grant much."""
    tokens = _Tokens(at)
    for ended in command.claims:
        if not tokens.enough():
            break
        lock = tables.locks.lock(ended.lock)
        claim = lock.claims.get(ended.number)
        if claim is None or claim.state not in _ENDS[ended.ending]:
            continue
        if ended.ending == command_pb2.LOCK_ENDING_EXPIRED and claim.lock_delay_ms:
            _put(tables, claim.lost())
        else:
            _drop(tables, claim)
        _grant(tables, at, lock, tokens)
    return Done()


_ENDS: Final = {
    command_pb2.LOCK_ENDING_EXPIRED: (HELD,),
    command_pb2.LOCK_ENDING_GIVEN_UP: (WAITING,),
    command_pb2.LOCK_ENDING_CALL_GONE: (WAITING, HELD),
    command_pb2.LOCK_ENDING_DELAY_OVER: (LOST,),
}
"""The states in which a claim may end for these reasons."""


def check_lock(tables: Tables, name: str, token: int) -> Refused | None:
    """None if that token holds the lock at this place in the log; or else LOCK_NOT_HELD."""
    return None if token in tables.locks.lock(name).holders else not_held(name, token)


def not_held(name: str, token: int) -> Refused:
    """The lock is not held by that token."""
    metadata = {"lock": name, "token": str(token)}
    return Refused(
        Code.FAILED_PRECONDITION, "LOCK_NOT_HELD", f"{name} is not held by token {token}", metadata
    )


def held(lock: LockRow) -> Refused:
    """Someone else has the lock, or waits for it; who has it longest is told in full."""
    metadata = {
        "lock": lock.name,
        "holders": str(len(lock.holders)),
        "waiters": str(len(lock.waiters)),
        "lost_holders": str(len(lock.lost)),
    }
    message = f"{lock.name} is not free"
    if first := lock.in_state(HELD, 1):
        (holder,) = first
        metadata |= {"holder_id": holder.holder_id, "token": str(holder.token)}
        labels = lock_pb2.LockWaiter.FromString(holder.labels).labels
        metadata |= {f"labels.{key}": labels[key] for key in labels}
        message = f"{lock.name} is held by {holder.holder_id or 'someone'}, token {holder.token}"
        if len(lock.holders) > 1:
            message += f", and {len(lock.holders) - 1} more"
    elif lock.lost:
        message = f"{lock.name} was lost by its holder, whose lock delay is not over"
    return Refused(Code.FAILED_PRECONDITION, "LOCK_HELD", message, metadata)


def _far_back() -> Refused:
    """So many commands stand before this one in its entry that there are no tokens left for it; in the next there are."""
    return Refused(
        Code.RESOURCE_EXHAUSTED, "OVERLOADED", "too much is done at once; nothing was done of this"
    )


def _mismatch(lock: LockRow, permits: int) -> Refused:
    """All who use a lock at a time must agree on what it is."""
    kinds = [f"a semaphore of {each} permits" if each else "no semaphore" for each in (lock.permits, permits)]
    message = f"{lock.name} is in use as {kinds[0]}, not as {kinds[1]}"
    metadata = {"lock": lock.name, "permits": str(lock.permits)}
    return Refused(Code.FAILED_PRECONDITION, "LOCK_MISMATCH", message, metadata)


def _grant(tables: Tables, at: Position, lock: LockRow, tokens: _Tokens) -> None:
    """Give the lock to those at the head of the line who can have it."""
    while lock.waiters:
        claim = lock.claims[next(iter(lock.waiters))]
        if not lock.admits(claim):
            return
        _put(tables, claim.granted(tokens.next(), at.time_ms))


def _put(tables: Tables, claim: ClaimRow) -> None:
    tables.locks.put(claim)
    tables.events.append(("lock_claim_changed", claim))


def _drop(tables: Tables, claim: ClaimRow) -> None:
    tables.locks.drop(claim)
    tables.events.append(("lock_claim_changed", claim.ended()))


assert ENDED not in (WAITING, HELD, LOST)
