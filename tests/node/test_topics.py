"""Which patterns match a topic, against the plainest way to say it."""

from hypothesis import given
from hypothesis import strategies as st

from node.state.topics import Patterns


def matches(pattern: list[str], topic: list[str]) -> bool:
    """By the rules, word by word."""
    if not pattern or not topic:
        return not pattern and not topic
    if pattern == [">"]:
        return True
    return pattern[0] in ("*", topic[0]) and matches(pattern[1:], topic[1:])


WORD = st.sampled_from(["a", "b", "cc"])
TOPIC = st.lists(WORD, min_size=1, max_size=5)
PATTERN = st.tuples(st.lists(st.one_of(WORD, st.just("*")), max_size=4), st.sampled_from([[], [">"]])).map(
    lambda parts: parts[0] + parts[1] or ["*"]
)


@given(st.lists(PATTERN, max_size=12), st.lists(st.integers(0, 11), max_size=6), st.lists(TOPIC, max_size=6))
def test_a_topic_is_matched_by_the_patterns_that_say_so_and_no_others(
    patterns: list[list[str]], removed: list[int], topics: list[list[str]]
) -> None:
    tried: Patterns[int] = Patterns()
    kept = dict(enumerate(patterns))
    for number, pattern in kept.items():
        tried.add(".".join(pattern), number)
    for number in removed:
        if number in kept:
            tried.remove(".".join(kept.pop(number)), number)

    for topic in topics:
        expected = {number for number, pattern in kept.items() if matches(pattern, topic)}
        assert tried.match(".".join(topic)) == expected


@given(st.lists(PATTERN, max_size=12), st.randoms(use_true_random=False))
def test_nothing_is_left_of_patterns_that_are_removed(patterns: list[list[str]], random: object) -> None:
    tried: Patterns[int] = Patterns()
    for number, pattern in enumerate(patterns):
        tried.add(".".join(pattern), number)

    order = list(enumerate(patterns))
    random.shuffle(order)  # type: ignore[attr-defined]
    for number, pattern in order:
        tried.remove(".".join(pattern), number)

    assert not tried


def test_the_examples_of_the_contract() -> None:
    tried: Patterns[str] = Patterns()
    for pattern in ("orders.*.created", "orders.>", "*", ">"):
        tried.add(pattern, pattern)

    assert tried.match("orders.eu.created") == {"orders.*.created", "orders.>", ">"}
    assert tried.match("orders.eu.west.created") == {"orders.>", ">"}
    assert tried.match("orders") == {"*", ">"}
    assert tried.match("invoices.eu") == {">"}
