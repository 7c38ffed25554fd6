"""What goes wrong while locks are held: to nodes and disks as ever, and to clients and their lines."""

from dataclasses import dataclass

from tests.sim.checks import Violation
from tests.sim.faults import Faults, Rates
from tests.sim.lock_clients import SimHolder
from tests.sim.lock_world import LockWorld

CLIENTS = 7
ISLAND_S = 4.0
CALM_S = 8.0
LAST_WORDS_S = 4.0
"""So long clients may still say what they have said before."""
IDLE_S = 40.0
"""Without faults and without anyone new who wants one, all have had theirs and given them back after this time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRates(Rates):
    """Chances per step of 10 ms. Pauses are longer than any TTL now and then."""

    crash: float = 0.004
    propose: float = 0.0
    read: float = 0.0
    pause: float = 0.004
    resume: float = 0.01
    kill_client: float = 0.004
    pause_client: float = 0.01
    resume_client: float = 0.008
    cut_line: float = 0.006
    heal_lines: float = 0.02
    island: float = 0.003


class LockFaults(Faults):
    """Called every step of a world of locks."""

    world: LockWorld
    rates: LockRates

    def __init__(self, world: LockWorld, rates: LockRates | None = None) -> None:
        super().__init__(world, rates or LockRates())
        self.clients = [SimHolder(world, f"c{number}") for number in range(CLIENTS)]

    def step(self) -> None:
        super().step()
        self._clients_fail()
        self._lines()
        if self._chance(self.rates.island):
            self._island()

    def _clients_fail(self) -> None:
        rates = self.rates
        for client in self.clients:
            if client.paused is not None:
                if self._chance(rates.resume_client):
                    client.resume()
            elif self._chance(rates.kill_client / CLIENTS):
                self.world.counts["clients killed"] += 1
                client.kill()
            elif self._chance(rates.pause_client / CLIENTS):
                self.world.counts["clients paused"] += 1
                client.pause()

    def _island(self) -> None:
        """The leader and a holder hear each other, and nobody else; the others elect a new leader at once. Meanwhile the
        holder keeps its lock alive.
        """
        world = self.world
        leader = world.leader()
        holders = [client for client in self.clients if client.token and client.liked is leader]
        if leader is None or not holders:
            return
        world.counts["islands"] += 1
        client = world.dice.choice(holders)
        token = client.token
        for delay_s in (0.1, 0.15, 0.2, 0.25):
            client.later(delay_s, lambda: client.keep(token))
        client.stays_until_s = world.now + ISLAND_S
        world.islands[client.name] = (leader.id, world.now + ISLAND_S)
        for other in world.nodes.values():
            if other is not leader:
                world.network.cut |= {(leader.id, other.id), (other.id, leader.id)}
                world.unlink(leader, other)

    def _lines(self) -> None:
        world = self.world
        if self._chance(self.rates.heal_lines):
            world.cut_lines.clear()
        if self._chance(self.rates.cut_line):
            world.counts["lines cut"] += 1
            client = world.dice.choice(self.clients).name
            ways = world.dice.choice((1, 2, 3))
            for node in world.nodes:
                world.cut_lines |= {(client, node)} if ways & 1 else set()
                world.cut_lines |= {(node, client)} if ways & 2 else set()


def simulate(world: LockWorld, seconds: float, rates: LockRates | None = None) -> None:
    """One run: faults for `seconds`, then calm, in which everyone gets a lock and gives it back, then the last checks."""
    world.run(2.0)
    faults = LockFaults(world, rates)
    world.run(seconds, faults.step)
    calm(world, faults.clients)
    world.converge()
    world.agree()
    world.counts += world.locks.tally


def calm(world: LockWorld, clients: list[SimHolder]) -> None:
    """When faults stop, locks go round again; when nobody wants any, none is in use."""
    world.heal()
    world.cut_lines.clear()
    world.islands.clear()
    for client in clients:
        if client.paused is not None:
            client.resume()
    held = world.counts["held"]
    world.run(CALM_S)
    if world.counts["held"] < held + CLIENTS:
        raise Violation(f"in {CALM_S} s of calm locks were had {world.counts['held'] - held} times")
    for client in clients:
        client.resting = True
    deadline = world.now + IDLE_S
    while world.now < deadline:
        world.run(0.5)
        in_use = any(world.locks.holding.values()) or any(world.locks.line.values())
        if not in_use and all(client.idle for client in clients):
            world.run(LAST_WORDS_S)
            return
    raise Violation(f"after {IDLE_S} s of rest in use: {world.locks.holding} {world.locks.line}")
