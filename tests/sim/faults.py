"""What goes wrong, how often, and what the model excludes.

Excluded: two lost disks at a time. A disk is taken away or damaged whatever the other members hold, but the next one
only when all of them, the first one included, have a vote again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from raft.records import RECORD, RECORD_BYTES
from raft.types import Member
from tests.sim.node import SimNode
from tests.sim.world import World

NEWCOMERS = ("n4", "n5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Chances per step of 10 ms."""

    crash: float = 0.008
    power_loss: float = 0.6
    all_at_once: float = 0.001
    start: float = 0.03
    partition: float = 0.006
    heal: float = 0.015
    pause: float = 0.003
    resume: float = 0.03
    slow_disk: float = 0.002
    quick_disk: float = 0.02
    torn: float = 0.003
    full: float = 0.001
    fsync: float = 0.001
    wipe: float = 0.002
    flip: float = 0.002
    change: float = 0.004
    hand_over: float = 0.003
    propose: float = 0.4
    read: float = 0.15


class Faults:
    """Called every step of a world; throws its dice."""

    def __init__(self, world: World, rates: Rates | None = None) -> None:
        self.world, self.rates = world, rates or Rates()

    def step(self) -> None:
        self._clients()
        self._processes()
        self._network()
        self._disks()
        self._members()

    def _chance(self, rate: float) -> bool:
        return self.world.dice.random() < rate

    def _any(self, *, up: bool = True) -> SimNode | None:
        nodes = [n for n in self.world.nodes.values() if n.up == up]
        return self.world.dice.choice(nodes) if nodes else None

    def _clients(self) -> None:
        world, rates = self.world, self.rates
        for node in world.nodes.values():
            if node.core is None or node.core.leading is None:
                continue
            if self._chance(rates.propose):
                for _ in range(world.dice.choice((1, 1, 3, 10))):
                    world.propose(node)
            if self._chance(rates.read):
                world.read(node)

    def _processes(self) -> None:
        rates, dice = self.rates, self.world.dice
        if self._chance(rates.all_at_once):
            power_loss = self._chance(rates.power_loss)
            for node in self.world.nodes.values():
                if node.up:
                    node.crash(power_loss=power_loss)
        if self._chance(rates.crash) and (victim := self._any()):
            victim.crash(power_loss=self._chance(rates.power_loss))
        for node in self.world.nodes.values():
            if not node.up and self._chance(rates.start):
                self.world.start(node)
            elif node.paused is None and node.up and self._chance(rates.pause / 3):
                node.pause()
            elif node.paused is not None and dice.random() < rates.resume:
                node.resume()

    def _network(self) -> None:
        if self._chance(self.rates.partition):
            self.world.network.partition(sorted(self.world.nodes))
        if self._chance(self.rates.heal):
            self.world.network.heal()

    def _disks(self) -> None:
        world, rates = self.world, self.rates
        if self._chance(rates.slow_disk) and (victim := self._any()):
            world.slow_disk.add(victim.id)
        if self._chance(rates.quick_disk):
            world.slow_disk.clear()
        if self._chance(rates.torn) and (victim := self._any()):
            victim.disk.cut_after = world.dice.randint(0, 4)
        if self._chance(rates.full) and (victim := self._any()):
            victim.disk.full_after = victim.disk.used_bytes + world.dice.randint(0, 3000)
        if self._chance(rates.fsync) and (victim := self._any()):
            victim.disk.fail_sync = True
        self._lost_disks()

    def _lost_disks(self) -> None:
        world, rates = self.world, self.rates
        if world.recovering is not None:
            if self._recovered(world.nodes[world.recovering]):
                world.recovering = None
            return
        victim = self._any()
        if victim is None or victim.core is None or not self._expendable(victim):
            return
        if self._chance(rates.wipe):
            world.recovering = victim.id
            world.counts["wipes"] += 1
            victim.crash(power_loss=True)
            victim.wipe()
        elif self._chance(rates.flip) and self._rot(victim):
            world.recovering = world.damaged = victim.id
            world.counts["flips"] += 1

    def _recovered(self, node: SimNode) -> bool:
        """Whether a node whose disk was lost has been given its vote again, for good, and knows it."""
        given = any(m.id == node.id and m.voter for m in self.world.members())
        leader = self.world.leader()
        if not given or leader is None or leader.core is None or node.core is None or not node.core.voter:
            return False
        return leader.core.membership.index > node.core.ballot.join_floor

    def _rot(self, victim: SimNode) -> bool:
        """Flip a bit of an entry while the node is down. A later record on its disk tells that the entry was durable,
        so the damage cannot be taken for what a crash leaves.
        """
        assert victim.core is not None
        log = victim.core.log
        first = log._segments[0]
        if log.durable <= log.base[0] or (told := self._told_durable(victim)) < first.first:
            return False
        entry = log.entry(self.world.dice.randint(first.first, min(told, first.last)))
        start, size = first.offset(entry.index), RECORD_BYTES + len(entry.payload)
        victim.crash(power_loss=False, torn=False)
        victim.disk.flip(first.name, self.world.dice.randrange(8 * start, 8 * (start + size)))
        return True

    def _told_durable(self, node: SimNode) -> int:
        """What was durable when the last entry that now is was written, as its record says."""
        assert node.core is not None
        log = node.core.log
        segment = log._segments[log._number(log.durable)]
        return int(RECORD.unpack(node.disk.pread(segment.name, segment.offset(log.durable), RECORD_BYTES))[4])

    def _expendable(self, victim: SimNode) -> bool:
        """Whether no other disk is missing: all members have a vote for good, and know it."""
        members = self.world.members()
        cores = [self.world.nodes[m.id].core for m in members if m.voter]
        known = all(core is not None and core.voter for core in cores)
        return len(members) >= 3 and len(cores) == len(members) and victim.core in cores and known

    def _members(self) -> None:
        world, rates = self.world, self.rates
        leader = world.leader()
        if leader is None or leader.core is None or leader.core.leading is None or leader.paused is not None:
            return
        if self._chance(rates.hand_over):
            leader.core.leading.hand_over(None, 1.0, self._counted("hand-overs"))
        if world.recovering is not None or not self._chance(rates.change):
            return
        members = leader.core.membership.current
        absent = [i for i in NEWCOMERS if i not in {m.id for m in members}]
        if absent and world.dice.random() < 0.6:
            self._add(leader, absent[0])
        elif len(members) > 3:
            goner = world.dice.choice([m.id for m in members if m.id != leader.id])
            leader.core.leading.remove(goner, self._counted("removed members"))

    def _add(self, leader: SimNode, newcomer: str) -> None:
        """A new machine under a name that may have been used before, with an empty disk."""
        assert leader.core is not None
        assert leader.core.leading is not None
        world = self.world
        member = Member(newcomer, f"{newcomer}:1")
        if newcomer in world.nodes:
            node = world.nodes[newcomer]
            if not world.members():
                return  # it may still be one of them
            if node.up:
                node.crash(power_loss=True)
            node.wipe()
        else:
            world.add_node(member, (), join=True)
        world.nodes[newcomer].start()
        leader.core.leading.add(Member(newcomer, member.address), self._counted("added members"))

    def _counted(self, what: str) -> Callable[[object, Exception | None], None]:
        """Whether it works is up to the leader."""

        def done(result: object, error: Exception | None) -> None:
            if error is None:
                self.world.counts[what] += 1

        return done


def simulate(
    world: World, seconds: float, rates: Rates | None = None, faults_class: type[Faults] = Faults
) -> None:
    """One run: faults for `seconds`, then calm, then the last checks."""
    faults = faults_class(world, rates)
    world.run(1.0)
    world.run(seconds, faults.step)
    world.converge()
