"""Commands about locks, and a machine to give them to."""

from pathlib import Path
from typing import Any

from node.state.listener import Silence
from node.state.lock_rows import HELD, WAITING, ClaimRow
from node.state.results import Claimed, Refused, Result
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import lock_pb2
from tests.sim.state_log import Follower, MemoryLog

NAME = "locks/l"
EXCLUSIVE, SHARED = lock_pb2.LOCK_MODE_EXCLUSIVE, lock_pb2.LOCK_MODE_SHARED
SEMAPHORE = lock_pb2.LOCK_MODE_SEMAPHORE
EXPIRED, GIVEN_UP = command_pb2.LOCK_ENDING_EXPIRED, command_pb2.LOCK_ENDING_GIVEN_UP
CALL_GONE, DELAY_OVER = command_pb2.LOCK_ENDING_CALL_GONE, command_pb2.LOCK_ENDING_DELAY_OVER


def acquire(
    who: str = "", *, name: str = NAME, mode: int = EXCLUSIVE, request_id: str = "", **settings: Any
) -> command_pb2.Command:
    settings.setdefault("ttl_ms", 10_000)
    command = command_pb2.AcquireLock(name=name, mode=mode, holder_id=who, **settings)  # type: ignore[arg-type]
    return command_pb2.Command(request_id=request_id, acquire_lock=command)


def share(who: str = "", **settings: Any) -> command_pb2.Command:
    return acquire(who, mode=SHARED, **settings)


def permit(who: str = "", permits: int = 2, **settings: Any) -> command_pb2.Command:
    return acquire(who, mode=SEMAPHORE, permits=permits, **settings)


def release(token: int, name: str = NAME, request_id: str = "") -> command_pb2.Command:
    command = command_pb2.ReleaseLock(name=name, token=token)
    return command_pb2.Command(request_id=request_id, release_lock=command)


def end(ending: command_pb2.LockEnding, *claims: ClaimRow) -> command_pb2.Command:
    ended = [
        command_pb2.EndedLockClaim(lock=claim.lock, number=claim.number, ending=ending) for claim in claims
    ]
    return command_pb2.Command(end_lock_claims=command_pb2.EndLockClaims(claims=ended))


class Heard(Silence):
    """What the machine told of claims."""

    def __init__(self) -> None:
        self.changes: list[ClaimRow] = []

    def lock_claim_changed(self, claim: ClaimRow) -> None:
        self.changes.append(claim)


class Locks:
    """A machine, and what there is of a lock in it."""

    def __init__(self, directory: Path) -> None:
        self.follower = Follower(MemoryLog(), directory)
        self.heard = Heard()
        self.follower.machine.listeners.append(self.heard)

    def do(self, *commands: command_pb2.Command) -> list[Result]:
        """All in one entry."""
        return self.follower.do(*commands)

    def one(self, command: command_pb2.Command) -> Result:
        (result,) = self.follower.do(command)
        return result

    def ask(self, command: command_pb2.Command) -> ClaimRow:
        """Ask for a lock; what came of that."""
        result = self.one(command)
        assert isinstance(result, Claimed), result
        return self.follower.machine.lock(command.acquire_lock.name).claims[result.number]

    def refused(self, command: command_pb2.Command) -> Refused:
        result = self.one(command)
        assert isinstance(result, Refused), result
        return result

    def claims(self, state: int, name: str = NAME) -> list[ClaimRow]:
        return self.follower.machine.lock(name).in_state(state)

    def holders(self, name: str = NAME) -> list[str]:
        return [claim.holder_id for claim in self.claims(HELD, name)]

    def line(self, name: str = NAME) -> list[str]:
        return [claim.holder_id for claim in self.claims(WAITING, name)]
