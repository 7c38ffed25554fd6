"""Arguments and results as bytes: JSON, or msgpack where that is chosen; never pickle.

A call is `{"args": [...], "kwargs": {...}}`, each left out if empty; no bytes at all are a call without arguments. A
handle among the arguments stands for the result of its task: in JSON it is `{"$task": id}`, and the call says so with
`"reference": "$task"`; should the data have that key too, another one is taken. In msgpack it is the extension type 1.

A codec (compression, encryption) works on the bytes that come out, and adds its name to the content type:
`application/json+gzip`. The content type says how to read, whatever the settings of the reader.
"""

from __future__ import annotations

import gzip
import json
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

from taskraft import _limits, errors
from taskraft._handle import Handle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import ModuleType

Serializer = Literal["json", "msgpack"]

_REFERENCE_EXT = 1
_CALL_KEYS = frozenset({"args", "kwargs", "reference"})
_JSON = "application/json"
_HOW: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
_read_json = json.JSONDecoder().raw_decode
_write_json = json.JSONEncoder(**_HOW).encode
_DEPTH_MAX = 100  # how deep the part that cannot be written is looked for


class Codec(Protocol):
    """Turns payload bytes into other bytes and back: compression, encryption.

    `name` goes into the content type, 1 to 16 letters and digits; never change what a name means while such payloads
    exist. `decode` raises whatever it likes for bytes that are not its own: they are refused as NotDecodable.
    """

    @property
    def name(self) -> str: ...
    def encode(self, data: bytes, /) -> bytes: ...
    def decode(self, data: bytes, /) -> bytes: ...


class GzipCodec:
    """Compresses with gzip: smaller payloads for some CPU. `level` 1 is fast, 9 is small."""

    name = "gzip"

    def __init__(self, level: int = 1) -> None:
        self._level = level

    def encode(self, data: bytes, /) -> bytes:
        return gzip.compress(data, self._level, mtime=0)

    def decode(self, data: bytes, /) -> bytes:
        return gzip.decompress(data)


class Call(NamedTuple):
    """The arguments of a call as bytes, and the ids of the tasks whose results are among them."""

    payload: bytes
    parents: tuple[str, ...]


class _References:
    """The handles that were met while arguments were written."""

    __slots__ = ("ids", "key")

    def __init__(self, key: str = "$task") -> None:
        self.key = key
        self.ids: list[str] = []

    def of(self, value: Any) -> str:
        if not isinstance(value, Handle):
            raise TypeError(f"{type(value).__name__} cannot be written")
        self.ids.append(value.id)
        return value.id

    def json(self, value: Any) -> dict[str, str]:
        return {self.key: self.of(value)}


class Payloads:
    """How an app writes arguments, results and checkpoints; it reads whatever any of its settings could have written."""

    def __init__(self, serializer: Serializer = "json", codecs: Codec | Iterable[Codec] = ()) -> None:
        if serializer not in ("json", "msgpack"):
            raise ValueError(f"serializer is json or msgpack, not {serializer!r}")
        if serializer == "msgpack":
            _msgpack()
        self._serializer = serializer
        chain = codecs if hasattr(codecs, "__iter__") else (codecs,)
        self._codecs = {codec.name: codec for codec in cast("Iterable[Codec]", chain)}
        for name in self._codecs:
            if not (name.isalnum() and len(name) <= 16):
                raise ValueError(f"a codec's name has 1 to 16 letters and digits, not {name!r}")
        self.content_type = "+".join([f"application/{serializer}", *self._codecs])

    # Calls -------------------------------------------------------------------------------------------------------

    def encode_call(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, task: str = "", names: Sequence[str] = ()
    ) -> Call:
        """The arguments of a call of `task`, whose positional parameters have these `names`.

        Raises NotEncodable, which names the argument and the part of it that cannot be written, and PayloadTooLarge.
        """
        if not args and not kwargs and not self._codecs:
            return Call(b"", ())
        call: dict[str, Any] = {}
        if args:
            call["args"] = args
        if kwargs:
            call["kwargs"] = kwargs
        try:
            data, ids = self._write_call(call)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            arguments = [
                *((names[at] if at < len(names) else f"#{at + 1}", value) for at, value in enumerate(args)),
                *kwargs.items(),
            ]
            raise self._culprit(arguments, task, error) from None
        return Call(self._seal(data, f"the arguments of {task or 'the task'}"), tuple(dict.fromkeys(ids)))

    def _write_call(self, call: dict[str, Any]) -> tuple[bytes, list[str]]:
        references = _References()
        if self._serializer == "msgpack":
            return _pack(call, references), references.ids
        data = _dump(call, references)
        if not references.ids:
            return data, []
        while data.count(json.dumps(references.key).encode()) != len(
            references.ids
        ):  # the data has such keys too
            references = _References(references.key + "$")
            data = _dump(call, references)
        return _dump(call | {"reference": references.key}, _References(references.key)), references.ids

    def decode_call(
        self, payload: bytes, content_type: str, parents: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call; `parents` are the results that stand for handles, by task id.

        Raises NotDecodable if the bytes are not such a call, or need a parent that is not there.
        """
        call = self._read(payload, content_type, parents) if payload else {}
        if not isinstance(call, dict) or not call.keys() <= _CALL_KEYS:
            raise errors.NotDecodable('the payload is not a call: {"args": [...], "kwargs": {...}}')
        args, kwargs = call.get("args", []), call.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise errors.NotDecodable('the payload is not a call: "args" is a list, "kwargs" has names')
        if key := call.get("reference"):
            args, kwargs = (_resolve(part, key, parents) for part in (args, kwargs))
        return args, kwargs

    # Results and checkpoints -------------------------------------------------------------------------------------

    def encode_result(self, value: Any, *, task: str = "") -> tuple[bytes, str]:
        """What a task came to, and its content type. None is no bytes at all. NotEncodable, PayloadTooLarge."""
        if value is None and not self._codecs:
            return b"", self.content_type
        references = _References()
        try:
            data = self._write(value, references)
            if references.ids:
                raise TypeError("Handle cannot be written")
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise self._culprit([("", value)], task, error) from None
        return self._seal(data, f"the result of {task or 'the task'}"), self.content_type

    def decode_result(self, data: bytes, content_type: str) -> Any:
        """What `encode_result` was given; tuples come back as lists. NotDecodable."""
        return self._read(data, content_type, {}) if data else None

    def encode_checkpoint(self, value: Any, *, task: str = "") -> bytes:
        """A checkpoint, which says itself how it is written. NotEncodable, PayloadTooLarge."""
        data, content_type = self.encode_result(value, task=task)
        return b"%b\n%b" % (content_type.encode(), data)

    def decode_checkpoint(self, data: bytes) -> Any:
        """What `encode_checkpoint` was given; None if there are no bytes. NotDecodable."""
        if not data:
            return None
        content_type, _, rest = data.partition(b"\n")
        return self.decode_result(rest, content_type.decode("ascii", "replace"))

    # Bytes -------------------------------------------------------------------------------------------------------

    def _write(self, value: Any, references: _References) -> bytes:
        return (_pack if self._serializer == "msgpack" else _dump)(value, references)

    def _seal(self, data: bytes, what: str) -> bytes:
        for codec in self._codecs.values():
            data = codec.encode(data)
        if len(data) > _limits.PAYLOAD_BYTES_MAX:
            raise errors.PayloadTooLarge(
                f"{what} take {len(data)} bytes, a task holds {_limits.PAYLOAD_BYTES_MAX}",
                metadata={"bytes": str(len(data)), "limit": str(_limits.PAYLOAD_BYTES_MAX)},
            )
        return data

    def _read(self, data: bytes, content_type: str, parents: Mapping[str, Any]) -> Any:
        kind, _, names = (content_type or _JSON).partition("+")
        for name in reversed(names.split("+")) if names else ():
            codec = self._codecs.get(name) or (GzipCodec() if name == "gzip" else None)
            if codec is None:
                raise errors.NotDecodable(f"{content_type}: this app has no codec named {name!r}")
            try:
                data = codec.decode(data)
            except Exception as error:
                raise errors.NotDecodable(f"codec {name!r} cannot read these bytes: {error}") from error
        try:
            match kind:
                case "application/json":
                    return _load(data)
                case "application/msgpack":
                    return _unpack(data, parents)
        except errors.NotDecodable:
            raise
        except Exception as error:  # what msgpack raises has no common base
            raise errors.NotDecodable(f"these bytes are not {content_type}: {error}") from error
        raise errors.NotDecodable(f"content type {content_type!r} is neither JSON nor msgpack")

    def _culprit(
        self, values: Iterable[tuple[str, Any]], task: str, error: BaseException
    ) -> errors.NotEncodable:
        """Say which argument, and which part of it, cannot be written."""
        language = "msgpack" if self._serializer == "msgpack" else "JSON"
        for name, value in values:
            if not self._fits(value, handles=bool(name)):
                path, part = _smallest(value, partial(self._fits, handles=bool(name)))
                where = f"argument {name!r}" if name else "the result"
                of, at = f" of {task}" if task else "", f", at {path}" if path else ""
                why = f"{type(part).__name__} cannot be written as {language}{at}: {part!r:.80}"
                return errors.NotEncodable(f"{where}{of}: {why}", metadata={"argument": name, "path": path})
        return errors.NotEncodable(f"the arguments of {task} cannot be written as {language}: {error}")

    def _fits(self, value: Any, *, handles: bool) -> bool:
        references = _References()
        try:
            self._write(value, references)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return False
        return handles or not references.ids


def _dump(value: Any, references: _References) -> bytes:
    try:
        return _write_json(value).encode()
    except TypeError:  # a handle, perhaps: takes a writer of its own
        text = json.dumps(value, **_HOW, default=references.json)
    return text.encode()


def _load(data: bytes) -> Any:
    """As json.loads; in a third of the time for what begins with a brace and ends with its value, as calls do."""
    if data.startswith(b'{"'):  # not UTF-16 or UTF-32
        text = data.decode("utf-8", "surrogatepass")
        value, end = _read_json(text)
        if end == len(text):
            return value
    return json.loads(data)


def _msgpack() -> ModuleType:
    try:
        import msgpack  # noqa: PLC0415  an optional extra
    except ImportError:
        raise ImportError("msgpack payloads need another package: pip install taskraft[msgpack]") from None
    return cast("ModuleType", msgpack)


def _pack(value: Any, references: _References) -> bytes:
    msgpack = _msgpack()
    packed = msgpack.packb(
        value,
        datetime=True,
        default=lambda one: msgpack.ExtType(_REFERENCE_EXT, references.of(one).encode()),
    )
    return cast("bytes", packed)


def _unpack(data: bytes, parents: Mapping[str, Any]) -> Any:
    msgpack = _msgpack()

    def extension(code: int, content: bytes) -> Any:
        if code != _REFERENCE_EXT:
            raise errors.NotDecodable(f"msgpack extension type {code} means nothing here")
        return _parent(content.decode(), parents)

    return msgpack.unpackb(data, timestamp=3, strict_map_key=False, ext_hook=extension)


def _parent(task_id: Any, parents: Mapping[str, Any]) -> Any:
    try:
        return parents[task_id]
    except (KeyError, TypeError):
        raise errors.NotDecodable(f"the result of task {task_id!r} is needed and is not there") from None


def _resolve(value: Any, key: str, parents: Mapping[str, Any]) -> Any:
    """`value` with the results in the place of what stands for them."""
    if isinstance(value, dict):
        if len(value) == 1 and key in value:
            return _parent(value[key], parents)
        return {name: _resolve(part, key, parents) for name, part in value.items()}
    return [_resolve(part, key, parents) for part in value] if isinstance(value, list) else value


def _smallest(value: Any, fits: Callable[[Any], bool]) -> tuple[str, Any]:
    """The path to the smallest part of `value` that does not fit, and that part."""
    path = ""
    for _ in range(_DEPTH_MAX):
        if isinstance(value, dict):
            parts: Iterable[tuple[Any, Any]] = value.items()
        elif isinstance(value, list | tuple):
            parts = enumerate(value)
        else:
            break
        for key, part in parts:
            if not fits(part):
                path, value = f"{path}[{key!r}]", part
                break
        else:
            break
    return path, value
