"""The core of stream processing: records in, state and results out. No clock, no dice, no I/O.

You owe it: `take` records in the order of the source, call `step` until it returns False before the next one (also at
the beginning: somebody else may have stopped halfway), and store what `cut` returns wholly or not at all. It owes you:
the same records and the same passed time give the same results in the same order, wherever the cuts are, and whether
or not it was made anew from the stored state in between.

The event clock shows the latest event time of all; the watermark is `out_of_orderness` behind it. A window whose end it
has reached is published; what still comes for it changes it, and publishes it again, until the watermark is
`allowed_lateness` after its end. Then it is dropped, and what comes now is late.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from taskraft.streams import _limits
from taskraft.streams._aggregations import read, write
from taskraft.streams._cells import Cells, Slot, bytes_of, size_of
from taskraft.streams._clock import CLOCK, Clock
from taskraft.streams._lengths import moment_ms
from taskraft.streams._plan import Output, Plan, Record, Result, Window
from taskraft.streams.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Cut(NamedTuple):
    """What is to be stored in one transaction."""

    taken: Sequence[int]  # sequences of the source, ascending
    state: Mapping[str, bytes]  # by message key; the clock is the last one
    outputs: Sequence[Output]


@dataclass(slots=True)
class _Stage:
    """What one record changes: kept aside until nothing can fail any more."""

    texts: dict[Slot, str] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    latest_ms: int | None = None
    late: int = 0


class Processor:
    """Runs a plan over records, beginning with what was stored."""

    def __init__(self, plan: Plan, stored: Mapping[str, bytes]) -> None:
        self._plan = plan
        self._clock = Clock.load(stored.get(CLOCK), plan.shape())
        self._cells = Cells.load({key: body for key, body in stored.items() if key != CLOCK}, self._is_over)
        self._firing: deque[str] = deque()  # keys of the window that is being published
        self._settled = False
        self._wake_ms: int | None = None  # the watermark at which the next window ends, or is over
        self._taken: list[int] = []
        self._outputs: list[Output] = []
        self._output_bytes = 0

    @property
    def clock(self) -> Clock:
        """How far it has come; changes as it goes on."""
        return self._clock

    @property
    def watermark_ms(self) -> int | None:
        """No event before this moment is expected any more; None before the first event."""
        event_ms = self._clock.event_ms
        return None if event_ms is None else event_ms - self._plan.out_of_orderness_ms

    @property
    def open_slots(self) -> int:
        """How many accumulators it holds."""
        return len(self._cells)

    @property
    def changed(self) -> bool:
        """True if there is something to store."""
        return bool(self._taken or self._outputs or self._cells.changes)

    @property
    def full(self) -> bool:
        """True if what has changed should be stored before it goes on: a transaction has limits."""
        return (
            len(self._taken) >= _limits.TAKEN_MAX
            or self._cells.changes + len(self._outputs) >= _limits.COMMIT_CHANGES_SOFT
            or self._cells.changed_bytes + self._output_bytes >= _limits.COMMIT_BYTES_SOFT
        )

    def cut(self) -> Cut:
        """All that has changed since the last cut; without it the next one makes no sense."""
        state = {**self._cells.take_changes(), CLOCK: self._clock.written()}
        cut = Cut(self._taken, state, self._outputs)
        self._taken, self._outputs, self._output_bytes = [], [], 0
        return cut

    # Records -----------------------------------------------------------------------------------------------------

    def take(self, record: Record) -> None:
        """Count one record in. StepFailed if a function of the plan raises and the plan has no place for such records."""
        assert self._settled, "what is due is published first"
        clock, before = self._clock, self._clock.position
        assert before is None or record.sequence > before, "records come in the order of their sequences"
        try:
            stage = self._staged(record)
        except Exception as error:  # noqa: BLE001  functions of the plan raise what they like
            stage = self._failed(record, error)
        for slot, text in stage.texts.items():
            self._cells.put(slot, text)
        for output in stage.outputs:
            self._publish(output)
        clock.position = record.sequence
        clock.late += stage.late
        self._taken.append(record.sequence)
        self._move_clock(stage.latest_ms)

    def pass_time(self, elapsed_ms: int) -> None:
        """Nothing has come for so long: the event clock goes on at the speed of ours."""
        if self._clock.event_ms is not None:
            self._move_clock(self._clock.event_ms + elapsed_ms)

    def _staged(self, record: Record) -> _Stage:
        plan, stage = self._plan, _Stage()
        for value in plan.values(record):
            key = "" if plan.key_of is None else _checked_key(plan.key_of(value))
            if plan.aggregation is None:
                stage.outputs.append(plan.output(value, key))
                continue
            slots = [Slot(0, key)] if plan.windows is None else self._slots(value, key, record, stage)
            for slot in slots:
                self._add(stage, slot, value)
        if plan.late_to and stage.late:
            stage.outputs.append(Output(plan.late_to, record.body, record.key, record.headers))
        for slot in stage.texts:  # what was published already is published again
            if self._is_closed(slot):
                stage.outputs.append(
                    self._result(slot, stage.texts[slot], update=self._cells.get(slot) is not None)
                )
        if stage.outputs or not _is_small(stage.texts):
            sizes = [size_of(slot, text) for slot, text in stage.texts.items()]
            _check_sizes(sizes + [_output_size(output) for output in stage.outputs])
        return stage

    def _slots(self, value: Any, key: str, record: Record, stage: _Stage) -> list[Slot]:
        """The windows of a value that are not over yet. None are left: it is late."""
        plan = self._plan
        assert plan.windows is not None
        time_ms = record.publish_ms if plan.time_of is None else moment_ms(plan.time_of(value))
        if plan.max_ahead_ms is not None and time_ms > record.publish_ms + plan.max_ahead_ms:
            raise ValueError(
                f"the event time is {time_ms - record.publish_ms} ms after the message was published"
            )
        watermark_ms = self.watermark_ms
        starts = plan.windows.starts(time_ms)
        if watermark_ms is not None:
            open_from = plan.windows.first_open(watermark_ms - plan.allowed_lateness_ms)
            starts = range(max(starts.start, open_from), starts.stop, starts.step)
        if not starts:
            stage.late += 1
        elif stage.latest_ms is None or time_ms > stage.latest_ms:
            stage.latest_ms = time_ms
        return [Slot(start_ms, key) for start_ms in starts]

    def _add(self, stage: _Stage, slot: Slot, value: Any) -> None:
        aggregation = self._plan.aggregation
        assert aggregation is not None
        text = stage.texts.get(slot) or self._cells.get(slot) or aggregation.initial
        stage.texts[slot] = write(aggregation.add(read(text), value))

    def _failed(self, record: Record, error: Exception) -> _Stage:
        plan = self._plan
        if not plan.failed_to:
            raise StepFailed(f"record {record.sequence} of {plan.source}: {error!r}") from error
        self._clock.failed += 1
        output = Output(plan.failed_to, record.body, record.key, record.headers)
        headers = {**record.headers, "taskraft-error": repr(error)[: _limits.ERROR_TEXT_MAX]}
        if _output_size(told := output._replace(headers=headers)) <= _limits.MESSAGE_BYTES_MAX:
            output = told
        return _Stage(outputs=[output])

    # Windows -----------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Publish the next result that is due, in the order of windows and keys; False if none is."""
        if self._settled:
            return False
        if not self._firing and not self._begin_firing():
            self._settled = True
            return False
        clock = self._clock
        slot = Slot(clock.fired_start_ms, self._firing.popleft())
        text = self._cells.get(slot)
        assert text is not None, "what is due has an accumulator"
        try:
            output = self._result(slot, text, update=False)
            _check_sizes([_output_size(output)])
        except Exception as error:
            raise StepFailed(f"the result of {slot.key!r}, window {slot.start_ms}: {error!r}") from error
        self._publish(output)
        clock.fired_key = slot.key
        return True

    def _begin_firing(self) -> bool:
        """Find the next window that is due. If none is, all that have ended count as published, and old ones go."""
        windows, watermark_ms, clock = self._plan.windows, self.watermark_ms, self._clock
        if windows is None or watermark_ms is None:
            return False
        first_open_ms = windows.first_open(watermark_ms)
        start_ms = clock.fired_start_ms
        while (found := self._cells.first_start_from(start_ms)) is not None and found < first_open_ms:
            keys = self._cells.keys_of(found)
            if found == clock.fired_start_ms:
                keys = [key for key in keys if key > clock.fired_key]
            if keys:
                clock.fired_start_ms, clock.fired_key = found, ""
                self._firing.extend(keys)
                return True
            start_ms = found + 1
        clock.fired_start_ms, clock.fired_key = max(first_open_ms, clock.fired_start_ms), ""
        lateness_ms = self._plan.allowed_lateness_ms
        first_kept_ms = windows.first_open(watermark_ms - lateness_ms)
        self._cells.drop_before(first_kept_ms)
        self._wake_ms = min(first_open_ms, first_kept_ms + lateness_ms) + windows.size_ms
        return False

    def _move_clock(self, time_ms: int | None) -> None:
        event_ms = self._clock.event_ms
        if time_ms is not None and (event_ms is None or time_ms > event_ms):
            self._clock.event_ms = time_ms
            watermark_ms = time_ms - self._plan.out_of_orderness_ms
            if self._wake_ms is None or watermark_ms >= self._wake_ms:
                self._settled = False

    def _is_closed(self, slot: Slot) -> bool:
        """True if the slot's result is published as soon as it changes. Between records nothing else is due."""
        windows, watermark_ms = self._plan.windows, self.watermark_ms
        if windows is None:
            return True
        return watermark_ms is not None and slot.start_ms + windows.size_ms <= watermark_ms

    def _is_over(self, slot: Slot) -> bool:
        """True if a stored slot was published and nothing can change it any more."""
        windows, watermark_ms, clock = self._plan.windows, self.watermark_ms, self._clock
        if windows is None or watermark_ms is None:
            return False
        over = slot.start_ms + windows.size_ms + self._plan.allowed_lateness_ms <= watermark_ms
        return over and slot <= (clock.fired_start_ms, clock.fired_key)

    # Results -----------------------------------------------------------------------------------------------------

    def _result(self, slot: Slot, text: str, *, update: bool) -> Output:
        plan = self._plan
        assert plan.aggregation is not None
        window = None
        if plan.windows is not None:
            window = Window(slot.start_ms, slot.start_ms + plan.windows.size_ms)
        value = plan.aggregation.result(read(text))
        result = Result(key=slot.key, value=value, window=window, update=update)
        return plan.output(result, result.message_key())

    def _publish(self, output: Output) -> None:
        self._outputs.append(output)
        self._output_bytes += _output_size(output)


def _checked_key(key: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key is text, not {key!r}")
    if not 0 < bytes_of(key) <= _limits.KEY_BYTES_MAX:
        raise ValueError(f"a key has 1 to {_limits.KEY_BYTES_MAX} bytes, not {bytes_of(key)}")
    return key


def _is_small(texts: Mapping[Slot, str]) -> bool:
    """True if these fit one message, so that nobody needs to count exactly: the usual case."""
    most = 4 * sum(map(len, texts.values())) + len(texts) * (_limits.KEY_BYTES_MAX + _limits.OVERHEAD_BYTES)
    return most <= _limits.MESSAGE_BYTES_MAX and len(texts) <= _limits.RECORD_CHANGES_MAX


def _check_sizes(sizes: list[int]) -> None:
    """All that a record changes stands in one transaction, so it has to fit one."""
    if max(sizes, default=0) > _limits.MESSAGE_BYTES_MAX + _limits.OVERHEAD_BYTES:
        raise ValueError(f"a result or an accumulator of {max(sizes)} bytes is larger than a message")
    if len(sizes) > _limits.RECORD_CHANGES_MAX or sum(sizes) > _limits.RECORD_BYTES_MAX:
        raise ValueError(f"{len(sizes)} changes with {sum(sizes)} bytes are more than a transaction holds")


def _output_size(output: Output) -> int:
    headers = sum(bytes_of(name) + bytes_of(value) for name, value in output.headers.items())
    return len(output.body) + bytes_of(output.key) + headers + _limits.OVERHEAD_BYTES
