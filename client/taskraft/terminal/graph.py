"""Draws a workflow: one row for each group of tasks, parents above children, lines from one to the other.

A lane is a column that carries a group's line down to its children. A group takes over the lane of a parent that
has no further child, so that a long chain stays straight. Where there would be too many lanes, each row says in words
what it comes after.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from taskraft.terminal.layers import Group, Step, alike_groups, folded, single_groups
from taskraft.terminal.report import one_line
from taskraft.terminal.states import counted, look, telling, word

TASKS_SHOWN_EACH = 24  # a larger workflow is grouped
GROUPS_WITH_LINES_MAX = 1_000
LANES_MAX = 12
LABEL_WIDTH_MIN = 30
CORNERS = {
    # up, down, left, right: which ways the line goes on
    (True, True, False, True): "├",
    (True, True, True, False): "┤",
    (True, True, True, True): "┼",
    (True, True, False, False): "│",
    (True, False, False, True): "╰",
    (True, False, True, False): "╯",
    (True, False, True, True): "┴",
    (False, True, False, True): "╭",
    (False, True, True, False): "╮",
    (False, True, True, True): "┬",
    (False, False, True, True): "─",
}
TO_ASCII = str.maketrans("├┤┼│╰╯┴╭╮┬─", "|||||'+..+-")


@dataclass(frozen=True, slots=True)
class Row:
    """One group with its place: `link` is the line above it (may be empty), `before` and `after` stand beside its sign."""

    group: Group
    link: str
    before: str
    after: str
    under: str

    @property
    def width(self) -> int:
        return max(len(self.link), len(self.before) + 1 + len(self.after))


class Lanes:
    """The columns in use. Invariant: a lane is there exactly while its group has children that are not drawn yet."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._columns: list[int | None] = []
        self._left = [0] * len(groups)
        for group in groups:
            for parent in group.parents:
                self._left[parent] += 1

    @property
    def used(self) -> int:
        return len(self._columns)

    def middle(self, parents: Iterable[int]) -> float:
        """Where a group with these parents would like to be."""
        places = [self._columns.index(parent) for parent in parents]
        return sum(places) / len(places) if places else float("inf")

    def place(self, index: int, group: Group) -> Row:
        """Draw a group whose parents are drawn, and give it its lane."""
        before = list(self._columns)
        sources = sorted(self._columns.index(parent) for parent in group.parents)
        for column in sources:
            parent = self._columns[column]
            assert parent is not None
            self._left[parent] -= 1
            if not self._left[parent]:
                self._columns[column] = None
        ended = [column for column in sources if self._columns[column] is None]
        mine = ended[0] if ended else self._free(sources[-1] if sources else 0)
        self._columns[mine] = index
        link = self._link(before, sources, mine) if sources else ""
        stems = ["│" if lane is not None else " " for lane in self._columns]
        if not self._left[index]:
            self._columns[mine] = None
        under = [*stems[:mine], "│" if self._left[index] else " ", *stems[mine + 1 :]]
        while self._columns and self._columns[-1] is None:
            self._columns.pop()
        left = "".join(f"{stem} " for stem in stems[:mine])
        right = "".join(f" {stem}" for stem in stems[mine + 1 :]).rstrip()
        return Row(group, link, left, right, " ".join(under).rstrip())

    def _free(self, start: int) -> int:
        """The first free column from `start` on, made if there is none."""
        for column in range(start, len(self._columns)):
            if self._columns[column] is None:
                return column
        self._columns.append(None)
        return len(self._columns) - 1

    def _link(self, before: Sequence[int | None], sources: Sequence[int], mine: int) -> str:
        """The line that leads from the parents' lanes to column `mine`."""
        low, high = min(*sources, mine), max(*sources, mine)
        text = ""
        for column in range(max(len(before), len(self._columns))):
            above = column < len(before) and before[column] is not None
            below = column < len(self._columns) and self._columns[column] is not None
            ways = (column in sources, below, low < column <= high, low <= column < high)
            if column in sources or column == mine:
                text += CORNERS[ways]
            elif above:
                text += "│"  # a lane that is only crossed
            else:
                text += "─" if low < column < high else " "
            text += "─" if low <= column < high else " "
        return text.rstrip()


def rows_of(groups: Sequence[Group]) -> list[Row]:
    """All groups in drawing order: by layer, and within a layer as their parents stand from left to right."""
    lanes = Lanes(groups)
    rows: list[Row] = []
    for same in by_layer(groups):
        order = sorted((lanes.middle(groups[index].parents), index) for index in same)
        rows += [lanes.place(index, groups[index]) for _, index in order]
    return rows


def by_layer(groups: Sequence[Group]) -> Iterator[list[int]]:
    """The indexes of the groups of each layer; groups are in layer order."""
    same: list[int] = []
    for index, group in enumerate(groups):
        if same and groups[same[0]].layer != group.layer:
            yield same
            same = []
        same.append(index)
    if same:
        yield same


def label(group: Group) -> Text:
    """What stands beside a group's sign: `resize x 980: 970 ok, 8 running, 2 failed`."""
    title = one_line(group.title)
    many = f" x {group.tasks:,}" if group.tasks > 1 else ""
    text = Text(title, style="bold") + Text(f" ({one_line(group.kind)})" if group.kind else many)
    if group.last_layer > group.layer:
        text += Text(f" in layers {group.layer} to {group.last_layer}")
    if group.rule:
        text += Text(f" ({group.rule})", style="dim")
    state = telling(group.counts)
    what = counted(group.counts) if group.tasks > 1 else Text(word(state), style=look(state).style)
    return text + Text(": ") + what


class Drawing:
    """A workflow for rich's console, as wide as that is. `each`: no task is counted together with others."""

    def __init__(self, steps: Sequence[Step], *, each: bool = False) -> None:
        self._steps, self._each = steps, each

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, ascii_only = options.max_width, options.ascii_only
        groups = single_groups(self._steps)
        rows = rows_that_fit(groups, width) if self._each or len(groups) <= TASKS_SHOWN_EACH else []
        if not self._each and not rows:
            groups = folded(alike_groups(self._steps))
            rows = rows_that_fit(groups, width)
        if not rows:
            yield from in_words(groups, ascii_only=ascii_only)
            return
        for row in rows:
            yield from lines_of(console, row, width, ascii_only=ascii_only)


def rows_that_fit(groups: Sequence[Group], width: int) -> list[Row]:
    """The rows of all groups; nothing if they are too many, or their lines leave no room for labels."""
    if len(groups) > GROUPS_WITH_LINES_MAX:
        return []
    rows = rows_of(groups)
    widest = max((row.width for row in rows), default=0)
    return rows if widest <= 2 * LANES_MAX and widest + LABEL_WIDTH_MIN <= width else []


def lines_of(console: Console, row: Row, width: int, *, ascii_only: bool) -> Iterator[Text]:
    """A row's lines: the link, then the sign and the label, which goes on below if it is long."""
    if row.link:
        yield line(row.link, ascii_only)
    state = look(telling(row.group.counts))
    head = line(row.before, ascii_only)
    head.append(state.ascii if ascii_only else state.sign, style=state.style)
    head += line(row.after, ascii_only)
    indent = max(len(head.plain), len(row.under)) + 2
    for i, part in enumerate(label(row.group).wrap(console, max(LABEL_WIDTH_MIN, width - indent))):
        start = head if i == 0 else line(row.under, ascii_only)
        start.append(" " * (indent - len(start.plain)))
        yield start + part


def line(text: str, ascii_only: bool) -> Text:
    return Text(text.translate(TO_ASCII) if ascii_only else text, style="dim", end="\n")


def in_words(groups: Sequence[Group], *, ascii_only: bool) -> Iterator[Text]:
    """A row for each group with its layer, and with its parents named, where lines would be a thicket."""
    for group in groups:
        state = look(telling(group.counts))
        text = Text(f"{group.layer:>3} ", style="dim")
        text.append(f"{state.ascii if ascii_only else state.sign} ", style=state.style)
        text += label(group)
        if group.parents:
            names = sorted(one_line(groups[parent].title) for parent in group.parents)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            text += Text(f", after {', '.join(names[:3])}{more}", style="dim")
        yield text
