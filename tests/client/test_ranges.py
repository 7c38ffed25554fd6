from __future__ import annotations

import itertools
import random

import pytest

from taskraft._ranges import Ranges


def members(ranges: list[tuple[int, int]]) -> set[int]:
    return {sequence for first, last in ranges for sequence in range(first, last + 1)}


@pytest.mark.parametrize("seed", range(30))
def test_ranges_behave_like_a_set_of_sequences(seed: int) -> None:
    rng, ranges, model = random.Random(seed), Ranges(), set[int]()
    for _ in range(200):
        first = rng.randrange(60)
        last = first + rng.randrange(12)
        if rng.random() < 0.5:
            ranges.add(first, last)
            model |= members([(first, last)])
        else:
            taken = ranges.take(first, last)
            assert members(taken) == model & members([(first, last)])
            model -= members(taken)

        held = list(ranges)
        assert members(held) == model
        assert ranges.count == len(model)
        assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(held))
        assert ranges.overlaps(first, last) == bool(model & members([(first, last)]))
        assert (first in ranges) == (first in model)
