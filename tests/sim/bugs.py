"""Planted bugs: which part is broken, what provokes it, and how it shows. The parts stand in `planted.py`."""

from dataclasses import dataclass, field, replace
from typing import Any

from tests.sim.checks import Violation
from tests.sim.faults import NEWCOMERS, Faults, Rates, simulate
from tests.sim.network import Weather
from tests.sim.planted import (
    AcknowledgesItsEnd,
    AnswersAtAppend,
    AnswersAtOnce,
    AppliesEarly,
    BelievesCommit,
    ChangesInHaste,
    CountsTwice,
    CutsAlways,
    Deserts,
    ForgetfulDisk,
    HearsThePast,
    ReadsAlone,
    StandsAtOnce,
    TakesAnyPiece,
    Unchecked,
    VotesAtOnce,
    VotesWithoutPast,
    core_with,
    takes_for_torn,
)
from tests.sim.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A world with one broken part, what provokes the bug, and how it shows."""

    shows_as: str
    """A regular expression: the violated promise, or the assertion that stands in front of it."""
    parts: dict[str, Any] = field(default_factory=dict)
    """Arguments of World."""
    patches: dict[str, object] = field(default_factory=dict)
    """What has no seam, by its dotted name."""
    nodes: int = 3
    weather: Weather = field(default_factory=Weather)
    rates: Rates
    faults: type[Faults] = Faults
    seconds: float = 8.0

    def run(self, seed: int, *, broken: bool) -> None:
        """One run; raises what the checkers, or assertions of the node, have to say."""
        world = World(seed, nodes=self.nodes, weather=self.weather, **(self.parts if broken else {}))
        try:
            simulate(world, self.seconds, self.rates, self.faults)
        finally:
            world.close()


class Deposals(Faults):
    """Leaders are cut off in the middle of their work, and come back with what nobody else has."""

    def __init__(self, world: World, rates: Rates | None = None) -> None:
        super().__init__(world, rates)
        self._deposed: str | None = None

    def step(self) -> None:
        self._clients()
        self._members()
        network, leader = self.world.network, self.world.leader()
        if leader is None:
            return
        if not network.cut and self._chance(self.rates.partition):
            others = [n for n in self.world.nodes if n != leader.id]
            network.cut = {(n, leader.id) for n in others} | {(leader.id, n) for n in others}
            self._deposed = leader.id
        elif network.cut and leader.id != self._deposed and self._chance(self.rates.heal):
            network.heal()


class Desertions(Faults):
    """A leader is left alone with the newcomers, while they are given their votes."""

    def step(self) -> None:
        self._clients()
        self._members()
        world, leader = self.world, self.world.leader()
        if world.network.cut:
            if self._chance(self.rates.heal):
                world.network.heal()
        elif leader is not None and len(world.nodes) == 5 and self._chance(self.rates.partition):
            side = {leader.id, *NEWCOMERS}
            world.network.cut = {
                (a, b) for a in world.nodes for b in world.nodes if (a in side) != (b in side)
            }


class Absences(Faults):
    """One follower at a time hears nobody, or only not the leader. A majority hears the leader all the time: it stays."""

    def __init__(self, world: World, rates: Rates | None = None) -> None:
        super().__init__(world, rates)
        self._term: int | None = None

    def step(self) -> None:
        self._clients()
        world, leader = self.world, self.world.leader()
        if leader is None or leader.core is None:
            return
        self._term = self._term or leader.core.engine.term
        if leader.core.engine.term != self._term:
            raise Violation(f"the leader of term {self._term} was thrown out, and a majority heard it")
        if world.network.cut and self._chance(self.rates.heal):
            world.network.heal()
        elif not world.network.cut and self._chance(self.rates.partition):
            away = world.dice.choice([n for n in world.nodes if n != leader.id])
            others = {leader.id} if self._chance(0.5) else world.nodes.keys() - {away}
            world.network.cut = {(away, n) for n in others} | {(n, away) for n in others}


STORM = Weather(loss=0.05, double=0.05, late=0.3, late_s=1.0)
BRIGHT = Weather(loss=0, double=0, late=0)
LOSSY = Weather(loss=0.3, late=0)
TWICE = Weather(loss=0.1, double=1.0, late=0, delay_s=(0.005, 0.04))
ECHOES = Weather(loss=0, double=1.0, late=0.1, late_s=3.0)

CALM = Rates(
    crash=0,
    all_at_once=0,
    partition=0,
    pause=0,
    slow_disk=0,
    torn=0,
    full=0,
    fsync=0,
    wipe=0,
    flip=0,
    change=0,
    hand_over=0,
)
POWER_CUTS = replace(CALM, crash=0.03, power_loss=1.0, all_at_once=0.01, start=0.1, slow_disk=0.1)
FIRST_ELECTIONS = replace(CALM, all_at_once=0.015, power_loss=0, start=0.5, propose=0.01)
LOST_DISKS = replace(CALM, wipe=0.03, partition=0.02, heal=0.03, crash=0.005)
ROT = replace(CALM, flip=0.03, crash=0.02, start=0.1)
DEPOSED = replace(CALM, partition=0.05, heal=0.1)
GROWING = replace(CALM, partition=0.1, heal=0.02, change=0.5, propose=0.2)
ABSENCES = replace(CALM, partition=0.05, heal=0.01, propose=0.02)
GAPS = replace(CALM, crash=0.02, power_loss=0, start=0.02, propose=0.9)

BUGS: dict[str, Bug] = {
    "fsync does nothing": Bug(
        parts={"disk_class": ForgetfulDisk},
        rates=POWER_CUTS,
        shows_as="Violation: .*(refuses to start|on its disk is|must hold it|was committed)",
    ),
    "a follower acknowledges before its disk does": Bug(
        parts=core_with(promises_class=AnswersAtOnce),
        rates=POWER_CUTS,
        shows_as="Violation: .*must hold it",
    ),
    "a vote leaves before it is on disk": Bug(
        parts=core_with(promises_class=VotesAtOnce),
        rates=POWER_CUTS,
        shows_as="Violation: .*on its disk is",
    ),
    "a leader counts itself before its disk does": Bug(
        parts={"core_class": AppliesEarly},
        rates=POWER_CUTS,
        shows_as="Violation: .*must hold it",
    ),
    "checksums are not looked at": Bug(
        patches={"raft.recovery.google_crc32c": Unchecked},
        rates=ROT,
        shows_as="Violation: .*starts though its disk is damaged|is damaged at byte",
    ),
    "damage is taken for a torn tail": Bug(
        patches={"raft.recovery._refuse_lost_promises": takes_for_torn},
        rates=ROT,
        shows_as="Violation: .*(has forgotten|starts though its disk is damaged)",
    ),
    "the log is cut without a conflict": Bug(
        parts=core_with(following_class=CutsAlways),
        rates=CALM,
        weather=STORM,
        shows_as="Violation: .*(must hold it|was committed)|assert index > self.index",
    ),
    "the commit index is not capped": Bug(
        parts=core_with(following_class=BelievesCommit),
        rates=DEPOSED,
        faults=Deposals,
        weather=LOSSY,
        shows_as="Violation: .*was committed",
    ),
    "the log's end is acknowledged": Bug(
        parts=core_with(following_class=AcknowledgesItsEnd),
        rates=DEPOSED,
        faults=Deposals,
        weather=LOSSY,
        shows_as="Violation: .*must hold it",
    ),
    "snapshot pieces go where they come": Bug(
        patches={"tests.sim.node.Incoming": TakesAnyPiece},
        rates=GAPS,
        weather=STORM,
        shows_as="JSONDecodeError|AssertionError|has not caught up",
    ),
    "votes are counted twice": Bug(
        parts=core_with(elections_class=CountsTwice),
        nodes=5,
        rates=FIRST_ELECTIONS,
        weather=TWICE,
        shows_as="Violation: term .* has two leaders",
    ),
    "nobody is asked before an election": Bug(
        parts=core_with(elections_class=StandsAtOnce),
        rates=ABSENCES,
        faults=Absences,
        weather=BRIGHT,
        shows_as="Violation: .*was thrown out",
    ),
    "a leader that is alive is deserted": Bug(
        parts=core_with(elections_class=Deserts),
        rates=ABSENCES,
        faults=Absences,
        weather=BRIGHT,
        shows_as="Violation: .*was thrown out",
    ),
    "acknowledgements of old terms count": Bug(
        parts={"core_class": HearsThePast},
        rates=replace(DEPOSED, partition=0.02, hand_over=0.02, propose=0.2, read=0.8),
        faults=Deposals,
        weather=ECHOES,
        shows_as="Violation: .*(a read saw|must hold it)",
    ),
    "a node without its disk votes": Bug(
        parts={"core_class": VotesWithoutPast},
        rates=LOST_DISKS,
        shows_as="Violation: ",
    ),
    "members change in haste": Bug(
        parts=core_with(leading_class=ChangesInHaste),
        rates=GROWING,
        faults=Desertions,
        shows_as="Violation: .*(was committed|has two leaders|must hold it)",
    ),
    "commands are answered before they are committed": Bug(
        parts=core_with(leading_class=AnswersAtAppend),
        rates=DEPOSED,
        faults=Deposals,
        shows_as="Violation: .*(lost b|a read saw|acknowledged twice)",
    ),
    "reads are answered without a quorum": Bug(
        parts=core_with(leading_class=ReadsAlone),
        rates=replace(DEPOSED, read=0.8),
        faults=Deposals,
        shows_as="Violation: .*a read saw",
    ),
}
