"""Simulated processes of clients, written with coroutines: they are started, killed and paused."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from tests.sim.loop import SimLoop

Main = Callable[["Process"], Coroutine[Any, Any, None]]


class Timed(Protocol):
    """What a process needs of its world."""

    def at(self, delay_s: float, event: Callable[[], None]) -> None: ...
    def clock(self) -> float: ...


class Process:
    """Runs `main` from its start to its death, and anew after the next start."""

    def __init__(self, world: Timed, name: str, main: Main) -> None:
        self.world, self.name, self._main = world, name, main
        self.life = 0
        self.up = False
        self.paused: list[Callable[[], None]] | None = None
        self.loop = SimLoop(self, world.clock, self.later)

    def start(self) -> None:
        assert not self.up
        self.up, self.life, self.paused = True, self.life + 1, None
        self.loop = SimLoop(self, self.world.clock, self.later)
        self.later(0.0, lambda: self.spawn(self._main(self)))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this beside. A mistake in it is a mistake in the simulation."""
        task = self.loop.create_task(work)
        task.add_done_callback(lambda done: done.cancelled() or done.result())

    def kill(self) -> None:
        """It is gone with all that it held."""
        self.up, self.paused = False, None
        self.loop.end()

    def pause(self) -> None:
        self.paused = []

    def resume(self) -> None:
        waiting, self.paused = self.paused or [], None
        for event in waiting:
            event()

    def later(self, delay_s: float, event: Callable[[], None]) -> None:
        life = self.life
        self.world.at(delay_s, lambda: self.run(event, life))

    def run(self, event: Callable[[], None], life: int) -> None:
        """An event of this life: not after its death, not while it is paused."""
        if not self.up or life != self.life:
            return
        if self.paused is not None:
            self.paused.append(lambda: self.run(event, life))
            return
        with self.loop.running():
            event()
        self.loop.run_ready()
