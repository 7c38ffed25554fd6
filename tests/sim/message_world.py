"""A simulated cluster with whole nodes, and the processes of its clients."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message

from taskraft.v1 import queue_pb2
from tests.sim.calls import EOF, Call, Ended
from tests.sim.message_book import Book
from tests.sim.message_history import History, watch_dispatch
from tests.sim.message_node import MessageNode, MessageStore
from tests.sim.message_witness import Witness
from tests.sim.processes import Process
from tests.sim.stream_checks import Reading
from tests.sim.world import World

PATIENCE_S = 1.0
PAUSE_S = 0.05
SERVICE = f"/{queue_pb2.DESCRIPTOR.services_by_name['QueueService'].full_name}/"
ELSEWHERE = frozenset({"NOT_LEADER", "NO_LEADER", "SHUTTING_DOWN", "OVERLOADED"})
"""Nothing was done; the same call may be made again."""
UNKNOWN = frozenset({"", "COMMIT_UNKNOWN", "NO_QUORUM"})
"""It may have been done, or not."""

Answer = TypeVar("Answer", bound=Message)


@dataclass(slots=True)
class Publication:
    """A publish that a client wants. `outcome` is `stored`, `refused` for that `reason`, or empty while nobody knows."""

    number: int
    target: str
    messages: list[queue_pb2.Message]
    outcome: str = ""
    reason: str = ""


class MessageWorld(World):
    """A cluster, its clients, and everything that was promised of messages."""

    node_class = MessageNode
    nodes: dict[str, MessageNode]  # type: ignore[assignment]

    def __init__(self, seed: int, **options: Any) -> None:
        self.book = Book()
        self.history = History(lambda: self.now)
        self.checks = Witness(self.book, self.history, self.history.tally)
        self.publications: list[Publication] = []
        self.producing: set[str] = set()
        """Producers that are not done."""
        self.changing: set[str] = set()
        """Changes of settings that are not answered."""
        self.readings: list[Reading] = []
        self.reading: dict[str, Reading] = {}
        """Those of the readers that there are, by process."""
        self.processes: dict[str, Process] = {}
        self.cut_lines: set[tuple[str, str]] = set()
        self.calm = False
        """True when nothing new is begun."""
        self._patches = pytest.MonkeyPatch()
        watch_dispatch(self._patches)
        self._requests = 0
        super().__init__(seed, store_class=MessageStore, **options)
        if seed % 4 == 0:
            for node in self.nodes.values():
                node.wrong_ms = self.dice.choice((-3000, 0, 0, 2000))

    def close(self) -> None:
        for process in self.processes.values():
            if process.up:
                process.kill()
        self._patches.undo()
        super().close()

    def add_process(self, name: str, main: Callable[[Process], Any]) -> None:
        self.processes[name] = Process(self, name, main)
        self.processes[name].start()

    def new_id(self, of: str) -> str:
        """For a request, a producer, ..."""
        self._requests += 1
        return f"{of}{self._requests}"

    def delayed(self) -> dict[str, int]:
        """How many messages wait for their time, by queue, as the leader knows."""
        leader = self.leader()
        if not isinstance(leader, MessageNode):
            return {"": 1}
        rows = [row.to_proto() for row in leader.machine.queues()]
        return {row.name: row.stats.delayed_messages for row in rows if row.stats.delayed_messages}

    # Calls ------------------------------------------------------------------------------------------------------------

    def line_delay_s(self) -> float:
        delay_s = self.dice.uniform(0.0003, 0.004)
        return delay_s + (self.dice.uniform(0, 0.3) if self.dice.random() < 0.01 else 0)

    def write_s(self) -> float:
        """How long a node takes to write a frame."""
        return self.dice.choice((0.0, 0.0, 0.002))

    def open(self, client: Process, method: str) -> Call:
        """A call to the leader, if the client guesses right."""
        leader = self.leader()
        guess = leader if leader is not None and self.dice.random() < 0.85 else None
        node = guess or self.dice.choice(list(self.nodes.values()))
        assert isinstance(node, MessageNode)
        return Call(self, client, node, SERVICE + method)

    async def ask(
        self,
        client: Process,
        method: str,
        request: Message,
        answer: type[Answer],
        patience_s: float = PATIENCE_S,
    ) -> Answer:
        """One try of a unary call. Raises Ended."""
        call = self.open(client, method)
        call.send(request.SerializeToString())
        try:
            async with asyncio.timeout(patience_s):
                frame = await call.read()
        except TimeoutError:
            raise Ended("") from None
        finally:
            call.hang_up()
        if frame is EOF:
            raise Ended("")
        return answer.FromString(frame)

    async def insist(self, client: Process, method: str, request: Message, answer: type[Answer]) -> Answer:
        """Make a call with a request_id until it is answered. Raises Ended if it is refused."""
        tries, answered = 0, None
        while answered is None:
            tries += 1
            try:
                answered = await self.ask(client, method, request, answer)
            except Ended as error:
                error.tries = tries
                if error.reason not in ELSEWHERE | UNKNOWN:
                    raise
                await asyncio.sleep(self.dice.uniform(0, 2 * PAUSE_S))
        return answered
