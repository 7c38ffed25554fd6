"""What goes wrong while messages flow: to nodes and disks as ever, and to clients and their connections."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tests.sim import message_mix
from tests.sim.checks import Violation
from tests.sim.faults import Faults, Rates
from tests.sim.letter_checks import (
    attempts_end,
    dead_letters_are_exact,
    each_input_has_one_output,
    nothing_is_early,
    outputs,
)
from tests.sim.message_checks import (
    attempts_are_counted,
    ends_have_causes,
    left_in_queues,
    nothing_is_lost,
    order_is_kept,
    redeliveries_are_explained,
)
from tests.sim.message_world import MessageWorld
from tests.sim.processes import Process
from tests.sim.stream_checks import (
    groups_get_everything,
    left_to_groups,
    left_to_readers,
    readers_see_everything,
)

DRAIN_S = 25.0
"""Without faults, everything has come to its end by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRates(Rates):
    """Chances per step of 10 ms, of a node's faults, and of a client's."""

    crash: float = 0.004
    propose: float = 0.0
    read: float = 0.0
    kill_client: float = 0.003
    start_client: float = 0.03
    pause_client: float = 0.003
    resume_client: float = 0.01
    cut_line: float = 0.006
    heal_lines: float = 0.02
    change: float = 0.004
    settings: float = 0.006


class MessageFaults(Faults):
    """Called every step of a world of messages."""

    world: MessageWorld
    rates: MessageRates

    def __init__(self, world: MessageWorld, rates: MessageRates | None = None) -> None:
        super().__init__(world, rates or MessageRates())
        self.admin = Process(world, "admin", _idle)
        self.admin.start()

    def step(self) -> None:
        super().step()
        self._processes_of_clients()
        self._lines()
        if self._chance(self.rates.settings):
            self.ask(message_mix.change)

    def ask(self, work: Callable[[MessageWorld, Process], Coroutine[Any, Any, None]]) -> None:
        """Let the administrator do something."""
        self.admin.later(0.0, lambda: self.admin.spawn(work(self.world, self.admin)))

    def _processes_of_clients(self) -> None:
        rates, world = self.rates, self.world
        for process in world.processes.values():
            if not process.up:
                if self._chance(rates.start_client):
                    process.start()
            elif process.paused is not None:
                if self._chance(rates.resume_client):
                    process.resume()
            elif self._chance(rates.kill_client / 3):
                world.counts["clients killed"] += 1
                process.kill()
            elif self._chance(rates.pause_client / 3):
                world.counts["clients paused"] += 1
                process.pause()

    def _lines(self) -> None:
        world = self.world
        if self._chance(self.rates.heal_lines):
            world.cut_lines.clear()
        if self._chance(self.rates.cut_line):
            world.counts["lines cut"] += 1
            client = world.dice.choice(list(world.processes))
            ways = world.dice.choice((1, 2, 3))
            for node in world.nodes:
                world.cut_lines |= {(client, node)} if ways & 1 else set()
                world.cut_lines |= {(node, client)} if ways & 2 else set()


async def _idle(me: Process) -> None:
    await asyncio.Event().wait()


def simulate(
    world: MessageWorld,
    seconds: float,
    rates: MessageRates | None = None,
    faults_class: type[MessageFaults] = MessageFaults,
) -> None:
    """One run: faults for `seconds`, then calm, in which everything ends, then the checks."""
    faults = faults_class(world, rates)
    faults.ask(message_mix.found)
    while len(world.book.ids) < len(message_mix.QUEUES):
        world.run(0.5)
    message_mix.people(world)
    world.run(seconds, faults.step)
    calm(world, faults)
    world.converge()
    check(world)
    faults.admin.kill()


def calm(world: MessageWorld, faults: MessageFaults) -> None:
    """C12: when faults stop, every publication is answered, and every message comes to its end."""
    world.calm = True
    world.heal()
    world.cut_lines.clear()
    for process in world.processes.values():
        if process.paused is not None:
            process.resume()
        if not process.up:
            process.start()
    faults.ask(message_mix.unpause)
    deadline = world.now + DRAIN_S
    while (why := unfinished(world)) is not None:
        if world.now > deadline:
            check(world)  # which may know why
            raise Violation(f"after {DRAIN_S} s of calm {why}")
        world.run(0.25)


def unfinished(world: MessageWorld) -> str | None:
    """What has not come to its end."""
    book = world.book
    if world.producing:
        return f"not published: {world.producing}"
    if left := left_in_queues(book):
        return f"not drained: {left}"
    if delayed := world.delayed():
        return f"not due: {delayed}"
    if missed := left_to_groups(book):
        return f"not done by groups: {missed}"
    reading = list(world.reading.values())
    return f"not read: {missing}" if (missing := left_to_readers(book, reading)) else None


def check(world: MessageWorld) -> None:
    """All promises, on the whole run."""
    book, history = world.book, world.history
    nothing_is_lost(book, world.publications, outputs(book, message_mix.INPUTS))
    ends_have_causes(book, history)
    redeliveries_are_explained(book, history)
    attempts_are_counted(book, history)
    attempts_end(book, history)
    order_is_kept(book, history)
    dead_letters_are_exact(book, history)
    nothing_is_early(book)
    each_input_has_one_output(book, message_mix.INPUTS)
    groups_get_everything(book, history)
    readers_see_everything(book, world.readings)
    world.counts += history.tally
