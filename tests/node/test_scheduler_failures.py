"""What is proposed and cannot be applied, by a mistake of ours, comes again, and not at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.node.scheduling import EPOCH_MS, House, house, submitted


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as found:
        yield found


def test_a_lease_that_fails_comes_again_after_a_while(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    home.apply(submitted("a"))

    assert [home.fail() for _ in range(3)] == [1, 0, 0]
    home.tick(1_100)

    assert worker.receive() == ["a"]


def test_an_advance_of_time_that_fails_comes_again_after_a_while(home: House) -> None:
    home.queue()
    home.submit("a", not_before=Timestamp(seconds=EPOCH_MS // 1000 + 2))
    home.now_ms += 5_000

    assert [home.fail() for _ in range(3)] == [1, 0, 0]
    home.tick(1_100)

    assert home.state("a") == "QUEUED"


def test_an_outcome_that_fails_again_and_again_leaves_no_task_leased_for_ever(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    home.submit("a")
    worker.receive()
    (lease_id,) = worker.held
    worker.send_results()

    assert [home.fail() for _ in range(3)] == [1, 0, 0]
    home.now_ms += 1_100
    assert home.fail() == 1
    worker.read()
    assert worker.rejected == {lease_id: "INTERNAL"}
    worker.cut()
    home.tick(2_000)

    assert (home.state("a"), home.task("a").attempt) == ("QUEUED", 1)
