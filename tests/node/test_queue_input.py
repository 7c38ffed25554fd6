from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from node.api import queue_input
from node.errors import InvalidField
from taskraft.v1 import queue_pb2

MESSAGE, STREAM, TASK = (
    queue_pb2.QUEUE_KIND_MESSAGE,
    queue_pb2.QUEUE_KIND_STREAM,
    queue_pb2.QUEUE_KIND_TASK,
)
DAY_S = 86_400


def checked(kind: queue_pb2.QueueKind = MESSAGE, **given: Any) -> queue_pb2.Queue:
    """All settings of a new queue of that kind."""
    queue = queue_pb2.Queue(name="queues/q", kind=kind, **given)
    names = queue_input.settings_of(queue_input.kind(queue))
    settings = queue_input.settings(queue, names, kind, 1 << 20)
    queue_input.consistent(settings)
    return settings


GOOD: dict[str, dict[str, Any]] = {
    "nothing": {},
    "the most attempts": {"max_attempts": 1_000},
    "a dead-letter queue": {"dead_letter_queue": "queues/dead"},
    "the shortest age": {"max_age": Duration(seconds=1)},
    "the longest age": {"max_age": Duration(seconds=366 * DAY_S)},
    "bindings": {"bindings": [queue_pb2.Binding(pattern="a.*.>", headers={"a": "", "b": "c"})]},
    "as many bindings as may be": {"bindings": [queue_pb2.Binding(pattern=f"a.{n}") for n in range(100)]},
    "ordering keys": {"max_in_flight_per_key": 1_000, "hold_key": True},
}


@pytest.mark.parametrize("given", GOOD.values(), ids=GOOD.keys())
@pytest.mark.parametrize("kind", [MESSAGE, STREAM])
def test_settings_of_queues_of_messages_are_taken_as_they_are(
    given: dict[str, Any], kind: queue_pb2.QueueKind
) -> None:
    settings = checked(kind, **given)

    for name in queue_input.MESSAGE_SETTINGS:
        assert getattr(settings, name) == getattr(queue_pb2.Queue(**given), name), name


def test_a_stream_may_be_compacted_and_drops_its_oldest_messages_unless_told_otherwise() -> None:
    assert checked(STREAM, compaction=True).compaction
    assert checked(STREAM).overflow_policy == queue_pb2.OVERFLOW_POLICY_DROP_OLDEST
    reject = queue_pb2.OVERFLOW_POLICY_REJECT
    assert checked(STREAM, overflow_policy=reject).overflow_policy == reject
    assert checked(MESSAGE).overflow_policy == reject


BAD: dict[str, tuple[queue_pb2.QueueKind, dict[str, Any], str]] = {
    "too many attempts": (MESSAGE, {"max_attempts": 1_001}, "max_attempts"),
    "a dead-letter queue that is no name": (MESSAGE, {"dead_letter_queue": "dead"}, "dead_letter_queue"),
    "a short age": (MESSAGE, {"max_age": Duration(nanos=999_000_000)}, "max_age"),
    "a long age": (MESSAGE, {"max_age": Duration(seconds=366 * DAY_S, nanos=1)}, "max_age"),
    "a bad pattern": (MESSAGE, {"bindings": [queue_pb2.Binding(pattern="a.>.b")]}, "bindings[0].pattern"),
    "a pattern that says nothing": (MESSAGE, {"bindings": [queue_pb2.Binding()]}, "bindings[0].pattern"),
    "many headers of a binding": (
        MESSAGE,
        {"bindings": [queue_pb2.Binding(pattern="a", headers={str(n): "" for n in range(17)})]},
        "bindings[0].headers",
    ),
    "a header without a name": (
        MESSAGE,
        {"bindings": [queue_pb2.Binding(pattern="a", headers={"": "x"})]},
        "bindings[0].headers",
    ),
    "a long value of a header": (
        MESSAGE,
        {"bindings": [queue_pb2.Binding(pattern="a", headers={"k": "v" * 257})]},
        'bindings[0].headers["k"]',
    ),
    "too many bindings": (
        MESSAGE,
        {"bindings": [queue_pb2.Binding(pattern=f"a.{n}") for n in range(101)]},
        "bindings",
    ),
    "too many of a key": (MESSAGE, {"max_in_flight_per_key": 1_001}, "max_in_flight_per_key"),
    "holding keys that do not order": (MESSAGE, {"hold_key": True}, "hold_key"),
    "compaction of a work queue": (MESSAGE, {"compaction": True}, "compaction"),
    "attempts of a queue of tasks": (TASK, {"max_attempts": 1}, "max_attempts"),
    "bindings of a queue of tasks": (TASK, {"bindings": [queue_pb2.Binding(pattern="a")]}, "bindings"),
    "dead letters of tasks": (TASK, {"dead_letter_queue": "queues/dead"}, "dead_letter_queue"),
    "ages of tasks": (TASK, {"max_age": Duration(seconds=60)}, "max_age"),
}


@pytest.mark.parametrize(("kind", "given", "field"), BAD.values(), ids=BAD.keys())
def test_settings_that_cannot_be_are_refused_by_the_name_of_their_field(
    kind: queue_pb2.QueueKind, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        checked(kind, **given)

    assert caught.value.metadata["field"] == f"queue.{field}"
    assert caught.value.metadata["limit"]


def test_what_a_setting_depends_on_may_have_been_set_before() -> None:
    before = queue_pb2.Queue(max_in_flight_per_key=1)
    given = queue_pb2.Queue(hold_key=True)

    queue_input.consistent(queue_input.changed(before, given, ["hold_key"]))
    with pytest.raises(InvalidField):
        queue_input.consistent(queue_input.changed(before, given, ["hold_key", "max_in_flight_per_key"]))


def test_an_update_names_only_settings_of_the_kind() -> None:
    given = queue_pb2.Queue(max_attempts=5, bindings=[queue_pb2.Binding(pattern="a")])

    assert queue_input.update_mask([], given, MESSAGE) == ["max_attempts", "bindings"]
    assert "compaction" in queue_input.update_mask(["*"], given, STREAM)
    for kind, name in ((MESSAGE, "compaction"), (TASK, "bindings"), (MESSAGE, "scheduling")):
        with pytest.raises(InvalidField):
            queue_input.update_mask([name], given, kind)
