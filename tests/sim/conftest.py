"""What the tests on single nodes, stock ones and ours, share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sim.alone import Alone
from tests.sim.stock import Wires


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Alone]:
    alone = Alone(tmp_path)
    yield alone
    alone.close()


@pytest.fixture
def wires() -> Iterator[Wires]:
    """Stock nodes in memory."""
    wires = Wires()
    yield wires
    wires.close()


@pytest.fixture
def filed(tmp_path: Path) -> Iterator[Wires]:
    """Stock nodes with files, which do not fork, and compact their logs when they are told to."""

    def settings(name: str) -> dict[str, Any]:
        files = {
            "journalFile": str(tmp_path / f"{name}.journal"),
            "fullDumpFile": str(tmp_path / f"{name}.dump"),
        }
        return files | {"useFork": False, "logCompactionMinTime": 10**9, "logCompactionBatchSize": 200}

    wires = Wires(settings=settings)
    yield wires
    wires.close()
