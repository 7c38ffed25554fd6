"""The simulation notices: each planted bug breaks a promise within sixty seeds, and without it the same seeds pass."""

import logging
import re
import traceback
from collections.abc import Iterator

import pytest

from tests.sim.bugs import BUGS, Bug

SEEDS = 60


@pytest.fixture(autouse=True)
def nodes_are_quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def first_finding(bug: Bug) -> tuple[int, str]:
    """The first seed that notices the bug, and how."""
    for seed in range(SEEDS):
        try:
            bug.run(seed, broken=True)
        except Exception:  # noqa: BLE001  what it is, is judged by the caller
            return seed, traceback.format_exc()
    pytest.fail(f"{SEEDS} runs went well")


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = BUGS[name]
    with monkeypatch.context() as patches:
        for target, broken in bug.patches.items():
            patches.setattr(target, broken)
        last_seed, finding = first_finding(bug)

    assert re.search(bug.shows_as, finding), finding
    for seed in range(last_seed + 1):
        bug.run(seed, broken=False)
