"""Simulated Work streams: ordered and reliable while they last, stuck while the network is cut, and then broken."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from node.errors import ApiError
from node.tasks.session import Session
from taskraft.v1 import worker_pb2

if TYPE_CHECKING:
    from tests.sim.task_world import TaskNode, TaskWorld
    from tests.sim.workers import SimWorker

STUCK_S = 0.05
SILENCE_S = 1.5
"""A node gives a stream up on which nothing comes for so long, as gRPC's keepalive does."""


class Wire(Protocol):
    """What a pipe needs of its world."""

    def at(self, delay_s: float, event: Callable[[], None]) -> None: ...
    def line_delay_s(self) -> float: ...


class Pipe:
    """One direction: what goes in comes out in order, later."""

    def __init__(self, world: Wire, is_cut: Callable[[], bool]) -> None:
        self._world, self._is_cut = world, is_cut
        self._waiting: deque[Callable[[], None]] = deque()
        self._flowing = False

    def push(self, arrive: Callable[[], None]) -> None:
        self._waiting.append(arrive)
        if not self._flowing:
            self._flowing = True
            self._world.at(self._world.line_delay_s(), self._flow)

    def _flow(self) -> None:
        if self._is_cut():
            self._world.at(STUCK_S, self._flow)
            return
        arrived = list(self._waiting)
        self._waiting.clear()
        self._flowing = False
        for arrive in arrived:
            arrive()

    def stop(self) -> None:
        """What is under way is lost."""
        self._waiting.clear()


class SimLine:
    """A stream between a worker and one life of a node. Either side may end it; the other one hears of that, or not."""

    def __init__(self, world: "TaskWorld", worker: "SimWorker", node: "TaskNode") -> None:
        self.world, self.worker, self.node = world, worker, node
        self.session: Session | None = None
        self.heard_s = world.now
        self._life, self._instance, self._instance_id = node.life, worker.instance, worker.instance_id
        self._up = Pipe(world, lambda: (worker.name, node.id) in world.cut_lines)
        self._down = Pipe(world, lambda: (node.id, worker.name) in world.cut_lines)
        self.open_here = self.open_there = True  # at the worker, at the node

    # The worker's end.

    def say(self, request: worker_pb2.WorkRequest) -> None:
        if self.open_here:
            self._up.push(lambda: self.node.run(lambda: self._arrived(request), self._life))

    def hang_up(self) -> None:
        """The worker has done with this stream."""
        if self.open_here:
            self.open_here = False
            self._up.push(lambda: self.node.run(self._gone, self._life))

    # The node's end.

    def _arrived(self, request: worker_pb2.WorkRequest) -> None:
        if not self.open_there:
            return
        self.heard_s = self.world.now
        scheduler = self.node.scheduler
        assert scheduler is not None
        try:
            if self.session is None:
                self.session = scheduler.desk.connect(request.hello, lambda: None)
                self.node.lines.append(self)
            else:
                scheduler.desk.handle(self.session, request)
        except ApiError:
            self.close()
            return
        self.world.tasks.heard(self.world.now, self.node.leader, self._instance_id, request)

    def _gone(self) -> None:
        if self.open_there:
            self.open_there = False
            self._leave()

    def flush(self) -> None:
        """Send what the session has to say."""
        if self.session is None or not self.open_there:
            return
        machine = self.node.machine
        while (frame := self.session.next_frame(machine)) is not None:
            response = worker_pb2.WorkResponse.FromString(frame)
            self.world.tasks.sent.update(one.lease_id for one in response.assign.assignments)
            self._down.push(lambda response=response: self._deliver(response))  # type: ignore[misc]
        if self.session.over or self.world.now - self.heard_s > SILENCE_S:
            self.close()

    def _deliver(self, response: worker_pb2.WorkResponse) -> None:
        if self.open_here:
            self.worker.run(lambda: self.worker.heard(self, response), self._instance)

    def close(self) -> None:
        """The node ends the stream."""
        if self.open_there:
            self.open_there = False
            self._leave()
            self._down.push(self._cut)

    def _leave(self) -> None:
        if self in self.node.lines:
            self.node.lines.remove(self)
        if self.session is not None and self.node.scheduler is not None:
            self.node.scheduler.desk.disconnect(self.session)
            self.world.tasks.left(self.world.now, self.node.leader, self._instance_id)

    def died(self) -> None:
        """The node's process is gone: what it had said is lost with it."""
        self.open_there = False
        self._down.stop()
        self._down.push(self._cut)

    def _cut(self) -> None:
        if self.open_here:
            self.worker.run(lambda: self.worker.cut(self), self._instance)
