"""What peers say to each other, as values and as bytes.

A frame is `size` (u32, the bytes that follow it), `version` (u8), `type` (u8) and the fields of one message, all
little endian. `encode` gives a whole frame in as few parts as are worth sending, large payloads uncopied; `decode`
takes a whole frame and gives the message, or raises `BadFrame`, whatever the bytes are: `decode(join(encode(m))) == m`.

Nothing is ever unpickled. Every count and length is checked against the bytes that are there before anything is
allocated for it, so the memory a frame costs is a small multiple of its own size.

Integers are unsigned: 64 bits (`kind` 8, `crc` and `protocol` 32). Texts are UTF-8 of at most 65,535 bytes, and at most
65,535 of them stand in one list. Values outside of that are mistakes of ours and fail in `encode`.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, TypeVar, cast

from raft.records import Entry

VERSION = 1
SIZE = struct.Struct("<I")  # the prefix of each frame; it does not count itself
PART_BYTES_MIN = 4096  # smaller parts are cheaper to join than to hand over one by one


Word = TypeVar("Word", bound=str)


class BadFrame(Exception):
    """These bytes are not a frame of ours; the connection they came from is of no more use."""


HelloState: TypeAlias = Literal["blank", "founding", "member"]
SnapshotStatus: TypeAlias = Literal["more", "installed", "refused"]

_STATES: tuple[HelloState, ...] = ("blank", "founding", "member")
_STATUSES: tuple[SnapshotStatus, ...] = ("more", "installed", "refused")


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame on every connection, in both directions, and again whenever it changes."""

    cluster: str
    node_id: str
    address: str  # where this node listens for peers, host:port
    announce: dict[str, str]  # what the node wants others to know, for example its gRPC address
    state: HelloState
    term: int
    last_index: int
    protocol: int = 1
    gap: int = 0  # filled in by the transport: drawn anew whenever a connection to the receiver came into use


@dataclass(frozen=True, slots=True)
class PreVote:
    """Would you vote for me in `next_term`? Changes nothing at the receiver."""

    term: int
    round: int
    next_term: int
    last_index: int
    last_term: int


@dataclass(frozen=True, slots=True)
class PreVoteReply:
    """The answer to the PreVote of that `round`."""

    term: int
    round: int
    granted: bool


@dataclass(frozen=True, slots=True)
class Vote:
    """A candidate in `term` asks for this vote."""

    term: int
    last_index: int
    last_term: int
    transfer: bool  # the leader asked for this election


@dataclass(frozen=True, slots=True)
class VoteReply:
    """A vote in `term`, durable at the voter. There is no reply that refuses."""

    term: int


@dataclass(frozen=True, slots=True)
class Append:
    """Entries that follow (`prev_index`, `prev_term`), or a heartbeat without any."""

    term: int
    round: int
    prev_index: int
    prev_term: int
    commit: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class AppendReply:
    """The answer to the Append of that `round`: the logs agree up to `index`, or the leader should try from `index` + 1."""

    term: int
    round: int
    success: bool
    index: int


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader of `term` asks the receiver to stand for election at once."""

    term: int


@dataclass(frozen=True, slots=True)
class SnapshotPiece:
    """Bytes `offset` and on of the state as of (`index`, `index_term`), `total_bytes` long in all."""

    term: int
    snapshot_id: str
    index: int
    index_term: int
    offset: int
    total_bytes: int
    data: bytes
    crc: int  # CRC32C of `data`; made and checked by those who own the file
    last: bool


@dataclass(frozen=True, slots=True)
class SnapshotReply:
    """How far the receiver of that snapshot is: the next byte it wants is at `offset`."""

    term: int
    snapshot_id: str
    offset: int
    status: SnapshotStatus


@dataclass(frozen=True, slots=True)
class Ping:
    """This connection is alive and in use. It stays inside the transport; `Peers` never hands it on."""


Message: TypeAlias = (
    Hello
    | PreVote
    | PreVoteReply
    | Vote
    | VoteReply
    | Append
    | AppendReply
    | TimeoutNow
    | SnapshotPiece
    | SnapshotReply
    | Ping
)

_HEAD = struct.Struct("<IBB")  # size, version, type
_U16 = struct.Struct("<H")
_HELLO = struct.Struct("<IQQQB")  # protocol, term, last_index, gap, state
_APPEND = struct.Struct("<IBBQQQQQI")  # head, term, round, prev_index, prev_term, commit, number of entries
_ENTRY = struct.Struct("<QQBI")  # index, term, kind, bytes of payload; all of these stand before the payloads
_PIECE = struct.Struct("<QQQQQI?I")  # term, index, index_term, offset, total_bytes, crc, last, bytes of data
_PROGRESS = struct.Struct("<QQB")  # term, offset, status

_HELLO_TYPE, _APPEND_TYPE, _PIECE_TYPE, _PROGRESS_TYPE = 1, 6, 9, 10


def encode(message: Message) -> list[bytes]:
    """One frame, as the parts to send in this order."""
    return _ENCODERS[type(message)](message)


def decode(frame: memoryview) -> Message:
    """The message in one whole frame, size prefix included. It shares no memory with `frame`."""
    try:
        size, version, code = _HEAD.unpack_from(frame)
        if size != len(frame) - SIZE.size:
            raise BadFrame(f"a frame of {len(frame)} bytes says that {size} follow its size")
        if version != VERSION:
            raise BadFrame(f"version {version}, this node speaks {VERSION}")
        decoder = _DECODERS.get(code)
        if decoder is None:
            raise BadFrame(f"unknown type {code}")
        return decoder(frame)
    except (struct.error, UnicodeDecodeError) as error:
        raise BadFrame(str(error)) from error


class _Fixed:
    """The codec of a message whose fields all have a fixed width."""

    def __init__(self, code: int, kind: type[Any], layout: str) -> None:
        self.code = code
        self._kind = kind
        self._names = tuple(field.name for field in fields(kind))
        self._frame = struct.Struct(_HEAD.format + layout)

    def encode(self, message: Message) -> list[bytes]:
        frame = self._frame
        values = [getattr(message, name) for name in self._names]
        return [frame.pack(frame.size - SIZE.size, VERSION, self.code, *values)]

    def decode(self, frame: memoryview) -> Message:
        return cast("Message", self._kind(*self._frame.unpack(frame)[3:]))


class _Reader:
    """The fields of a frame, one after the other; no field may reach beyond its end."""

    __slots__ = ("_at", "_frame")

    def __init__(self, frame: memoryview) -> None:
        self._frame = frame
        self._at = _HEAD.size

    def values(self, layout: struct.Struct) -> tuple[Any, ...]:
        values = layout.unpack_from(self._frame, self._at)
        self._at += layout.size
        return values

    def view(self, size: int) -> memoryview:
        end = self._at + size
        if end > len(self._frame):
            raise BadFrame(f"a field of {size} bytes ends {end - len(self._frame)} bytes after its frame")
        view = self._frame[self._at : end]
        self._at = end
        return view

    def text(self) -> str:
        (size,) = self.values(_U16)
        return str(self.view(size), "utf-8")

    def pairs(self) -> tuple[tuple[str, str], ...]:
        (count,) = self.values(_U16)
        if count * 2 * _U16.size > len(self._frame) - self._at:
            raise BadFrame(f"{count} pairs cannot stand in what is left of the frame")
        return tuple((self.text(), self.text()) for _ in range(count))

    def end(self) -> None:
        if self._at != len(self._frame):
            raise BadFrame(f"{len(self._frame) - self._at} bytes too many")


def _text(text: str) -> bytes:
    data = text.encode()
    return _U16.pack(len(data)) + data


def _pairs(pairs: Iterable[tuple[str, str]]) -> bytes:
    texts = [_text(first) + _text(second) for first, second in pairs]
    return _U16.pack(len(texts)) + b"".join(texts)


def _framed(code: int, *parts: bytes) -> list[bytes]:
    """A frame of these parts: one piece if they are small, else the last part (the payload) by itself."""
    size = sum(map(len, parts)) + _HEAD.size - SIZE.size
    head = _HEAD.pack(size, VERSION, code)
    if size < 2 * PART_BYTES_MIN:
        return [b"".join((head, *parts))]
    return [b"".join((head, *parts[:-1])), parts[-1]]


def _encode_hello(message: Message) -> list[bytes]:
    assert isinstance(message, Hello)
    return _framed(
        _HELLO_TYPE,
        _HELLO.pack(
            message.protocol, message.term, message.last_index, message.gap, _STATES.index(message.state)
        ),
        _text(message.cluster),
        _text(message.node_id),
        _text(message.address),
        _pairs(message.announce.items()),
    )


def _decode_hello(frame: memoryview) -> Hello:
    reader = _Reader(frame)
    protocol, term, last_index, gap, state = reader.values(_HELLO)
    cluster, node_id, address = reader.text(), reader.text(), reader.text()
    announce = dict(reader.pairs())
    reader.end()
    return Hello(
        cluster, node_id, address, announce, _one_of(_STATES, state), term, last_index, protocol, gap
    )


def _encode_append(message: Message) -> list[bytes]:
    assert isinstance(message, Append)
    entries = message.entries
    payloads = [entry.payload for entry in entries]
    heads = [_ENTRY.pack(entry.index, entry.term, entry.kind, len(entry.payload)) for entry in entries]
    total = _APPEND.size + _ENTRY.size * len(entries) + sum(map(len, payloads))
    numbers = (message.term, message.round, message.prev_index, message.prev_term, message.commit)
    head = _APPEND.pack(total - SIZE.size, VERSION, _APPEND_TYPE, *numbers, len(entries))
    if total < PART_BYTES_MIN * (1 + len(payloads)):
        return [b"".join((head, *heads, *payloads))]
    return [b"".join((head, *heads)), *payloads]


def _decode_append(frame: memoryview) -> Append:
    _, _, _, term, round_, prev_index, prev_term, commit, count = _APPEND.unpack_from(frame)
    at = _APPEND.size + count * _ENTRY.size
    if at > len(frame):
        raise BadFrame(f"{count} entries cannot stand in a frame of {len(frame)} bytes")
    entries = []
    for index, entry_term, kind, size in _ENTRY.iter_unpack(frame[_APPEND.size : at]):
        end = at + size
        if end > len(frame):
            raise BadFrame(f"entry {index} ends {end - len(frame)} bytes after its frame")
        entries.append(Entry(index, entry_term, kind, bytes(frame[at:end])))
        at = end
    if at != len(frame):
        raise BadFrame(f"{len(frame) - at} bytes too many")
    return Append(term, round_, prev_index, prev_term, commit, tuple(entries))


def _encode_piece(message: Message) -> list[bytes]:
    assert isinstance(message, SnapshotPiece)
    position = (message.term, message.index, message.index_term, message.offset, message.total_bytes)
    numbers = _PIECE.pack(*position, message.crc, message.last, len(message.data))
    return _framed(_PIECE_TYPE, numbers, _text(message.snapshot_id), message.data)


def _decode_piece(frame: memoryview) -> SnapshotPiece:
    reader = _Reader(frame)
    term, index, index_term, offset, total_bytes, crc, last, size = reader.values(_PIECE)
    snapshot_id, data = reader.text(), bytes(reader.view(size))
    reader.end()
    return SnapshotPiece(term, snapshot_id, index, index_term, offset, total_bytes, data, crc, last)


def _encode_progress(message: Message) -> list[bytes]:
    assert isinstance(message, SnapshotReply)
    numbers = _PROGRESS.pack(message.term, message.offset, _STATUSES.index(message.status))
    return _framed(_PROGRESS_TYPE, numbers, _text(message.snapshot_id))


def _decode_progress(frame: memoryview) -> SnapshotReply:
    reader = _Reader(frame)
    term, offset, status = reader.values(_PROGRESS)
    snapshot_id = reader.text()
    reader.end()
    return SnapshotReply(term, snapshot_id, offset, _one_of(_STATUSES, status))


def _one_of(words: tuple[Word, ...], code: int) -> Word:
    if code >= len(words):
        raise BadFrame(f"{code} is not one of {', '.join(words)}")
    return words[code]


_FIXED = {
    PreVote: _Fixed(2, PreVote, "QQQQQ"),
    PreVoteReply: _Fixed(3, PreVoteReply, "QQ?"),
    Vote: _Fixed(4, Vote, "QQQ?"),
    VoteReply: _Fixed(5, VoteReply, "Q"),
    AppendReply: _Fixed(7, AppendReply, "QQ?Q"),
    TimeoutNow: _Fixed(8, TimeoutNow, "Q"),
    Ping: _Fixed(11, Ping, ""),
}

_ENCODERS: dict[type[Message], Callable[[Message], list[bytes]]] = {
    Hello: _encode_hello,
    Append: _encode_append,
    SnapshotPiece: _encode_piece,
    SnapshotReply: _encode_progress,
    **{kind: codec.encode for kind, codec in _FIXED.items()},
}

_DECODERS: dict[int, Callable[[memoryview], Message]] = {
    _HELLO_TYPE: _decode_hello,
    _APPEND_TYPE: _decode_append,
    _PIECE_TYPE: _decode_piece,
    _PROGRESS_TYPE: _decode_progress,
    **{codec.code: codec.decode for codec in _FIXED.values()},
}

assert len(_ENCODERS) == len(_DECODERS), "two messages share a type byte"
