from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskraft import GzipCodec, Handle, errors
from taskraft._payload import Payloads

if TYPE_CHECKING:
    from taskraft._link import Link
    from taskraft._payload import Serializer

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
BOTH = pytest.mark.parametrize("serializer", ["json", "msgpack"])


def handle(task_id: str) -> Handle[Any]:
    return Handle(task_id, cast("Link", None), Payloads())


class Xor:
    """A codec that needs its key, like a cipher."""

    name = "xor"

    def __init__(self, key: int) -> None:
        self._key = key

    def encode(self, data: bytes, /) -> bytes:
        return bytes(one ^ self._key for one in b"magic" + data)

    def decode(self, data: bytes, /) -> bytes:
        clear = bytes(one ^ self._key for one in data)
        if not clear.startswith(b"magic"):
            raise ValueError("wrong key")
        return clear.removeprefix(b"magic")


@BOTH
@given(args=st.lists(VALUES, max_size=3), kwargs=st.dictionaries(st.text(max_size=6), VALUES, max_size=3))
def test_a_call_comes_back_as_it_was(serializer: Serializer, args: list[Any], kwargs: dict[str, Any]) -> None:
    payloads = Payloads(serializer)

    call = payloads.encode_call(args, kwargs)

    assert payloads.decode_call(call.payload, payloads.content_type, {}) == (args, kwargs)
    assert call.parents == ()


@BOTH
@given(value=VALUES)
def test_results_and_checkpoints_come_back_as_they_were(serializer: Serializer, value: Any) -> None:
    payloads = Payloads(serializer, GzipCodec())

    assert payloads.decode_result(*payloads.encode_result(value)) == value
    assert Payloads("json").decode_checkpoint(payloads.encode_checkpoint(value)) == value


@BOTH
@given(value=VALUES)
def test_handles_become_dependencies_and_their_results_take_their_places(
    serializer: Serializer, value: Any
) -> None:
    payloads = Payloads(serializer)
    first, second = handle("a"), handle("b")

    call = payloads.encode_call([[first, {"x": second}], value], {"again": first})
    args, kwargs = payloads.decode_call(call.payload, payloads.content_type, {"a": value, "b": None})

    assert call.parents == ("a", "b")
    assert (args, kwargs) == ([[value, {"x": None}], value], {"again": value})


@pytest.mark.parametrize(
    "data", [{"$task": "a"}, {"$task$": 1, "x": {"$task": "b"}}, '{"$task":1}', ['"$task"']]
)
def test_data_that_looks_like_a_handle_stays_data(data: Any) -> None:
    payloads = Payloads()

    call = payloads.encode_call([handle("a"), data], {})

    assert payloads.decode_call(call.payload, payloads.content_type, {"a": 1, "b": 2}) == ([1, data], {})
    assert payloads.decode_call(payloads.encode_call([data], {}).payload, "", {}) == ([data], {})


def test_msgpack_knows_bytes_times_and_numbers_as_keys() -> None:
    payloads, noon = Payloads("msgpack"), datetime(2026, 3, 1, 12, tzinfo=UTC)

    call = payloads.encode_call([b"\x00", noon, {1: "one"}], {})

    assert payloads.decode_call(call.payload, payloads.content_type, {}) == ([b"\x00", noon, {1: "one"}], {})


def test_a_call_without_arguments_takes_no_bytes() -> None:
    assert Payloads().encode_call((), {}) == (b"", ())
    assert Payloads().decode_call(b"", "", {}) == ([], {})
    assert Payloads().encode_result(None) == (b"", "application/json")


@pytest.mark.parametrize(
    ("args", "kwargs", "argument", "path", "said"),
    [
        ((1, b"x"), {}, "second", "", "bytes cannot be written as JSON: b'x'"),
        (({"deep": [0, {1, 2}]},), {}, "first", "['deep'][1]", "set cannot be written as JSON"),
        ((), {"when": datetime(2026, 1, 1, tzinfo=UTC)}, "when", "", "datetime cannot be written"),
        ((1, 2, float("nan")), {}, "#3", "", "float cannot be written as JSON: nan"),
        ((), {"text": "\ud800"}, "text", "", "str cannot be written as JSON"),
    ],
)
def test_what_cannot_be_written_is_named(
    args: tuple[Any, ...], kwargs: dict[str, Any], argument: str, path: str, said: str
) -> None:
    with pytest.raises(errors.NotEncodable) as caught:
        Payloads().encode_call(args, kwargs, task="resize", names=["first", "second"])

    assert caught.value.metadata == {"argument": argument, "path": path}
    assert f"argument {argument!r} of resize: {said}" in caught.value.message
    assert isinstance(caught.value, TypeError)


def test_a_circle_is_refused_and_not_followed_for_ever() -> None:
    circle: list[Any] = []
    circle.append(circle)

    with pytest.raises(errors.NotEncodable, match="argument 'x'"):
        Payloads().encode_call((), {"x": circle})


@BOTH
def test_a_result_holds_no_handles(serializer: Serializer) -> None:
    with pytest.raises(errors.NotEncodable, match=r"the result of t: Handle cannot be written"):
        Payloads(serializer).encode_result({"a": [handle("x")]}, task="t")


@BOTH
def test_what_is_too_large_is_refused_before_it_is_sent(serializer: Serializer) -> None:
    with pytest.raises(errors.PayloadTooLarge) as caught:
        Payloads(serializer).encode_call(["x" * (1 << 20)], {}, task="t")

    assert caught.value.metadata["limit"] == str(1 << 20)


def test_what_is_small_once_compressed_may_be_sent() -> None:
    payloads = Payloads(codecs=GzipCodec())

    call = payloads.encode_call(["x" * (2 << 20)], {})

    assert payloads.content_type == "application/json+gzip"
    assert len(call.payload) < 1 << 16
    assert payloads.decode_call(call.payload, payloads.content_type, {})[0] == ["x" * (2 << 20)]


def test_codecs_are_applied_in_order_and_undone_backwards() -> None:
    payloads = Payloads("msgpack", [GzipCodec(), Xor(7)])

    data, content_type = payloads.encode_result({"a": 1})

    assert content_type == "application/msgpack+gzip+xor"
    assert bytes(one ^ 7 for one in data)[:7] == b"magic\x1f\x8b"
    assert payloads.decode_result(data, content_type) == {"a": 1}


def test_a_reader_without_the_codec_or_with_the_wrong_key_says_so() -> None:
    data, content_type = Payloads(codecs=Xor(7)).encode_result(1)

    with pytest.raises(errors.NotDecodable, match="no codec named 'xor'"):
        Payloads().decode_result(data, content_type)
    with pytest.raises(errors.NotDecodable, match="codec 'xor' cannot read these bytes: wrong key"):
        Payloads(codecs=Xor(8)).decode_result(data, content_type)


@pytest.mark.parametrize(
    ("payload", "content_type", "said"),
    [
        (b"{", "application/json", "not application/json"),
        (b"\xc1", "application/msgpack", "not application/msgpack"),
        (b"[1]", "application/json", "not a call"),
        (b'{"args":{}}', "application/json", "not a call"),
        (b'{"args":[],"more":1}', "application/json", "not a call"),
        (b"x", "text/plain", "neither JSON nor msgpack"),
        (b"\x80\x04N.", "application/python-pickle", "neither JSON nor msgpack"),
        (b'{"args":[{"$task":"a"}],"reference":"$task"}', "application/json", "task 'a' is needed"),
        (b"\x81\xa4args\x91\xd4\x07x", "application/msgpack", "extension type 7"),
    ],
)
def test_bytes_that_are_no_call_are_refused(payload: bytes, content_type: str, said: str) -> None:
    with pytest.raises(errors.NotDecodable, match=said):
        Payloads().decode_call(payload, content_type, {})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
@pytest.mark.parametrize("text", ['{"args":["ä"]}', ' { "args": ["ä"] }', '{"args":["ä"]}\n'])
def test_json_of_other_writers_is_read_as_the_standard_library_reads_it(text: str, encoding: str) -> None:
    assert Payloads().decode_call(text.encode(encoding), "application/json", {}) == (["ä"], {})


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="json or msgpack"):
        Payloads(cast("Serializer", "pickle"))
    with pytest.raises(ValueError, match="letters and digits"):
        codec = GzipCodec()
        codec.name = "g+zip"
        Payloads(codecs=codec)
