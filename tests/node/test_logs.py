"""Logs: every record is one line of JSON with the facts that were given."""

import io
import json
import logging
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from node import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What the process logs; the root logger is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("info", "n1", stream)
    yield stream
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


def facts(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_fact_says_when_who_what_and_its_fields(stream: io.StringIO) -> None:
    before_ms = int(time.time() * 1000)

    logging.getLogger("node.replica").info("election_won", extra={"fields": {"term": 7, "votes": 2}})

    (fact,) = facts(stream)
    assert before_ms <= fact.pop("at_ms") <= int(time.time() * 1000)
    assert fact == {
        "level": "INFO",
        "node": "n1",
        "from": "node.replica",
        "action": "election_won",
        "term": 7,
        "votes": 2,
    }


def test_an_exception_is_a_field_of_the_same_line(stream: io.StringIO) -> None:
    try:
        raise OSError(28, "No space\nleft")
    except OSError:
        logging.getLogger("raft").exception("write_failed")

    (fact,) = facts(stream)
    assert fact["action"] == "write_failed"
    assert fact["error"].startswith("Traceback")
    assert "No space\nleft" in fact["error"]


def test_a_field_of_any_type_and_a_message_with_line_breaks_stay_one_line(stream: io.StringIO) -> None:
    logging.getLogger("x").warning("a\n%s", "b", extra={"fields": {"body": b"\xff\n", "names": {"q"}}})

    (fact,) = facts(stream)
    assert fact["action"] == "a\nb"
    assert fact["body"] == r"b'\xff\n'"


def test_facts_below_the_level_are_not_written(stream: io.StringIO) -> None:
    logging.getLogger("x").debug("detail_seen")

    assert facts(stream) == []


def test_a_warning_of_a_library_is_a_line_too(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure("info", "n1", stream)  # after pytest, which redirects warnings for every test
        warnings.warn("old call", DeprecationWarning, stacklevel=1)

    (fact,) = facts(stream)
    assert fact["from"] == "py.warnings"
    assert "old call" in fact["action"]


def test_a_field_that_hides_what_every_line_has_is_a_mistake_of_ours() -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "fact_told", None, None)
    record.fields = {"level": 3}

    with pytest.raises(AssertionError, match="level"):
        logs.JsonLines("n1").format(record)
