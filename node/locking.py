"""All that a leader does with locks beside applying commands, put to work together."""

from __future__ import annotations

from collections.abc import Callable

from node.broker import Broker
from node.clock import Clock
from node.leadership import Leadership
from node.locks.calls import Calls
from node.locks.keepalive import Barrier, KeepAlive
from node.locks.keeper import Keeper
from node.replication import Replicated
from node.state.machine import Machine
from node.tasks.pump import Pump


class Locking:
    """Leases, waiting calls and keepalives."""

    def __init__(
        self,
        machine: Machine,
        *,
        clock: Clock,
        broker: Broker,
        replica: Replicated,
        leadership: Leadership,
        fail: Callable[[Exception], None],
    ) -> None:
        """They hear of leadership and of the machine's events, and offer their commands to the broker."""
        pump = Pump(clock=clock, fail=fail)
        self.keeper = Keeper(machine, clock=clock, touch=pump.touch, wake=broker.wake)
        self.calls = Calls(self.keeper, not_leader=leadership.not_leader)
        self.keepalive = KeepAlive(
            self.keeper, Barrier(replica).passed, clock=clock, not_leader=leadership.not_leader
        )
        pump.drive(self.keeper.pump)
        broker.draw_from(self.keeper.commands)
        leadership.tell(self.keeper, self.calls, self.keepalive)
        machine.listeners += [self.keeper, self.calls, self.keepalive]

    def stop(self) -> None:
        """Calls and streams end, and go on elsewhere."""
        self.calls.stop()
        self.keepalive.stop()
