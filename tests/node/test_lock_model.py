"""Locks against a plain model, under random commands, crashes, restarts and snapshots."""

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from node.state.lock_rows import HELD, LOST, WAITING
from node.state.results import Claimed, Refused, Result
from taskraft.internal.v1 import command_pb2
from tests.node.lock_log import CALL_GONE, DELAY_OVER, EXCLUSIVE, EXPIRED, GIVEN_UP, SEMAPHORE, SHARED
from tests.sim.state_log import Follower, MemoryLog

NAMES = ("locks/a", "locks/b", "locks/c")
ENDINGS = {EXPIRED: (HELD,), GIVEN_UP: (WAITING,), CALL_GONE: (WAITING, HELD), DELAY_OVER: (LOST,)}


@dataclass(slots=True)
class Claim:
    """What someone has of a lock."""

    lock: str
    mode: int
    permits: int
    delayed: bool
    state: int = WAITING
    token: int = 0


@dataclass
class Model:
    """All claims in the order of asking, by their numbers."""

    claims: dict[int, Claim] = field(default_factory=dict)
    last_token: int = 0

    def of(self, lock: str, *states: int) -> list[int]:
        return [n for n, claim in self.claims.items() if claim.lock == lock and claim.state in states]

    def fits(self, number: int) -> bool:
        """Whether this claim can be held beside all that are held or lost."""
        claim = self.claims[number]
        taken = [self.claims[n] for n in self.of(claim.lock, HELD, LOST)]
        if claim.permits:
            return len(taken) < claim.permits
        return not taken or {claim.mode, *(other.mode for other in taken)} == {SHARED}

    def grant(self, lock: str) -> None:
        """Whoever is first in line has the lock, as long as that can be."""
        while (line := self.of(lock, WAITING)) and self.fits(line[0]):
            self.claims[line[0]].state = HELD

    def acquire(self, number: int, command: command_pb2.AcquireLock) -> str:
        """The reason why it is refused, if it is."""
        lock = command.name
        if any(self.claims[n].permits != command.permits for n in self.of(lock, HELD, WAITING, LOST)):
            return "LOCK_MISMATCH"
        self.claims[number] = Claim(lock, command.mode, command.permits, command.lock_delay_ms > 0)
        self.grant(lock)
        if self.claims[number].state == WAITING and command.at_once:
            del self.claims[number]
            return "LOCK_HELD"
        return ""

    def release(self, command: command_pb2.ReleaseLock) -> str:
        for number in self.of(command.name, HELD):
            if self.claims[number].token == command.token:
                del self.claims[number]
                self.grant(command.name)
                return ""
        return "LOCK_NOT_HELD"

    def end(self, command: command_pb2.EndLockClaims) -> None:
        for ended in command.claims:
            claim = self.claims.get(ended.number)
            if claim is None or claim.lock != ended.lock or claim.state not in ENDINGS[ended.ending]:
                continue
            if ended.ending == EXPIRED and claim.delayed:
                claim.state = LOST
            else:
                del self.claims[ended.number]
            self.grant(ended.lock)


class Pair:
    """A machine and the model, with the same commands."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self.follower, self.model, self.rng = Follower(MemoryLog(), directory), Model(), rng
        self.seen: set[str] = set()
        self.tokens: list[int] = []

    def command(self) -> command_pb2.Command:
        rng, model = self.rng, self.model
        name = rng.choice(NAMES)
        numbers = list(model.claims)
        match rng.choices(["acquire", "release", "end"], [45, 25, 30])[0]:
            case "acquire":
                mode = rng.choice((EXCLUSIVE, SHARED, SHARED) if name != "locks/c" else (SEMAPHORE,))
                acquire = command_pb2.AcquireLock(name=name, mode=mode, ttl_ms=1_000)
                acquire.permits = rng.choice((3, 3, 3, 2)) if mode == SEMAPHORE else 0
                acquire.at_once = rng.random() < 0.2
                acquire.lock_delay_ms = rng.choice((0, 500))
                return command_pb2.Command(acquire_lock=acquire)
            case "release":
                tokens = [claim.token for claim in model.claims.values() if claim.token]
                release = command_pb2.ReleaseLock(name=name, token=rng.choice([*tokens, 7]))
                return command_pb2.Command(release_lock=release)
            case _:
                ended = command_pb2.EndLockClaims()
                for number in rng.choices([*numbers, 9], k=rng.choice((1, 1, 3, 10))):
                    lock = model.claims[number].lock if number in model.claims else name
                    ended.claims.add(lock=lock, number=number, ending=rng.choice(list(ENDINGS)))
                return command_pb2.Command(end_lock_claims=ended)

    def step(self, count: int = 1) -> None:
        """So many commands in one entry."""
        commands = [self.command() for _ in range(count)]
        results = self.follower.do(*commands)
        for command, result in zip(commands, results, strict=True):
            self._follow(command, result)
        self._take_tokens()

    def _follow(self, command: command_pb2.Command, result: Result) -> None:
        reason = ""
        match command.WhichOneof("kind"):
            case "acquire_lock":
                number = result.number if isinstance(result, Claimed) else 1 << 62
                reason = self.model.acquire(number, command.acquire_lock)
            case "release_lock":
                reason = self.model.release(command.release_lock)
            case _:
                self.model.end(command.end_lock_claims)
        assert reason == (result.reason if isinstance(result, Refused) else ""), (command, result)
        self.seen.add(reason)

    def _take_tokens(self) -> None:
        """The model has no log: which token each grant has is taken over; all are greater than those before."""
        machine, new = self.follower.machine, []
        for name in NAMES:
            for number, claim in machine.lock(name).claims.items():
                assert (claim.token == 0) == (claim.state == WAITING)
                if claim.token and not self.model.claims[number].token:
                    self.model.claims[number].token = claim.token
                    new.append(claim.token)
        assert min(new, default=1 << 62) > self.model.last_token
        self.model.last_token = max(new, default=self.model.last_token)
        self.tokens += new

    def check(self) -> None:
        """The machine holds what the model holds, in memory and in its tables."""
        machine = self.follower.machine
        expected = {n: (claim.lock, claim.state, claim.token) for n, claim in self.model.claims.items()}
        found = {
            n: (claim.lock, claim.state, claim.token)
            for name in NAMES
            for n, claim in machine.lock(name).claims.items()
        }
        assert found == expected
        assert {c.number: (c.lock, c.state, c.token) for c in machine.lock_claims()} == expected
        for lock in machine.locks():
            assert list(lock.waiters) == self.model.of(lock.name, WAITING)
            assert list(lock.holders) == sorted(lock.holders)
        assert len(set(self.tokens)) == len(self.tokens)


@pytest.mark.parametrize("seed", range(10))
def test_locks_do_what_the_plain_model_does(seed: int, tmp_path: Path) -> None:
    pair = Pair(tmp_path / "state", random.Random(seed))
    for step in range(400):
        pair.step()
        if step % 20 == 0:
            pair.check()
    pair.check()
    assert pair.seen == {"", "LOCK_HELD", "LOCK_NOT_HELD", "LOCK_MISMATCH"}


@pytest.mark.parametrize("seed", range(6))
def test_machines_that_crash_and_restart_have_the_locks_of_one_that_does_not(
    seed: int, tmp_path: Path
) -> None:
    rng = random.Random(500 + seed)
    pair = Pair(tmp_path / "calm", rng)
    tried = Follower(MemoryLog(pair.follower.log.entries), tmp_path / "tried")
    for step in range(150):
        pair.step(rng.choice((1, 1, 4)))
        tried.log.last = pair.follower.log.last
        tried.clock.ms += rng.choice((0, 5, 2_500))
        tried.catch_up()
        match rng.randrange(15):
            case 0:
                tried.crash()
                tried.catch_up()
            case 1:
                tried.restart()
        if step % 15 == 0:
            assert tried.machine.fingerprint() == pair.follower.machine.fingerprint()
    pair.check()
    assert tried.machine.fingerprint() == pair.follower.machine.fingerprint()


def test_a_snapshot_holds_locks(tmp_path: Path) -> None:
    pair = Pair(tmp_path / "state", random.Random(3))
    for _ in range(200):
        pair.step()
    pair.follower.machine.commit_now()
    meta = pair.follower.machine.snapshot(tmp_path / "snapshot")
    copy = Follower(MemoryLog(pair.follower.log.entries), tmp_path / "copy")

    copy.machine.install(tmp_path / "snapshot", meta)

    assert copy.machine.fingerprint() == pair.follower.machine.fingerprint()
    assert copy.machine.lock_claims() == pair.follower.machine.lock_claims()
