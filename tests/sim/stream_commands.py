"""Commands about streams, for tests of the state."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2
from tests.sim.state_log import create

STREAM = queue_pb2.QUEUE_KIND_STREAM


def create_stream(name: str, **settings: Any) -> command_pb2.Command:
    return create(name, kind=STREAM, **settings)


def publish_keyed(name: str, messages: Iterable[tuple[str, bytes]]) -> command_pb2.Command:
    """`messages` is (key, body) each."""
    chunk = command_pb2.Chunk(messages=[queue_pb2.Message(key=key, body=body) for key, body in messages])
    return command_pb2.Command(
        publish=command_pb2.Publish(
            queue=name,
            count=len(chunk.messages),
            chunk=chunk.SerializeToString(),
            marked=any(message.key for message in chunk.messages),
        )
    )


def position(place: str, value: int = 0) -> queue_pb2.Position:
    """`place` is sequence, time (in milliseconds), beginning or end."""
    match place:
        case "sequence":
            return queue_pb2.Position(sequence=value)
        case "time":
            moment = Timestamp()
            moment.FromMilliseconds(value)
            return queue_pb2.Position(time=moment)
        case "end":
            return queue_pb2.Position(end=True)
    return queue_pb2.Position(beginning=True)


def seek(
    name: str, group: str, place: str = "beginning", value: int = 0, *, create_only: bool = False
) -> command_pb2.Command:
    command = command_pb2.SeekGroup(
        queue=name, group=group, position=position(place, value), create_only=create_only
    )
    return command_pb2.Command(seek_group=command)


def delete_group(name: str, group: str) -> command_pb2.Command:
    return command_pb2.Command(delete_group=command_pb2.DeleteGroup(queue=name, group=group))


def ack_in(name: str, group: str, *ranges: tuple[int, int], strict: bool = False) -> command_pb2.Command:
    done = [queue_pb2.SequenceRange(first=first, last=last) for first, last in ranges]
    return command_pb2.Command(ack=command_pb2.Ack(queue=name, group=group, ranges=done, strict=strict))


def delivered_to(
    name: str, group: str, watermark: int = 0, again: Iterable[tuple[int, int, int]] = ()
) -> command_pb2.Command:
    """`again` is (first, last, attempt) each."""
    redelivered = [
        command_pb2.Redelivered(range=queue_pb2.SequenceRange(first=first, last=last), attempt=attempt)
        for first, last, attempt in again
    ]
    return command_pb2.Command(
        delivered=command_pb2.Delivered(queue=name, group=group, watermark=watermark, redelivered=redelivered)
    )
