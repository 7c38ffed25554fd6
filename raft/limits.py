"""Bytes and times of the replicated log, and how they must relate."""

SEGMENT_BYTES = 64 << 20  # one log file
CACHE_BYTES = 16 << 20  # entries kept in memory for followers that are nearly up to date

ENTRY_BYTES_MAX = 6 << 20  # one entry; the user keeps its commands below it
APPEND_BYTES = 2 << 20  # entries gathered into one Append; one larger entry goes alone
SNAPSHOT_PIECE_BYTES = 1 << 20
FRAME_BYTES_MAX = 16 << 20  # what a peer may send in one frame
OUTBOX_BYTES_MAX = 32 << 20  # waiting for one peer's socket

HEARTBEATS_PER_ELECTION = 5  # so many must be lost before anyone stands
APPLY_ENTRIES_MAX = 256  # applied in one step, so that heartbeats are never late
ANNOUNCE_BYTES = 2 << 10  # of an entry: applying it takes longer than to say that it is committed
PREVOTE_RETRY_MS = 60  # between two rounds of asking
STAGGER_MS = 30  # after a lost leader the survivors ask one after the other

assert APPEND_BYTES <= ENTRY_BYTES_MAX
assert ENTRY_BYTES_MAX + APPEND_BYTES < FRAME_BYTES_MAX
assert SNAPSHOT_PIECE_BYTES < FRAME_BYTES_MAX
assert FRAME_BYTES_MAX <= OUTBOX_BYTES_MAX
assert ENTRY_BYTES_MAX < SEGMENT_BYTES
