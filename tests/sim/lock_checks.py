"""What must hold of locks in every run, told by what the log granted and by what holders rely on.

Holders may rely on a lock for its TTL from the moment at which they sent what was answered, whether they are awake or paused.
It must not end before that moment, unless they release it. That somebody acts on it later all the same, because it was paused between looking
at its clock and acting, is what no lock can prevent: what the lock protects has to refuse its token.
"""

from collections import Counter
from dataclasses import dataclass, field

from node.state.lock_rows import ENDED, HELD, LOST, WAITING, ClaimRow
from taskraft.v1 import lock_pb2
from tests.sim.checks import Promises, Violation

SLACK_S = 0.002
"""A node counts in milliseconds."""


@dataclass(slots=True)
class LockPromises(Promises):
    """What was granted, and what is relied on."""

    tally: Counter[str] = field(default_factory=Counter)
    grants: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Lock and token by claim."""
    line: dict[str, dict[int, ClaimRow]] = field(default_factory=dict)
    """Who waits, by lock."""
    holding: dict[str, dict[int, ClaimRow]] = field(default_factory=dict)
    """Who holds or has lost it, by lock and claim."""
    certain: dict[int, float] = field(default_factory=dict)
    """Until when a holder may rely on its grant, by token, on the clock of the world."""
    written: dict[str, int] = field(default_factory=dict)
    """The newest token that has written to what each lock protects."""
    _told: set[tuple[int, int]] = field(default_factory=set)
    _newest: int = 0

    # What the log says --------------------------------------------------------------------------------------------

    def claim_changed(self, now_s: float, claim: ClaimRow) -> None:
        """A node has applied this; what others have applied before is only compared."""
        if claim.token and self.grants.setdefault(claim.number, (claim.lock, claim.token)) != (
            claim.lock,
            claim.token,
        ):
            raise Violation(f"claim {claim.number} was granted as {self.grants[claim.number]} and as {claim}")
        if (claim.number, claim.state) in self._told:
            return
        self._told.add((claim.number, claim.state))
        line = self.line.setdefault(claim.lock, {})
        holding = self.holding.setdefault(claim.lock, {})
        match claim.state:
            case _ if claim.state == WAITING:
                line[claim.number] = claim
            case _ if claim.state == HELD:
                self._granted(now_s, claim, line, holding)
            case _ if claim.state in (LOST, ENDED):
                self._over(now_s, claim)
                line.pop(claim.number, None)
                holding.pop(claim.number, None)
                if claim.state == LOST:
                    holding[claim.number] = claim

    def _granted(
        self, now_s: float, claim: ClaimRow, line: dict[int, ClaimRow], holding: dict[int, ClaimRow]
    ) -> None:
        self.tally["grants"] += 1
        if claim.token <= self._newest:
            raise Violation(f"token {claim.token} is granted after {self._newest}")
        self._newest = claim.token
        line.pop(claim.number, None)
        if earlier := [number for number in line if number < claim.number]:
            raise Violation(f"{claim} is granted before {earlier}, who asked earlier")
        for other in holding.values():
            if not together(claim, other):
                raise Violation(f"{claim} is granted while there is {other}")
        if claim.permits and len(holding) >= claim.permits:
            raise Violation(f"{claim} is granted beyond the permits: {list(holding)}")
        holding[claim.number] = claim

    def _over(self, now_s: float, claim: ClaimRow) -> None:
        """Nobody may rely on a grant that ends."""
        until_s = self.certain.pop(claim.token, 0.0)
        if claim.state == LOST:
            self.tally["lost with a delay"] += 1
        if claim.token and until_s > now_s + SLACK_S:
            raise Violation(f"token {claim.token} of {claim.lock} ends {until_s - now_s:.3f} s too early")

    # What holders say ---------------------------------------------------------------------------------------------

    def may_rely(self, token: int, until_s: float) -> None:
        """A holder was told that it may rely on its grant until then."""
        self.certain[token] = max(until_s, self.certain.get(token, 0.0))

    def relies_no_more(self, token: int) -> None:
        """A holder gives its grant back."""
        self.certain.pop(token, None)

    # What the resources see ---------------------------------------------------------------------------------------

    def writes(self, lock: str, token: int) -> None:
        """A write of a holder arrives at what an exclusive lock protects. An older token than the newest is refused: without
        that check, two holders would have written in turns.
        """
        newest = self.written.get(lock, 0)
        self.tally["writes refused by their token" if token < newest else "writes"] += 1
        self.written[lock] = max(newest, token)


def together(one: ClaimRow, other: ClaimRow) -> bool:
    """Whether both may be held at a time, as far as their modes go."""
    if one.permits != other.permits:
        return False
    return bool(one.permits) or one.mode == other.mode == lock_pb2.LOCK_MODE_SHARED
