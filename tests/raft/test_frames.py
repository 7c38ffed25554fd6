"""Peer messages survive the wire, and nothing else does."""

import os
import pickle
import random
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.frames import (
    Append,
    AppendReply,
    BadFrame,
    Hello,
    Message,
    Ping,
    PreVote,
    PreVoteReply,
    SnapshotPiece,
    SnapshotReply,
    TimeoutNow,
    Vote,
    VoteReply,
    decode,
    encode,
)
from raft.link import HELLO_BYTES_MAX, Inbox
from raft.records import Entry

numbers = st.integers(0, 2**64 - 1)
numbers32 = st.integers(0, 2**32 - 1)
texts = st.text(max_size=40)
payloads = st.binary(max_size=64) | st.integers(4000, 20_000).map(bytes)
entries = st.builds(Entry, numbers, numbers, st.integers(0, 255), payloads)
states = st.sampled_from(["blank", "founding", "member"])
statuses = st.sampled_from(["more", "installed", "refused"])

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Hello,
        texts,
        texts,
        texts,
        st.dictionaries(texts, texts, max_size=4),
        states,
        numbers,
        numbers,
        numbers32,
        numbers,
    ),
    st.builds(PreVote, numbers, numbers, numbers, numbers, numbers),
    st.builds(PreVoteReply, numbers, numbers, st.booleans()),
    st.builds(Vote, numbers, numbers, numbers, st.booleans()),
    st.builds(VoteReply, numbers),
    st.builds(Append, numbers, numbers, numbers, numbers, numbers, st.lists(entries, max_size=6).map(tuple)),
    st.builds(AppendReply, numbers, numbers, st.booleans(), numbers),
    st.builds(TimeoutNow, numbers),
    st.builds(
        SnapshotPiece,
        numbers,
        texts,
        numbers,
        numbers,
        numbers,
        numbers,
        payloads,
        numbers32,
        st.booleans(),
    ),
    st.builds(SnapshotReply, numbers, texts, numbers, statuses),
    st.builds(Ping),
)

SAMPLES: list[Message] = [
    Hello("taskraft", "n1", "10.0.0.1:7201", {"grpc": "10.0.0.1:7001"}, "member", 7, 1234),
    PreVote(7, 1, 8, 1234, 7),
    PreVoteReply(7, 1, True),
    Vote(8, 1234, 7, True),
    VoteReply(8),
    Append(8, 5, 1234, 7, 1230, ()),
    Append(8, 5, 1234, 7, 1230, (Entry(1235, 8, 0, b""), Entry(1236, 8, 1, b"publish"))),
    AppendReply(8, 5, True, 1236),
    TimeoutNow(8),
    SnapshotPiece(8, "1234-7", 1234, 7, 100, 200, b"half of it", 0xCAFE, False),
    SnapshotReply(8, "1234-7", 110, "more"),
    Ping(),
]


def frame_of(message: Message) -> bytes:
    return b"".join(encode(message))


def sized(body: bytes) -> bytes:
    """A frame whose size is right, whatever follows it."""
    return struct.pack("<I", len(body)) + body


def decoded(frame: bytes) -> Message | None:
    """What `decode` makes of these bytes; anything but a message or BadFrame fails the test."""
    try:
        message = decode(memoryview(frame))
    except BadFrame:
        return None
    assert isinstance(message, Message)
    return message


@given(messages)
def test_every_message_comes_back_as_it_was_sent(message: Message) -> None:
    assert decode(memoryview(frame_of(message))) == message


def test_the_samples_cover_every_message() -> None:
    assert {type(sample) for sample in SAMPLES} == set(Message.__args__)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_every_truncation_is_refused(sample: Message) -> None:
    frame = frame_of(sample)

    for length in range(len(frame)):
        assert decoded(frame[:length]) is None
        assert length < 4 or decoded(sized(frame[4:length])) is None


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_bytes_too_many_are_refused(sample: Message) -> None:
    frame = frame_of(sample)

    assert decoded(frame + b"\0") is None
    assert decoded(sized(frame[4:] + b"\0")) is None


def mutated(rng: random.Random, frame: bytes) -> bytes:
    data = bytearray(frame)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"])
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case _ if len(data) > 8:
                del data[at : at + rng.randrange(1, 4)]
    return sized(bytes(data[4:])) if rng.random() < 0.8 else bytes(data)


def test_two_thousand_mutations_are_messages_or_bad_frames_and_cost_little_memory() -> None:
    rng = random.Random(20)
    tracemalloc.start()
    try:
        for _ in range(2000):
            frame = mutated(rng, frame_of(rng.choice(SAMPLES)))
            tracemalloc.reset_peak()
            before, _peak = tracemalloc.get_traced_memory()
            decoded(frame)
            assert tracemalloc.get_traced_memory()[1] - before < 32_768, frame.hex()
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [1, 1000, 2**31, 2**32 - 1])
def test_a_count_of_entries_that_the_frame_cannot_hold_is_refused_before_anything_is_allocated(
    count: int,
) -> None:
    head = struct.pack("<BBQQQQQI", 1, 6, 1, 1, 1, 1, 1, count)

    tracemalloc.start()
    with pytest.raises(BadFrame, match="cannot stand"):
        decode(memoryview(sized(head)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 32_768


@pytest.mark.parametrize("size", [4, 2**31, 2**32 - 1])
def test_an_entry_that_reaches_beyond_its_frame_is_refused(size: int) -> None:
    head = struct.pack("<BBQQQQQI", 1, 6, 1, 1, 1, 1, 1, 1) + struct.pack("<QQBI", 2, 1, 1, size)

    with pytest.raises(BadFrame, match="after its frame"):
        decode(memoryview(sized(head + b"abc")))


def test_a_text_or_a_list_that_reaches_beyond_its_frame_is_refused() -> None:
    hello = frame_of(Hello("c", "n", "a", {}, "blank", 0, 0))

    with pytest.raises(BadFrame, match="after its frame"):
        decode(memoryview(hello.replace(b"\1\0n", b"\xff\xffn")))
    with pytest.raises(BadFrame, match="pairs cannot stand"):
        decode(memoryview(hello[:-2] + b"\1\0"))


def test_another_version_an_unknown_type_and_an_unknown_state_are_refused() -> None:
    hello = frame_of(SAMPLES[0])
    state_at = hello.index(struct.pack("<H", len("taskraft")) + b"taskraft") - 1

    for at, value in [(4, 2), (5, 99), (5, 0), (state_at, 3)]:
        assert decoded(hello[:at] + bytes([value]) + hello[at + 1 :]) is None


def test_a_text_that_is_not_utf8_is_refused() -> None:
    frame = frame_of(SnapshotReply(1, "abcd", 0, "more"))

    assert decoded(frame.replace(b"abcd", b"ab\xff\xfe")) is None


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.open, (str(self.path), os.O_CREAT)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_refused_and_never_run(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "executed"
    data = pickle.dumps(Evil(proof), protocol)

    refused = [data, sized(data), *(sized(bytes([1, code]) + data) for code in range(12))]

    assert [decoded(frame) for frame in refused] == [None] * len(refused)
    assert not proof.exists()
    pickle.loads(data)
    assert proof.exists(), "the pickle was harmless, so this test proved nothing"


def test_a_large_payload_is_sent_uncopied_and_received_with_one_copy() -> None:
    payload = bytes(500_000)
    message = Append(8, 5, 1234, 7, 1230, (Entry(1235, 8, 1, payload),))

    tracemalloc.start()
    parts = encode(message)
    sent = tracemalloc.get_traced_memory()[1]
    frame = memoryview(b"".join(parts))
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    received = decode(frame)
    copied = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()

    assert len(parts) == 2
    assert parts[1] is payload
    assert sent < 8192
    assert received == message
    assert copied < len(payload) + 8192


def test_a_small_frame_is_one_part() -> None:
    assert [len(encode(sample)) for sample in SAMPLES] == [1] * len(SAMPLES)


@pytest.mark.parametrize(
    "message", [Append(8, 5, 4, 7, 3, (Entry(5, 8, 1, bytes(100)),)), AppendReply(8, 5, True, 5), Ping()]
)
def test_a_small_frame_costs_microseconds(message: Message) -> None:
    frame = memoryview(frame_of(message))

    def best_us(rounds: int = 30, calls: int = 100) -> float:
        """The quickest of some rounds, so that a busy machine does not count; both directions."""
        seconds = []
        for _ in range(rounds):
            began = time.perf_counter()
            for _ in range(calls):
                encode(message)
                decode(frame)
            seconds.append((time.perf_counter() - began) / calls)
        return min(seconds) * 1e6

    assert best_us() < 40


@given(
    st.lists(st.sampled_from(SAMPLES) | st.builds(Append, *[numbers] * 5, st.tuples(entries)), max_size=30),
    st.randoms(use_true_random=False),
)
def test_frames_come_out_of_an_inbox_whole_and_in_order_however_the_bytes_arrive(
    sent: list[Message], rng: random.Random
) -> None:
    data = b"".join(map(frame_of, sent))
    inbox, received = Inbox(256), []

    while data:
        space = inbox.space()
        taken = min(len(data), len(space), rng.choice([1, 3, 100, 100_000]))
        space[:taken] = data[:taken]
        data = data[taken:]
        inbox.received(taken)
        while (frame := inbox.next(1 << 20)) is not None:
            received.append(decode(frame))
        assert len(inbox.space()) > 0

    assert received == sent


def test_a_frame_that_fits_the_usual_buffer_is_received_in_place() -> None:
    frame = frame_of(Append(8, 5, 1234, 7, 1230, (Entry(1235, 8, 1, bytes(500_000)),)))
    inbox = Inbox(600_000)

    tracemalloc.start()
    for at in range(0, len(frame), 60_000):
        piece = memoryview(frame)[at : at + 60_000]
        inbox.space()[: len(piece)] = piece
        inbox.received(len(piece))
        whole = inbox.next(1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert whole is not None
    assert whole.tobytes() == frame
    assert peak < 8192


def test_a_size_over_the_limit_is_refused_when_its_four_bytes_are_here() -> None:
    inbox = Inbox(HELLO_BYTES_MAX)
    inbox.space()[:4] = struct.pack("<I", HELLO_BYTES_MAX - 3)
    inbox.received(4)

    with pytest.raises(BadFrame, match="the limit is"):
        inbox.next(HELLO_BYTES_MAX)


def test_an_inbox_forgets_the_room_of_a_large_frame() -> None:
    inbox = Inbox(1000)
    frame = sized(bytes(5000))

    while (whole := inbox.next(10_000)) is None:
        space = inbox.space()
        space[:] = frame[: len(space)]
        frame = frame[len(space) :]
        inbox.received(len(space))

    assert len(whole) == 5004
    assert inbox.next(10_000) is None
    assert len(inbox.space()) == 1000
