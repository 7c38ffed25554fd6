"""The history of a task: what is kept of it."""

from node.state import task_history
from node.state.task_history import FIRST_KEPT, LAST_KEPT
from taskraft.v1 import task_pb2


def history(count: int, message: str = "") -> bytes:
    events = b""
    for n in range(count):
        events = task_history.append(events, 1_000 + n, n % 11, n, f"w{n}", f"R{n}", message)
    return events


def test_events_are_told_as_they_were_noted() -> None:
    events = task_history.append(b"", 5_001, task_pb2.TASK_STATE_QUEUED, 0, "", "SUBMITTED", "")
    events = task_history.append(
        events, 6_002, task_pb2.TASK_STATE_LEASED, 65_535, "wörker", "LEASED", "schön"
    )

    first, second = task_history.to_proto(events)
    assert (first.time.ToMilliseconds(), first.state, first.reason) == (5_001, 1, "SUBMITTED")
    assert (first.worker_id, first.message) == ("", "")
    assert (second.time.ToMilliseconds(), second.state, second.attempt) == (6_002, 4, 65_535)
    assert (second.worker_id, second.reason, second.message) == ("wörker", "LEASED", "schön")


def test_the_first_and_the_last_events_are_kept() -> None:
    kept = FIRST_KEPT + LAST_KEPT
    assert [event.reason for event in task_history.to_proto(history(kept))] == [f"R{n}" for n in range(kept)]

    events = task_history.to_proto(history(200))

    expected = [*range(FIRST_KEPT), *range(200 - LAST_KEPT, 200)]
    assert [event.attempt for event in events] == expected
    assert [event.worker_id for event in events] == [f"w{n}" for n in expected]


def test_a_message_is_cut_and_cannot_break_the_history() -> None:
    events = history(3, "a\0b" + "x" * 10_000)

    assert {len(event.message) for event in task_history.to_proto(events)} == {256}
    assert {event.message[:4] for event in task_history.to_proto(events)} == {"a bx"}


def test_no_history_is_no_events() -> None:
    assert task_history.to_proto(b"") == []
