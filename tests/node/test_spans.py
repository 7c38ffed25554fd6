import itertools
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from node.dispatch.spans import Span, Spans, merged

SEQUENCES = st.integers(1, 30)
RANGES = st.tuples(SEQUENCES, SEQUENCES).map(sorted).map(tuple)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "take"]), RANGES, st.sampled_from("ab")), max_size=25)


def filled(*spans: tuple[int, int, str]) -> Spans[str]:
    made: Spans[str] = Spans()
    for first, last, value in spans:
        made.add(first, last, value)
    return made


def raises_assertion(call: Callable[[], object]) -> bool:
    try:
        call()
    except AssertionError:
        return True
    return False


@given(STEPS)
def test_spans_are_a_map_from_sequences_to_values(steps: list[tuple[str, tuple[int, int], str]]) -> None:
    spans: Spans[str] = Spans()
    model: dict[int, str] = {}
    for what, (first, last), value in steps:
        if what == "add":
            for low, high in spans.gaps(first, last):
                spans.add(low, high, value)
                model |= dict.fromkeys(range(low, high + 1), value)
        else:
            taken = spans.take(first, last)
            found = {seq: span.value for span in taken for seq in range(span.first, span.last + 1)}
            assert found == {seq: model.pop(seq) for seq in range(first, last + 1) if seq in model}

        assert {seq: s.value for s in spans for seq in range(s.first, s.last + 1)} == model
        assert spans.count == len(model)
        neighbours = list(spans)
        for left, right in itertools.pairwise(neighbours):
            assert left.last + 1 < right.first or left.value != right.value


def test_neighbours_with_the_same_value_become_one_span() -> None:
    spans = filled((1, 2, "a"), (5, 6, "a"))

    spans.add(3, 4, "a")

    assert list(spans) == [Span(1, 6, "a")]


def test_a_sequence_cannot_be_added_twice() -> None:
    spans = filled((1, 5, "a"))

    assert raises_assertion(lambda: spans.add(5, 6, "b"))
    assert raises_assertion(lambda: spans.add(2, 3, "a"))


def test_gaps_are_what_no_span_has() -> None:
    spans = filled((3, 4, "a"), (6, 6, "b"))

    assert spans.gaps(1, 8) == [(1, 2), (5, 5), (7, 8)]


@given(st.lists(RANGES, max_size=10))
def test_merged_ranges_are_the_same_sequences_in_the_fewest_ranges(ranges: list[tuple[int, int]]) -> None:
    found = merged(ranges)

    sequences = [seq for first, last in found for seq in range(first, last + 1)]
    assert sequences == sorted({seq for first, last in ranges for seq in range(first, last + 1)})
    assert all(left[1] + 1 < right[0] for left, right in itertools.pairwise(found))
