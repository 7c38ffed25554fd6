"""What `taskraft queue publish` makes of its input."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskraft import Message, OutgoingMessage
from taskraft.cli.consume import message_json
from taskraft.cli.publish import Input, parse_json_message, parser, read_chunks, split

LIKE = OutgoingMessage(b"")


async def in_pieces(text: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    ends = sorted({*(cut for cut in cuts if cut < len(text)), len(text)})
    for start, end in zip([0, *ends], ends, strict=False):
        yield text[start:end]


def bodies(text: bytes, cuts: list[int], input_: Input = Input.LINES) -> list[bytes]:
    async def collect() -> list[bytes]:
        parts = split(in_pieces(text, cuts), parser(input_, LIKE), whole=input_ is Input.WHOLE)
        return [message.body async for _, messages in parts for message in messages]

    return asyncio.run(collect())


@given(
    lines=st.lists(st.binary(max_size=5).filter(lambda line: not {10, 13} & set(line)), max_size=6),
    cuts=st.lists(st.integers(1, 30), max_size=6),
    ended=st.booleans(),
)
def test_a_line_is_a_message_however_the_pipe_cuts_it(
    lines: list[bytes], cuts: list[int], ended: bool
) -> None:
    text = b"\n".join(lines) + (b"\n" if ended and lines else b"")

    expected = lines if ended or (lines and lines[-1]) else lines[:-1]

    assert bodies(text, cuts) == expected


def test_a_line_end_of_windows_is_not_part_of_the_message() -> None:
    assert bodies(b"one\r\ntwo\r\n", []) == [b"one", b"two"]


@given(text=st.binary(max_size=40), cuts=st.lists(st.integers(1, 30), max_size=4))
def test_the_whole_input_is_one_message_with_every_byte(text: bytes, cuts: list[int]) -> None:
    assert bodies(text, cuts, Input.WHOLE) == [text]


def test_a_slow_pipe_gives_what_it_has_without_waiting_for_more() -> None:
    reader, writer = os.pipe()

    async def first_two() -> list[bytes]:
        chunks = read_chunks(reader)
        os.write(writer, b"one\n")
        first = await asyncio.wait_for(anext(chunks), 5)
        os.write(writer, b"two\n")
        second = await asyncio.wait_for(anext(chunks), 5)
        os.close(writer)
        return [first, second, *[chunk async for chunk in chunks]]

    try:
        assert asyncio.run(first_two()) == [b"one\n", b"two\n"]
    finally:
        os.close(reader)


def test_json_lines_carry_text_or_base64_and_headers() -> None:
    text = parse_json_message(
        b'{"body": "caf\\u00e9", "headers": {"a": "1"}, "sequence": 9}', replace(LIKE, headers={"b": "2"})
    )
    binary = parse_json_message(b'{"body_base64": "/wA="}', LIKE)

    assert (text.body, text.headers) == ("café".encode(), {"a": "1", "b": "2"})
    assert binary.body == b"\xff\x00"


@pytest.mark.parametrize(
    "line",
    [b"hello", b"[]", b"{}", b'{"body": 1}', b'{"body_base64": "?"}', b'{"body": "x", "headers": [1]}'],
)
def test_what_is_no_message_is_shown_in_the_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a message") as error:
        parse_json_message(line, LIKE)

    assert line.decode() in str(error.value)


@pytest.mark.parametrize("body", [b"", b"text", "umlaut ü".encode(), b"\xff\xfe", b"two\nlines"])
def test_what_consume_prints_as_json_publish_takes_back(body: bytes) -> None:
    received = SimpleNamespace(
        sequence=7,
        attempt=1,
        publish_time=None,
        headers={"k": "v"},
        body=body,
        key="about",
        priority=3,
        dead_letter=None,
    )

    line = json.dumps(message_json(cast("Message", received)))

    assert parse_json_message(line.encode(), LIKE) == OutgoingMessage(
        body, {"k": "v"}, key="about", priority=3
    )


def test_what_is_said_of_all_messages_wins_over_what_a_line_says() -> None:
    line = b'{"body": "x", "key": "a", "priority": 3}'

    assert parse_json_message(line, replace(LIKE, key="b")) == OutgoingMessage(b"x", key="b", priority=3)
    assert parser(Input.LINES, replace(LIKE, ttl=5.0))(b"x") == OutgoingMessage(b"x", ttl=5.0)
