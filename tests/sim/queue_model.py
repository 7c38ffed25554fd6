"""Queues in plain Python: what the promises say, message by message, with nothing of the implementation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import groupby

from node.state.results import Acked, Advanced, Done, Moved, Published, Purged, Refused, Result
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.sim.model_queue import ModelChunk, ModelQueue

SPARED_MS = 1_000


@dataclass(slots=True)
class Model:
    """`now_ms` is the time of the entry in hand; `queues` are in the order in which they were created."""

    queues: dict[str, ModelQueue] = field(default_factory=dict)
    now_ms: int = 0

    def apply(self, command: command_pb2.Command) -> Result | None:
        """What the command answers; None where the model does not know the details."""
        match command.WhichOneof("kind"):
            case "create_queue":
                self._create(command.create_queue.queue)
                return None
            case "update_queue":
                self._update(command.update_queue)
                return None
            case "delete_queue":
                self._delete(command.delete_queue.name)
                return None
            case "purge_queue":
                return self._purge(command.purge_queue.name)
            case "publish":
                return self._publish(command.publish)
            case "ack":
                return self._ack(command.ack)
            case "delivered":
                return self._delivered(command.delivered)
            case "move_messages":
                return self._move(command.move_messages)
            case "advance_queues":
                return self._advance(command.advance_queues)
        raise AssertionError(command)

    # Settings

    def _create(self, queue: queue_pb2.Queue) -> None:
        if queue.name in self.queues or not self._may_point(queue.name, queue.dead_letter_queue):
            return
        drop = queue.overflow_policy == queue_pb2.OVERFLOW_POLICY_DROP_OLDEST
        made = ModelQueue(queue.name, queue.max_messages, queue.max_bytes, drop)
        self.queues[queue.name] = made
        self._set(made, queue, ["dead_letter_queue", "max_age", "bindings"])

    def _update(self, command: command_pb2.UpdateQueue) -> None:
        queue = self.queues.get(command.queue.name)
        if queue is None:
            return
        target = queue.dead_letter_queue
        if "dead_letter_queue" in command.fields:
            target = command.queue.dead_letter_queue
        if self._may_point(queue.name, target):
            self._set(queue, command.queue, command.fields)

    @staticmethod
    def _set(queue: ModelQueue, given: queue_pb2.Queue, names: Iterable[str]) -> None:
        if "dead_letter_queue" in names:
            queue.dead_letter_queue = given.dead_letter_queue
        if "max_age" in names:
            queue.max_age_ms = given.max_age.ToMilliseconds()
        if "bindings" in names:
            queue.bindings = [(binding.pattern, dict(binding.headers)) for binding in given.bindings]

    def _may_point(self, name: str, target: str) -> bool:
        while target and target != name and target in self.queues:
            target = self.queues[target].dead_letter_queue
        return not target

    def _delete(self, name: str) -> None:
        if all(queue.dead_letter_queue != name for queue in self.queues.values()):
            self.queues.pop(name, None)

    def _purge(self, name: str) -> Result | None:
        queue = self.queues.get(name)
        if queue is None:
            return None
        count = queue.remove(set(queue.live())) + queue.delayed_messages()
        queue.delayed.clear()
        return Purged(count)

    # Publish

    def _publish(self, command: command_pb2.Publish) -> Result | None:
        messages = command_pb2.Chunk.FromString(command.chunk).messages
        topic = command.queue.startswith("topics/")
        if not topic and command.queue not in self.queues:
            return None
        shares: list[tuple[ModelQueue, list[ModelChunk]]] = []
        for queue in [*self.queues.values()] if topic else [self.queues[command.queue]]:
            wanted = [not topic or _is_bound(queue, command.queue, message) for message in messages]
            if any(wanted):
                shares.append((queue, self._runs([*messages], wanted)))
        if topic and not shares:
            return Published(0, 0, queues=0) if command.allow_unroutable else None
        weights = [
            (sum(len(run.live) for run in runs), sum(run.bytes() for run in runs)) for _, runs in shares
        ]
        for (queue, _), (count, size) in zip(shares, weights, strict=True):
            if not queue.fits(count, size) and not queue.makes_room(count, size):
                return None
        first = 0 if topic else shares[0][0].next_sequence
        over = [(queue, *_over(queue, *weight)) for (queue, _), weight in zip(shares, weights, strict=True)]
        dropped = 0
        for (queue, runs), (_, messages_over, bytes_over) in zip(shares, over, strict=True):
            dropped += self._drop(queue, messages_over, bytes_over)
            for run in runs:
                if run.due_ms is None:
                    queue.arrive(run, self.now_ms)
            for run in runs:
                if run.due_ms is not None:
                    queue.delayed.append(run.at(queue.next_delayed))
                    queue.next_delayed += run.count
        delayed = sum(self._due_ms(message) is not None for message in messages)
        first = 0 if delayed == len(messages) else first
        return Published(first, len(messages), dropped=dropped, delayed=delayed, queues=len(shares))

    def _runs(self, messages: list[queue_pb2.Message], wanted: list[bool]) -> list[ModelChunk]:
        """What a queue gets: successive messages that go the same way, from the first wanted one to the last."""
        ways = [(self._due_ms(m), m.priority, m.ttl.ToMilliseconds()) for m in messages]
        found = []
        for (due_ms, priority, ttl_ms), group in groupby(range(len(messages)), lambda place: ways[place]):
            places = list(group)
            live = [place for place in places if wanted[place]]
            if not live:
                continue
            some = messages[live[0] : live[-1] + 1]
            size = command_pb2.Chunk(messages=some).ByteSize()
            bodies = [message.body for message in some]
            found.append(
                ModelChunk(
                    live[0], len(some), size, set(live), bodies, priority, due_ms=due_ms, ttl_ms=ttl_ms
                )
            )
        return found

    def _due_ms(self, message: queue_pb2.Message) -> int | None:
        due_ms = message.deliver_time.ToMilliseconds()
        if message.HasField("delay"):
            due_ms = self.now_ms + message.delay.ToMilliseconds()
        return due_ms if due_ms > self.now_ms else None

    def _drop(self, queue: ModelQueue, messages: int, size: int) -> int:
        """Remove the oldest of the lowest priority until so many messages and bytes are freed."""
        before, held = queue.bytes(), len(queue.live())
        gone: set[int] = set()
        for chunk in queue.oldest_first():
            for sequence in sorted(chunk.live):
                left = replace(queue, chunks=[replace(c, live=c.live - gone) for c in queue.chunks])
                if held - len(left.live()) >= messages and before - left.bytes() >= size:
                    break
                gone.add(sequence)
        return self._take(
            queue, [(c, gone) for c in queue.oldest_first()], queue_pb2.DEAD_LETTER_REASON_OVERFLOW
        )

    # What consumers say

    def _ack(self, command: command_pb2.Ack) -> Result | None:
        queue = self.queues.get(command.queue)
        if queue is None:
            return None
        asked = [s for r in command.ranges for s in range(r.first, min(r.last, 10_000) + 1)]
        if command.strict and not set(asked) <= set(queue.live()):
            return None
        return Acked(queue.remove(set(asked)))

    def _delivered(self, command: command_pb2.Delivered) -> Result | None:
        queue = self.queues.get(command.queue)
        if queue is None:
            return None
        for again in command.redelivered:
            asked = range(again.range.first, again.range.last + 1)
            queue.attempts.update((sequence, again.attempt) for sequence in queue.live() if sequence in asked)
        marks = {0: command.watermark, **{mark.priority: mark.watermark for mark in command.priorities}}
        for priority in marks.keys() & queue.watermarks.keys():
            watermark = min(marks[priority], queue.next_sequence - 1)
            queue.watermarks[priority] = max(queue.watermarks[priority], watermark)
        return Done()

    # Dead letters

    def _take(
        self, queue: ModelQueue, parts: list[tuple[ModelChunk, set[int]]], reason: queue_pb2.DeadLetterReason
    ) -> int:
        """These sequences of these chunks go to the dead-letter queue, or are gone."""
        target = self.queues.get(queue.dead_letter_queue)
        gone: set[int] = set()
        for chunk, wanted in parts:
            whole = chunk.part(wanted)
            for part, attempts in queue.by_attempts(whole) if whole else ():
                if target:
                    target.arrive(part, self.now_ms, (queue.name, part.first, reason, attempts))
                gone |= part.live
        return queue.remove(gone)

    def _move(self, command: command_pb2.MoveMessages) -> Result | None:
        source, target = self.queues.get(command.queue), self.queues.get(command.target)
        if source is None or (command.target and target in (None, source)):
            return None
        done: set[int] = set()
        parts: list[tuple[ModelChunk, int]] = []
        for each in sorted(command.messages, key=lambda each: each.range.first):
            asked = set(range(each.range.first, min(each.range.last, 10_000) + 1)) - done
            done |= asked
            found = [chunk.part(asked) for chunk in source.chunks]
            parts += [(part, each.attempts) for part in found if part]
        if command.strict and not done <= set(source.live()):
            return None
        parts.sort(key=lambda one: one[0].first)
        if command.reason:
            for part, attempts in parts:
                if dead := self.queues.get(source.dead_letter_queue):
                    dead.arrive(part, self.now_ms, (source.name, part.first, command.reason, attempts))
            return Moved(source.remove({sequence for part, _ in parts for sequence in part.live}))
        gone: set[int] = set()
        homes = [command.target or (part.letter or ("",))[0] for part, _ in parts]
        for home in dict.fromkeys(homes):
            back = self.queues.get(home)
            for (part, _), name in zip(parts, homes, strict=True):
                if back and back is not source and name == home:
                    back.arrive(part, self.now_ms)
                    gone |= part.live
        return Moved(source.remove(gone), command.next_sequence)

    # Time

    def next_due_ms(self) -> int | None:
        times = [queue.next_due_ms() for queue in self.queues.values()]
        return min((time for time in times if time is not None), default=None)

    def _advance(self, command: command_pb2.AdvanceQueues) -> Result | None:
        """All that is due; the limit must be large enough for that."""
        spared = {
            each.queue: {s for r in each.ranges for s in range(r.first, min(r.last, 10_000) + 1)}
            for each in command.spared
        }
        seen = 0
        for queue in self.queues.values():
            seen += self._advance_one(queue, spared.get(queue.name, set()))
        assert seen < command.limit
        return Advanced(seen)

    def _advance_one(self, queue: ModelQueue, spared: set[int]) -> int:
        expired, looked = queue_pb2.DEAD_LETTER_REASON_EXPIRED, 0
        due = [chunk for chunk in queue.delayed if chunk.due_ms is not None and chunk.due_ms <= self.now_ms]
        for chunk in sorted(due, key=lambda chunk: (chunk.due_ms, chunk.first)):
            queue.delayed.remove(chunk)
            queue.arrive(chunk, self.now_ms)
        over = [c for c in queue.oldest_first() if c.due_ms is not None and c.due_ms <= self.now_ms]
        over.sort(key=lambda chunk: (chunk.priority, chunk.due_ms, chunk.first))
        for chunk in over:
            if chunk.live & spared:
                chunk.due_ms = self.now_ms + SPARED_MS
        self._take(queue, [one for chunk in over for one in _gaps(chunk, spared)], expired)
        looked += len(due) + len(over)
        if not queue.max_age_ms or self.now_ms < queue.age_ms:
            return looked
        old = [c for c in queue.oldest_first() if c.came_ms + queue.max_age_ms <= self.now_ms]
        held = [chunk for chunk in old if chunk.live & spared]
        self._take(queue, [one for chunk in old for one in _gaps(chunk, spared)], expired)
        if held:
            queue.age_ms = self.now_ms + SPARED_MS
        return looked + len(old) - len(held)


def _gaps(chunk: ModelChunk, spared: set[int]) -> list[tuple[ModelChunk, set[int]]]:
    """The chunk once for each run of sequences that nobody holds."""
    sequences = range(chunk.first, chunk.first + chunk.count)
    runs = groupby(sequences, lambda sequence: sequence in spared)
    return [(chunk, set(run)) for held, run in runs if not held]


def _over(queue: ModelQueue, count: int, size: int) -> tuple[int, int]:
    """By how many messages and bytes a publish does not fit."""
    messages = len(queue.live()) + queue.delayed_messages() + count - queue.max_messages
    weight = queue.bytes() + queue.delayed_bytes() + size - queue.max_bytes
    return max(0, messages) if queue.max_messages else 0, max(0, weight) if queue.max_bytes else 0


def _is_bound(queue: ModelQueue, topic: str, message: queue_pb2.Message) -> bool:
    return any(
        _matches(pattern.split("."), topic.removeprefix("topics/").split("."))
        and all(message.headers.get(key) == value for key, value in headers.items())
        for pattern, headers in queue.bindings
    )


def _matches(pattern: list[str], topic: list[str]) -> bool:
    if not pattern or not topic:
        return not pattern and not topic
    return pattern == [">"] or (pattern[0] in ("*", topic[0]) and _matches(pattern[1:], topic[1:]))


def same_answer(expected: Result | None, answered: Result) -> bool:
    """True if the machine answered what the model expects; where that is unknown, all but a fault will do."""
    if expected is not None:
        return expected == answered
    return not (isinstance(answered, Refused) and answered.reason == "INTERNAL")
