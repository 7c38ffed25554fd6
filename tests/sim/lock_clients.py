"""Simulated clients of locks: they ask, hold, keep alive, write and release, and are as unreliable as machines are.

They do what the SDK does (`client/taskraft/_locks.py`): a lock is certain for its TTL from the moment of sending, on their own
clock, which is a little fast or slow, and nothing is begun later than a margin before that.
"""

from collections.abc import Callable
from typing import Any

from taskraft._lock_keeper import BEATS_PER_TTL, margin_s
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import lock_pb2
from tests.sim.lock_world import Asking, LockNode, LockWorld

LOCKS = {"locks/one": 0, "locks/both": 0, "locks/some": 2}
"""Their permits. `one` is only held exclusively."""
TTLS_MS = (1_000, 1_500, 3_000)
PATIENCE_S = 0.4
"""Without an answer for so long another node is asked; a call that waits is asked again later."""
WAIT_PATIENCE_S = 2.0
DRIFT = 0.02


class SimHolder:
    """A client that can be killed, paused and cut off. It wants a lock, holds it for a while, gives it back."""

    def __init__(self, world: LockWorld, name: str) -> None:
        self.world, self.name = world, name
        self.stays_until_s = 0.0  # it gives nothing back before
        self.liked: LockNode | None = None  # the node that was of use last
        self.rate = 1 + world.dice.uniform(-DRIFT, DRIFT)
        self.instance = 0
        self.up, self.resting = True, False
        self.paused: list[Callable[[], None]] | None = None
        self._forget()
        self.later(world.dice.uniform(0, 0.5), self._want)

    def _forget(self) -> None:
        self.token = 0
        self.until_s = 0.0  # on its own clock, before the margin
        self.request = internal.Command()
        self.asking: tuple[LockNode, Asking] | None = None
        self.attempt = 0

    def clock(self) -> float:
        return self.world.now * self.rate

    # Life and death.

    def kill(self) -> None:
        """The process is gone; a new one begins a moment later. Nodes hear of its broken connections."""
        self._hang_up()
        self.instance += 1
        self.paused = None
        self._forget()
        self.later(self.world.dice.uniform(0.1, 1.0), self._want)

    def pause(self) -> None:
        self.paused = []

    def resume(self) -> None:
        waiting, self.paused = self.paused or [], None
        for event in waiting:
            event()

    def later(self, delay_s: float, event: Callable[[], None]) -> None:
        instance = self.instance
        self.world.at(delay_s, lambda: self.run(event, instance))

    def run(self, event: Callable[[], None], instance: int) -> None:
        """An event of this process: not after its death, not while it is paused."""
        if instance != self.instance:
            return
        if self.paused is not None:
            self.paused.append(lambda: self.run(event, instance))
            return
        event()

    # Calls.

    def _node(self) -> LockNode:
        luck = self.world.dice.random()
        if self.liked is not None and luck < 0.7:
            return self.liked
        node = (self.world.leader() if luck < 0.9 else None) or self.world.dice.choice(
            list(self.world.nodes.values())
        )
        assert isinstance(node, LockNode)
        return node

    def _send(self, node: LockNode, arrive: Callable[[], None]) -> None:
        """Something travels to a node; it is lost if the line is cut."""
        life = node.life
        if not self.world.is_cut(self.name, node.id):
            self.world.at(self.world.line_delay_s(), lambda: node.run(arrive, life))

    def _answer(self, node: LockNode, told: Callable[[Any], None]) -> Callable[[Any], None]:
        """What a node says travels back."""
        instance = self.instance

        def answered(what: Any) -> None:
            if not self.world.is_cut(node.id, self.name):
                self.world.at(self.world.line_delay_s(), lambda: self.run(lambda: told(what), instance))

        return answered

    # A lock.

    @property
    def idle(self) -> bool:
        """Whether it neither has nor asks for a lock."""
        return not self.token and not self.request.request_id

    def _want(self) -> None:
        self._forget()
        if self.resting:
            self.later(0.5, self._want)
            return
        dice = self.world.dice
        name = dice.choice(list(LOCKS))
        mode = lock_pb2.LOCK_MODE_SEMAPHORE if LOCKS[name] else lock_pb2.LOCK_MODE_EXCLUSIVE
        if name == "locks/both" and dice.random() < 0.6:
            mode = lock_pb2.LOCK_MODE_SHARED
        self.ttl_ms = dice.choice(TTLS_MS)
        acquire = internal.AcquireLock(
            name=name, mode=mode, permits=LOCKS[name], ttl_ms=self.ttl_ms, holder_id=self.name
        )
        acquire.lock_delay_ms = dice.choice((0, 0, 500))
        self.lock = name
        self.request = internal.Command(request_id=f"q{next(self.world.requests)}", acquire_lock=acquire)
        self.asked_s, self.asked_at_s = self.clock(), self.world.now
        self._ask()

    def _ask(self) -> None:
        """Ask, or ask again with the same request: at a node that may lead."""
        if self.world.dice.random() < 0.5:
            self._hang_up()  # or else the call that was made before goes on, as one whose broken line nobody has noticed
        node, request, attempt = self._node(), self.request, self.attempt + 1
        self.attempt = attempt
        asking = Asking(self._answer(node, lambda what: self._asked(what, attempt)), self.lock)
        self.asking = node, asking
        self._send(node, lambda: node.acquire(request, asking))
        self.later(WAIT_PATIENCE_S, lambda: self._impatient(request, attempt))

    def _hang_up(self) -> None:
        if self.asking is not None:
            node, asking = self.asking
            self.asking = None
            self._send(node, lambda: node.hang_up(asking))

    def _impatient(self, request: internal.Command, attempt: int) -> None:
        if self.request is request and self.attempt == attempt and not self.token:
            self.world.counts["asked again"] += 1
            self._ask()

    def _asked(self, what: Any, attempt: int) -> None:
        if self.token or attempt != self.attempt:
            return
        if isinstance(what, int):
            self.liked = self.asking[0] if self.asking is not None else None
            self.asking = None
            self._hold(what)
        elif what in ("ended", "LOCK_HELD"):
            self.world.counts["asked anew"] += 1
            self._want()
        else:
            self.later(self.world.dice.uniform(0.01, 0.1), lambda: self._again(attempt))

    def _again(self, attempt: int) -> None:
        if not self.token and attempt == self.attempt:
            self._ask()

    def _hold(self, token: int) -> None:
        """It is granted: certain from the moment of asking first, if that is not long ago."""
        self.token = token
        self.world.counts["held"] += 1
        late = self.clock() - self.asked_s >= self.ttl_ms / 1000 / BEATS_PER_TTL
        if not late:
            self._certain_from(self.asked_s, self.asked_at_s)
        self._beat(token)
        self.later(self.world.dice.choice((0.1, 0.3, 1.0, 4.0)), lambda: self._release(token))
        self.later(self.ttl_ms / 1000, lambda: self._look(token))
        self._write(token)

    def _certain_from(self, sent_s: float, sent_at_s: float) -> None:
        """It may rely on the lock for its TTL from the moment of sending; it does so until a margin before, on its clock."""
        ttl_s = self.ttl_ms / 1000
        self.until_s = max(self.until_s, sent_s + ttl_s - margin_s(ttl_s))
        self.world.locks.may_rely(self.token, sent_at_s + ttl_s)

    def _beat(self, token: int) -> None:
        """Keep it alive, and go on doing so."""
        if token != self.token:
            return
        self.keep(token)
        beat_s = self.ttl_ms / 1000 / BEATS_PER_TTL
        self.later(min(beat_s, self.world.dice.uniform(0.5, 1.0) * beat_s), lambda: self._beat(token))

    def keep(self, token: int) -> None:
        """Send a keepalive, if it still has that lock."""
        if token != self.token:
            return
        node, sent_s, sent_at_s, lock = self._node(), self.clock(), self.world.now, self.lock

        def told(kept: Any) -> None:
            if token != self.token:
                return
            if kept:
                self.world.counts["kept alive"] += 1
                self.liked = node
                self._certain_from(sent_s, sent_at_s)
            else:
                self._lose()

        answer = self._answer(node, told)
        self._send(node, lambda: node.keep(lock, token, answer))

    def _look(self, token: int) -> None:
        """The lock is lost when it is not certain any more."""
        if token != self.token:
            return
        if self.clock() >= self.until_s:
            self._lose()
        else:
            self.later(0.05, lambda: self._look(token))

    def _lose(self) -> None:
        self.world.counts["lost"] += 1
        self.liked = None
        self._forget()
        self.later(self.world.dice.uniform(0.01, 0.3), self._want)

    def _write(self, token: int) -> None:
        """Look at the clock, think, and act: what was begun in time may arrive late, or after a pause."""
        if token != self.token:
            return
        dice, lock = self.world.dice, self.lock
        if self.clock() < self.until_s and lock == "locks/one":
            arrive_s = self.world.line_delay_s()
            self.later(
                dice.choice((0.0, 0.01, 0.3)),
                lambda: self.world.at(arrive_s, lambda: self.world.locks.writes(lock, token)),
            )
        self.later(dice.uniform(0.02, 0.2), lambda: self._write(token))

    def _release(self, token: int) -> None:
        """Give it back, and rely on it no more; asked again until there is an answer, or its time is over anyway."""
        if token != self.token:
            return
        if self.world.now < self.stays_until_s:
            self.later(0.1, lambda: self._release(token))
            return
        self.world.counts["released"] += 1
        self.world.locks.relies_no_more(token)
        release = internal.ReleaseLock(name=self.lock, token=token)
        command = internal.Command(request_id=f"q{next(self.world.requests)}", release_lock=release)
        self._forget()
        self._give_back(command, self.clock() + self.ttl_ms / 1000)
        self.later(self.world.dice.uniform(0, 0.2), self._want)

    def _give_back(self, command: internal.Command, give_up_s: float) -> None:
        node, done = self._node(), [False]

        def told(what: Any) -> None:
            done[0] = what == "done"

        def again() -> None:
            if not done[0] and self.clock() < give_up_s:
                self._give_back(command, give_up_s)

        answer = self._answer(node, told)
        self._send(node, lambda: node.release(command, answer))
        self.later(PATIENCE_S, again)
