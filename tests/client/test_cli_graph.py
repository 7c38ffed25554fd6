"""How a workflow is drawn in a terminal."""

import io
import random
import re
from itertools import pairwise

import pytest
from rich.console import Console

from taskraft.terminal.graph import LABEL_WIDTH_MIN, Drawing, rows_of
from taskraft.terminal.layers import Step, alike_groups, folded, layers_of, single_groups
from taskraft.terminal.states import LOOKS, counted, telling


def drawn(steps: list[Step], *, width: int = 80, each: bool = False, encoding: str = "utf-8") -> list[str]:
    """The lines as a file gets them: without colour."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    Console(file=file, width=width, highlight=False, emoji=False).print(Drawing(steps, each=each))
    file.flush()
    return raw.getvalue().decode(encoding).splitlines()


def chain(*names: str) -> list[Step]:
    return [Step(names[0], "t", "queued")] + [
        Step(name, "t", "queued", (before,)) for before, name in pairwise(names)
    ]


def fan(middle: int, states: dict[str, int]) -> list[Step]:
    """One task, `middle` tasks after it in these states, and one after all of them."""
    each = [state for state, count in states.items() for _ in range(count)]
    assert len(each) == middle
    names = [f"r{i}" for i in range(middle)]
    return [
        Step("split", "split", "succeeded"),
        *(Step(name, "resize", state, ("split",)) for name, state in zip(names, each, strict=True)),
        Step("merge", "merge", "blocked", tuple(names)),
    ]


def random_steps(rng: random.Random, count: int) -> list[Step]:
    states = list(LOOKS)
    return [
        Step(
            f"t{i}",
            f"type{rng.randrange(4)}",
            rng.choice(states),
            tuple(f"t{j}" for j in range(i) if rng.random() < 2 / (i + 1)),
        )
        for i in range(count)
    ]


def test_a_chain_is_a_straight_line() -> None:
    assert drawn(chain("a", "b", "c")) == [
        "○  a (t): queued",
        "│",
        "○  b (t): queued",
        "│",
        "○  c (t): queued",
    ]


def test_a_fork_opens_and_a_join_closes() -> None:
    steps = [
        Step("split", "split", "succeeded"),
        Step("left", "left", "running", ("split",)),
        Step("right", "right", "failed", ("split",)),
        Step("join", "join", "blocked", ("left", "right"), "any"),
    ]

    assert drawn(steps) == [
        "✓  split: succeeded",
        "├─╮",
        "│ ▶  left: running",
        "│ │",
        "✗ │  right: failed",
        "├─╯",
        "·  join (any): blocked",
    ]


def test_a_line_that_is_crossed_is_not_joined() -> None:
    steps = [
        Step("a", "a", "queued"),
        Step("b", "b", "queued"),
        Step("c", "c", "blocked", ("a",)),
        Step("d", "d", "blocked", ("a",)),
        Step("e", "e", "blocked", ("b", "c", "d")),
    ]

    lines = drawn(steps)

    assert "├─│─╮" in lines
    assert lines[-1] == "·  e: blocked"


def test_thousands_of_tasks_are_one_row_for_each_layer_and_type() -> None:
    lines = drawn(fan(980, {"succeeded": 970, "running": 8, "failed": 2}))

    assert lines == [
        "✓  split: succeeded",
        "│",
        "✗  resize x 980: 970 ok, 8 running, 2 failed",
        "│",
        "·  merge: blocked",
    ]


def test_a_long_chain_of_one_type_is_folded() -> None:
    steps = [
        Step(f"s{layer}-{i}", "step", "queued", tuple(f"s{layer - 1}-{j}" for j in range(3) if layer))
        for layer in range(100)
        for i in range(3)
    ]

    lines = drawn(steps)

    assert lines[2] == "○  step x 294 in layers 2 to 99: 294 queued"
    assert len(lines) == 5


@pytest.mark.parametrize("seed", range(20))
def test_folding_and_counting_together_loses_no_task(seed: int) -> None:
    rng = random.Random(seed)
    steps = random_steps(rng, rng.randrange(1, 60))

    for groups in (single_groups(steps), alike_groups(steps), folded(alike_groups(steps))):
        assert sum(group.tasks for group in groups) == len(steps)
        for group in groups:
            assert all(groups[parent].last_layer < group.layer for parent in group.parents)


@pytest.mark.parametrize("seed", range(20))
def test_a_layer_is_one_below_the_lowest_parent(seed: int) -> None:
    steps = random_steps(random.Random(seed), 40)

    layer = dict(zip([step.name for step in steps], layers_of(steps), strict=True))

    for step in steps:
        assert layer[step.name] == max([layer[parent] for parent in step.parents], default=0) + 1


@pytest.mark.parametrize("seed", range(30))
def test_every_line_leads_from_a_parent_to_its_child(seed: int) -> None:
    """Read back what was drawn: follow the lines of every row up to where they begin."""
    groups = single_groups(random_steps(random.Random(seed), 20))

    columns: list[int | None] = []
    for row in rows_of(groups):
        mine = len(row.before) // 2
        if row.link:
            ways = row.link.ljust(2 * len(columns))[::2]
            joined = {columns[i] for i, sign in enumerate(ways) if sign in "├┤┼╰╯┴" and i < len(columns)}
            straight = {columns[mine]} if mine < len(columns) and row.link[2 * mine] == "│" else set()
            assert {groups[i].title for i in joined | straight if i is not None} == {
                groups[parent].title for parent in row.group.parents
            }
        else:
            assert not row.group.parents
        place = groups.index(row.group)
        under = row.under[::2]
        columns += [None] * (max(len(under), mine + 1) - len(columns))
        columns[mine] = place
        columns = [lane if i < len(under) and under[i] == "│" else None for i, lane in enumerate(columns)]
    assert not any(lane is not None for lane in columns), "a line that leads nowhere"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("width", [80, 100])
def test_no_line_is_wider_than_the_terminal(seed: int, width: int) -> None:
    rng = random.Random(seed)

    for steps in (random_steps(rng, rng.randrange(1, 200)), fan(10, dict.fromkeys(LOOKS, 1))):
        for each in (False, True):
            assert max(map(len, drawn(steps, width=width, each=each))) <= width


def test_a_thicket_is_told_in_words() -> None:
    steps = [
        Step(f"t{i}", "t", "queued", tuple(f"t{j}" for j in range(max(0, i - 15), i, 2))) for i in range(40)
    ]

    lines = drawn(steps, each=True)

    assert not set("".join(lines)) & set("├┤┼│╰╯")
    assert re.search(r"after t\d+, t\d+, t\d+ and 5 more", "\n".join(lines))


def test_a_long_label_goes_on_beside_its_lines() -> None:
    steps = [
        Step("a", "a", "queued"),
        *(Step(f"b{i}", "b" * 30, state, ("a",)) for i, state in enumerate(list(LOOKS) * 5)),
        Step("c", "c", "queued", ("a", "b0")),
    ]

    lines = drawn(steps, width=60)

    following = next(i for i, text in enumerate(lines) if "b" * 30 in text) + 1
    assert lines[following].startswith("│ │  ")
    assert lines[following].strip("│ ")


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text = "\n".join(drawn(fan(3, {"succeeded": 1, "running": 1, "failed": 1}), encoding="ascii"))

    assert "* " in text
    assert "| " in text


def test_text_of_others_cannot_steer_the_terminal() -> None:
    (text,) = drawn([Step("evil\x1b[31m", "[red]t", "queued")])

    assert text == "○  evil\\x1b[31m ([red]t): queued"


def test_the_worst_state_stands_for_a_group_and_counts_name_all() -> None:
    counts = {"succeeded": 1200, "running": 1, "dead_lettered": 2, "queued": 0}

    assert telling(counts) == "dead_lettered"
    assert counted(counts).plain == "1,200 ok, 1 running, 2 dead lettered"
    assert counted({}).plain == "none"


def test_a_label_has_room_at_eighty_columns() -> None:
    assert LABEL_WIDTH_MIN <= 40
