"""The largest requests that are accepted fit where they have to go."""

from node import limits
from taskraft.internal.v1 import command_pb2
from taskraft.v1 import queue_pb2


def test_the_largest_publish_fits_an_entry_and_a_grpc_message() -> None:
    name = "queues/" + "q" * limits.QUEUE_ID_CHARS_MAX
    command = command_pb2.Command(
        request_id="r" * limits.REQUEST_ID_CHARS_MAX,
        publish=command_pb2.Publish(
            queue=name,
            producer_id="p" * limits.PRODUCER_ID_CHARS_MAX,
            producer_sequence=(1 << 64) - 1,
            count=limits.PUBLISH_MESSAGES_MAX,
            chunk=bytes(limits.PUBLISH_BYTES_MAX),
        ),
    )

    size = command_pb2.Batch(time_ms=(1 << 63) - 1, commands=[command]).ByteSize()

    assert size <= limits.PUBLISH_BYTES_MAX + limits.COMMAND_OVERHEAD_BYTES_MAX
    assert size <= min(limits.ENTRY_BYTES_MAX, limits.GRPC_BYTES_MAX)


def test_the_largest_acknowledgement_fits_an_entry() -> None:
    widest = queue_pb2.SequenceRange(first=(1 << 64) - 1, last=(1 << 64) - 1)
    ack = command_pb2.Ack(ranges=[widest] * limits.RANGES_MAX)

    assert ack.ByteSize() <= limits.RANGES_MAX * limits.RANGE_BYTES_MAX
