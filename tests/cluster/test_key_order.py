"""The checker of ordering keys passes a history that keeps the promise and sees each way of breaking it."""

from pathlib import Path

import pytest

from tests.cluster.key_order import Event, Reader, What, dump, problems, unfinished

Line = tuple[What, int, str]


def story(*lines: Line, key: str = "a") -> list[Event]:
    """Two published messages of a key, and then what happened to them."""
    events = [Event(what="published", at_ms=0, who="p", key=key, sequence=sequence) for sequence in (1, 2)]
    for at_ms, (what, sequence, who) in enumerate(lines, 1):
        events.append(
            Event(what=what, at_ms=at_ms, who=who, key=key if what != "left" else "", sequence=sequence)
        )
    return events


KEPT: list[tuple[Line, ...]] = [
    (("begun", 1, "c"), ("done", 1, "c"), ("begun", 2, "d"), ("done", 2, "d")),
    (("begun", 1, "c"), ("back", 1, "c"), ("begun", 1, "d"), ("done", 1, "d"), ("begun", 2, "c")),
    (("begun", 1, "c"), ("left", 0, "c"), ("begun", 1, "d"), ("done", 1, "d"), ("begun", 2, "d")),
    (("begun", 1, "c"), ("begun", 1, "d"), ("done", 1, "d"), ("begun", 2, "d"), ("done", 1, "c")),
    (("begun", 1, "c"), ("done", 1, "c"), ("begun", 1, "d"), ("done", 1, "d"), ("begun", 2, "d")),
]
BROKEN: list[tuple[Line, ...]] = [
    (("begun", 1, "c"), ("begun", 2, "d")),
    (("begun", 2, "d"), ("done", 2, "d")),
    (("begun", 1, "c"), ("back", 1, "c"), ("begun", 2, "d")),
    (("begun", 1, "c"), ("left", 0, "c"), ("begun", 2, "d")),
    (("begun", 1, "c"), ("begun", 1, "d"), ("done", 1, "c"), ("begun", 2, "c")),
    (("begun", 1, "c"), ("done", 1, "c"), ("begun", 2, "d"), ("begun", 1, "c")),
]


@pytest.mark.parametrize("lines", KEPT)
def test_a_story_in_order_has_no_problems(lines: tuple[Line, ...]) -> None:
    assert problems(story(*lines)) == []


@pytest.mark.parametrize("lines", BROKEN)
def test_a_story_out_of_order_is_noticed(lines: tuple[Line, ...]) -> None:
    assert len(problems(story(*lines))) == 1


def test_other_keys_and_messages_without_one_are_not_ordered() -> None:
    lines: list[tuple[What, str, int]] = [
        ("published", "b", 3),
        ("begun", "b", 3),
        ("begun", "", 5),
        ("begun", "", 4),
    ]
    other = [
        Event(what=what, at_ms=at_ms, who="c", key=key, sequence=sequence)
        for at_ms, (what, key, sequence) in enumerate(lines)
    ]

    assert problems(story(("begun", 1, "c")) + other) == []


def test_what_is_not_done_is_told() -> None:
    assert unfinished(story(("begun", 1, "c"), ("done", 1, "c"), ("begun", 2, "c"))) == {2}


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    events = story(("begun", 1, "c"))
    file = tmp_path / "events"
    file.write_text("".join(dump(event) + "\n" for event in events) + '{"what": "do')

    reader = Reader()
    assert reader.read([file, tmp_path / "none"]) == events

    with file.open("a") as more:
        more.write('ne", "at_ms": 9, "who": "c"}\n')
    assert len(reader.read([file])) == len(events) + 1
