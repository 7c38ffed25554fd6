"""What the demonstration counts and how it judges."""

import json
from collections import Counter
from pathlib import Path

from taskraft.demo.counting import UNREADABLE, count_tokens, source_files, standard_library
from taskraft.demo.verdict import (
    FRESH,
    NOT_RECORDED,
    PUBLISHED_TWICE,
    REDELIVERED,
    Failover,
    Ledger,
    Result,
    Verdict,
)


def result(path: str = "a.py", sequence: int = 1, attempt: int = 1) -> Result:
    return Result(path, sequence, attempt, "consumer-1", Counter(NAME=2))


def verdict(ledger: Ledger, expected: Counter[str]) -> Verdict:
    failover = Failover(old_leader="n1", new_leader="n2", kill_to_ack_s=0.3)
    return Verdict(ledger=ledger, failover=failover, expected=expected, cluster_s=1, single_process_s=1)


def test_tokens_are_counted_by_kind() -> None:
    counts = count_tokens(b"x = 1  # one\n")

    assert counts == Counter(ENCODING=1, NAME=1, OP=1, NUMBER=1, COMMENT=1, NEWLINE=1, ENDMARKER=1)


def test_a_file_that_is_no_python_counts_up_to_there_and_once_as_unreadable() -> None:
    assert count_tokens(b"x = (")[UNREADABLE] == 1
    assert count_tokens(b"# coding: nonsense\n") == Counter({UNREADABLE: 1})


def test_the_standard_library_is_complete_without_what_was_installed_into_it() -> None:
    paths = source_files()

    assert {Path("tokenize.py"), Path("asyncio/tasks.py"), Path("json/decoder.py")} <= set(paths)
    assert not any("site-packages" in path.parts for path in paths)
    assert max((standard_library() / path).stat().st_size for path in paths) < 1 << 20


def test_a_result_survives_its_way_through_a_queue() -> None:
    sent = {"path": "a.py", "sequence": 1, "attempt": 1, "consumer": "consumer-1", "tokens": Counter(NAME=2)}

    assert Result.parse(json.dumps(sent).encode()) == result()


def test_a_file_counts_once_and_every_further_result_has_a_cause() -> None:
    ledger = Ledger()

    causes = [ledger.note(one) for one in (result(), result(attempt=2), result(), result(sequence=5))]

    assert causes == [FRESH, REDELIVERED, NOT_RECORDED, PUBLISHED_TWICE]
    assert ledger.totals == Counter(NAME=2)
    assert ledger.processed == 1


def test_all_is_well_if_everything_is_there_and_the_totals_are_right() -> None:
    ledger = Ledger(published={"a.py"}, acknowledged={"a.py"})
    ledger.note(result())
    ledger.note(result(attempt=2))

    assert verdict(ledger, Counter(NAME=2)).good


def test_a_lost_file_is_no_happy_end() -> None:
    ledger = Ledger(published={"a.py", "b.py"}, acknowledged={"a.py", "b.py"})
    ledger.note(result())

    assert ledger.lost == {"b.py"}
    assert not verdict(ledger, Counter(NAME=2)).good


def test_different_totals_are_no_happy_end_and_are_named() -> None:
    ledger = Ledger(published={"a.py"}, acknowledged={"a.py"})
    ledger.note(result())

    end = verdict(ledger, Counter(NAME=3))

    assert not end.good
    assert end.differences() == "NAME 2 instead of 3"


def test_a_file_that_is_stored_twice_is_no_happy_end() -> None:
    ledger = Ledger(published={"a.py"}, acknowledged={"a.py"})
    ledger.note(result())
    ledger.note(result(sequence=2))

    assert not verdict(ledger, Counter(NAME=2)).good
