"""Calls of simulated clients: frames go to one node and back in order, late, or never.

A call is lost with the node or the client, and where the network between them is cut for long. Whoever is left hears of
that as one does of a broken connection.
"""

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from node.api.forward import Passed
from node.api.router import DIRECT_KEY
from node.errors import Trailers
from tests.sim.checks import Violation
from tests.sim.lines import SILENCE_S, Pipe
from tests.sim.processes import Process

if TYPE_CHECKING:
    from tests.sim.message_node import MessageNode
    from tests.sim.message_world import MessageWorld

LOOK_S = 0.25
EOF = grpc.aio.EOF


class Ended(Exception):
    """A call was refused or broken off. Without a `reason` nobody knows what came of it."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(reason, message)
        self.reason, self.message = reason, message
        self.tries = 1
        """How often the call was made. After the first one a refusal says nothing of the others."""


class Inbox:
    """Frames that have arrived. After the last one comes the end: EOF, or an exception."""

    def __init__(self) -> None:
        self._frames: deque[object] = deque()
        self._arrived = asyncio.Event()

    def put(self, frame: object) -> None:
        self._frames.append(frame)
        self._arrived.set()

    async def get(self) -> Any:
        while not self._frames:
            self._arrived.clear()
            await self._arrived.wait()
        if isinstance(self._frames[0], Exception):
            raise self._frames[0]
        return self._frames[0] if self._frames[0] is EOF else self._frames.popleft()


class Context:
    """The node's end of a call, as its handler knows it."""

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._inbox = Inbox()

    def arrived(self, frame: object) -> None:
        self._inbox.put(frame)

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ((DIRECT_KEY, "1"),)

    def time_remaining(self) -> None:
        return None

    async def read(self) -> Any:
        frame = await self._inbox.get()
        if frame is not EOF:
            self._call.heard(frame)
        return frame

    async def write(self, frame: bytes) -> None:
        self._call.answered(frame)
        await asyncio.sleep(self._call.world.write_s())

    async def abort(self, code: grpc.StatusCode, details: str, trailers: Trailers) -> NoReturn:
        raise Ended(Passed(code, details, trailers).reason or str(code), details)


class Call:
    """One call of a client to one life of a node."""

    def __init__(self, world: "MessageWorld", client: Process, node: "MessageNode", path: str) -> None:
        self.world, self.client, self.node, self.path = world, client, node, path
        self.name = path.rpartition("/")[2]
        self._lives = client.life, node.life
        self._up = Pipe(world, lambda: (client.name, node.id) in world.cut_lines)
        self._down = Pipe(world, lambda: (node.id, client.name) in world.cut_lines)
        self._inbox = Inbox()
        self._context: Context | None = None
        self._task: asyncio.Task[None] | None = None
        self._cut_since: float | None = None
        self.about = "", ""
        """Queue and group of a Consume stream."""
        self.holder = ""
        """What the node calls the stream's leases, once it has said so."""
        self.open_here = self.open_there = True  # at the client, at the node
        if not node.up:
            self._down.push(self._broken)
        world.at(LOOK_S, self._look)

    # The client's end -------------------------------------------------------------------------------------------------

    def send(self, frame: object) -> None:
        """A frame, or EOF, on its way to the node."""
        if self.open_here:
            self._up.push(lambda: self.node.run(lambda: self._arrived(frame), self._lives[1]))

    async def read(self) -> Any:
        """The next frame, or EOF. Raises Ended."""
        return await self._inbox.get()

    def hang_up(self) -> None:
        """The client has done with this call, or is dead."""
        if self.open_here:
            self.open_here = False
            self._up.push(lambda: self.node.run(self._stop, self._lives[1]))

    def _told(self, frame: object) -> None:
        if self.open_here:
            self.client.run(lambda: self._inbox.put(frame), self._lives[0])
            if frame is EOF or isinstance(frame, Exception):
                self.open_here = False

    def _broken(self) -> None:
        self._told(Ended(""))

    # The node's end ---------------------------------------------------------------------------------------------------

    def _arrived(self, frame: object) -> None:
        if not self.open_there or self.node.node is None:
            return
        if self._context is None:
            self._context = Context(self)
            self.node.calls[self] = None
            self._task = self.node.loop.create_task(self._serve(frame))
        else:
            self._context.arrived(frame)

    async def _serve(self, first: object) -> None:
        assert self._context is not None
        assert self.node.node is not None
        handler: Any = self.node.node.grpc.router.service(SimpleNamespace(method=self.path))
        try:
            if handler.request_streaming:
                self._context.arrived(first)
                await handler.stream_stream(None, self._context)
            else:
                self.heard(first)
                self.answered(await handler.unary_unary(first, self._context))
            self._end(EOF)
        except Ended as error:
            if error.reason == "INTERNAL":
                raise Violation(f"{self.node.id} fails in {self.name}: {error.message}") from error
            self._end(error)
        except asyncio.CancelledError:
            self._end(Ended(""))
        except Exception as error:
            self.node.loop.failure = self.node.loop.failure or error
            raise

    def heard(self, frame: object) -> None:
        """The handler takes a frame."""
        if self.open_there:
            self.world.history.heard(self, frame)

    def answered(self, frame: bytes) -> None:
        """The handler says something."""
        if self.open_there:
            self.world.history.answered(self, frame)
            self._down.push(lambda: self._told(frame))

    def _end(self, how: object) -> None:
        """The handler is done."""
        self.node.calls.pop(self, None)
        if self.open_there:
            self.open_there = False
            self._down.push(lambda: self._told(how))

    def _stop(self) -> None:
        """The connection is gone, as the node sees it."""
        if self._task is None:
            self.open_there = False
        elif not self._task.done():
            self._task.cancel()

    def node_died(self) -> None:
        """What it had said is lost with it."""
        self.open_there = False
        self._down.stop()
        self._down.push(self._broken)

    # Between them -----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """A connection on which nothing can come is given up by both, and the one of a dead client by the node."""
        if not (self.open_here or self.open_there):
            return
        world = self.world
        if self.client.life != self._lives[0] or not self.client.up:
            self.hang_up()
        if self.node.life != self._lives[1] and self.open_there:
            self.node_died()  # before it had heard of this call
        pairs = {(self.client.name, self.node.id), (self.node.id, self.client.name)}
        silent = pairs & world.cut_lines or self.client.paused is not None or self.node.paused is not None
        if not silent:
            self._cut_since = None
        elif self._cut_since is None:
            self._cut_since = world.now
        elif world.now - self._cut_since > SILENCE_S:
            self.node.run(self._stop, self._lives[1])
            self._broken()
            self.open_here = False
        world.at(LOOK_S, self._look)
