"""Every number that stream processing relies on, and how they relate to what the broker takes."""

from taskraft import _limits

COMMIT_BYTES_MAX = 3 << 20  # the broker's limit of one transaction
COMMIT_MESSAGES_MAX = 10_000  # the same
MESSAGE_BYTES_MAX = 1 << 20  # the broker's limit of one message
RECORD_BYTES_MAX = MESSAGE_BYTES_MAX + (
    256 << 10
)  # what one message may change: it stands in one transaction
RECORD_CHANGES_MAX = 4_000
COMMIT_BYTES_SOFT = 1 << 20  # a transaction is sent when it has so much
COMMIT_CHANGES_SOFT = 4_000
TAKEN_MAX = 1_000  # messages of the source in one transaction: each may be a range of its own
OVERHEAD_BYTES = 64  # of a message, beside its body, key and headers
PREFETCH_BYTES = 8 << 20  # of the source, beside the batch that is processed

CELLS_MAX = 1_000_000  # accumulators of one processor, all in its memory
KEY_BYTES_MAX = 200  # a result's message key has the window behind it, 256 bytes in all
WINDOWS_PER_EVENT_MAX = 1_000
COLLECT_MAX = 10_000
LENGTH_MS_MAX = 366 * 86_400_000
TIME_MS_MIN, TIME_MS_MAX = (
    -30_610_224_000_000,
    221_845_392_000_000,
)  # the years 1000 to 8999: all can be written
ERROR_TEXT_MAX = 500

RECEIVE_S = 1.0  # how long to wait for messages before time is looked at again
IDLE_S = 0.2  # the same, where idle time counts
TAKEOVER_S = 3.0  # how long another processor must have been silent before its place is taken

assert COMMIT_BYTES_SOFT + RECORD_BYTES_MAX < COMMIT_BYTES_MAX - (64 << 10), "the clock has room beside them"
assert COMMIT_BYTES_MAX <= _limits.FRAME_BYTES_MAX
assert COMMIT_CHANGES_SOFT + RECORD_CHANGES_MAX + 1 < COMMIT_MESSAGES_MAX
