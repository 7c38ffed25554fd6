"""The leader's front desk: gathers commands while entries are in flight, and hands each caller its result.

One entry carries all that was asked for since the one before it left, so throughput grows with load and a lone
command waits for nobody. Bytes on their way to a commit are bounded; beyond that unary calls are refused and
streams wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from node import commands, limits
from node.clock import Clock
from node.commands import Command
from node.dispatch.queue import Answer
from node.errors import ApiError, Internal, Overloaded, Refusal, ShuttingDown, translate
from node.faults import guarded
from node.replication import Replicated
from node.state.results import Refused, Result, Success

_log = logging.getLogger(__name__)

Source = Callable[[], Iterator[tuple[Command, Answer]]]
"""Asked for what it has whenever an entry is made; what it does not yield now it must offer again."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A command and whom to tell what came of it: exactly one of `future` and `answer`."""

    command: Command
    future: asyncio.Future[Success] | None = None
    answer: Answer | None = None

    def succeed(self, result: Result) -> None:
        if isinstance(result, Refused):
            self.fail(Refusal(result.code, result.reason, result.message, result.metadata))
        elif self.answer is not None:
            self.answer(None)
        elif self.future is not None and not self.future.done():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        if self.answer is not None:
            self.answer(error)
        elif self.future is not None and not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # it is no mistake if nobody waits any more


class Broker:
    """Proposes batches of commands. Belongs to the event loop; useful on the leader, harmless elsewhere."""

    def __init__(
        self,
        replica: Replicated,
        *,
        clock: Clock,
        inflight_bytes_max: int,
        fail: Callable[[Exception], None],
    ) -> None:
        """`fail` is told of a mistake of ours that leaves the broker in no state to go on."""
        self.inflight_bytes = 0
        self._replica, self._clock = replica, clock
        self._inflight_bytes_max, self._fail_node = inflight_bytes_max, fail
        self._sources: list[Source] = []
        self._waiting: deque[Waiting] = deque()
        self._entries = 0
        self._scheduled = False
        self._woken = False
        self._stopped = False
        self._time_ms = 0
        self._room = asyncio.Event()

    def draw_from(self, source: Source) -> None:
        """Ask `source`, too, whenever an entry is made."""
        self._sources.append(source)

    def submit(self, command: Command) -> asyncio.Future[Success]:
        """Put a command into the log. The future gets its result, Refusal if the state machine refused it, NotLeader
        if it was not and will not be done, or CommitUnknown. Raises Overloaded, ShuttingDown at once.
        """
        if self._stopped:
            raise ShuttingDown
        if self.inflight_bytes and self.inflight_bytes + command.size > self._inflight_bytes_max:
            raise Overloaded(limit_bytes=self._inflight_bytes_max)
        future: asyncio.Future[Success] = asyncio.get_running_loop().create_future()
        self.inflight_bytes += command.size
        self._waiting.append(Waiting(command, future=future))
        self._schedule()
        return future

    def follow_up(self, commands: Sequence[tuple[Command, Answer]]) -> None:
        """Put these right behind what was submitted last."""
        self._waiting.extend(Waiting(command, answer=answer) for command, answer in commands)

    async def room_for(self, size: int) -> None:
        """Wait until `submit` of so many bytes would not be Overloaded."""
        while self.inflight_bytes and self.inflight_bytes + size > self._inflight_bytes_max:
            self._room.clear()
            await self._room.wait()

    def wake(self) -> None:
        """A source has something that is worth an entry."""
        self._woken = True
        self._schedule()

    def stop(self) -> None:
        """Take no more commands; those that were taken are committed."""
        self._stopped = True

    @property
    def idle(self) -> bool:
        """True if nothing is on its way to a commit."""
        return not self._waiting and not self._entries and not self._woken

    def _schedule(self) -> None:
        """Make an entry when this turn of the event loop is over, so that it carries all that the turn brought."""
        if not self._scheduled and self._entries < limits.ENTRIES_IN_FLIGHT_MAX:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(guarded, self._fail_node, self._make_entry)

    def _make_entry(self) -> None:
        self._scheduled = False
        if self._entries >= limits.ENTRIES_IN_FLIGHT_MAX or not (self._waiting or self._woken):
            return
        self._woken = False
        batch = self._gather()
        if not batch:
            return
        self._time_ms = max(self._time_ms, self._clock.wall_ms())
        payload = commands.batch(self._time_ms, [each.command for each in batch])
        self._entries += 1
        self._replica.propose(payload).add_done_callback(partial(guarded, self._fail_node, self._done, batch))
        if self._waiting or self._woken:
            self._schedule()

    def _gather(self) -> list[Waiting]:
        """What goes into the next entry, at least one command if there is any: from the sources first."""
        batch: list[Waiting] = []
        size = 0
        for source in self._sources:
            for command, answer in source():
                batch.append(Waiting(command, answer=answer))
                size += command.size
                if size >= limits.ENTRY_BYTES_SOFT or len(batch) >= limits.SOURCE_COMMANDS_SOFT:
                    self._woken = True
                    return batch
        count = len(batch)
        while self._waiting and size < limits.ENTRY_BYTES_SOFT and count < limits.ENTRY_COMMANDS_SOFT:
            if batch and size + self._waiting[0].command.size > limits.ENTRY_BYTES_MAX:
                break
            batch.append(self._waiting.popleft())
            size += batch[-1].command.size
            count += batch[-1].command.count
        return batch

    def _done(self, batch: list[Waiting], proposal: asyncio.Future[object]) -> None:
        self._entries -= 1
        self.inflight_bytes -= sum(each.command.size for each in batch if each.future is not None)
        self._room.set()
        error = asyncio.CancelledError() if proposal.cancelled() else proposal.exception()
        if error is not None:
            self._fail(batch, error)
        else:
            results = proposal.result()
            assert isinstance(results, list)
            for each, result in zip(batch, results, strict=True):
                each.succeed(result)
        if self._waiting or self._woken:
            self._schedule()

    def _fail(self, batch: list[Waiting], error: BaseException) -> None:
        answer: ApiError | None = translate(error)
        if answer is None:
            _log.error("proposal_failed", exc_info=error)
            answer = Internal()
        for each in batch:
            each.fail(answer)
