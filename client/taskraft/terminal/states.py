"""How the states of tasks, workflows and workers look: a sign, a colour and a word; each says enough alone."""

from collections.abc import Mapping
from typing import NamedTuple

from rich.text import Text


class Look(NamedTuple):
    """A state's sign, the sign where a terminal has only ASCII, and its colour."""

    sign: str
    ascii: str
    style: str


LOOKS: Mapping[str, Look] = {
    "failed": Look("✗", "x", "bold red"),
    "dead_lettered": Look("†", "!", "bold red"),
    "expired": Look("⊖", "-", "magenta"),
    "cancelled": Look("⊘", "/", "magenta"),
    "running": Look("▶", ">", "bold cyan"),
    "leased": Look("▷", ">", "cyan"),
    "queued": Look("○", "o", "yellow"),
    "delayed": Look("◷", "~", "blue"),
    "blocked": Look("·", ".", "dim"),
    "succeeded": Look("✓", "*", "green"),
}
"""Most telling first: the first one present stands for a whole group."""

UNKNOWN = Look("?", "?", "")
COUNTED = (
    *("succeeded", "running", "leased", "queued", "delayed", "blocked"),
    *("cancelled", "expired", "failed", "dead_lettered"),
)
"""The order in which counts are shown."""

assert LOOKS.keys() == set(COUNTED)


def look(state: str) -> Look:
    """How a state looks; one that this version does not know gets a question mark."""
    return LOOKS.get(state, UNKNOWN)


def word(state: str) -> str:
    """The state for people: `dead lettered`."""
    return state.replace("_", " ")


def state_text(state: str) -> Text:
    """Sign and word in the state's colour."""
    return Text(f"{look(state).sign} {word(state)}", style=look(state).style)


def counted(counts: Mapping[str, int], *, separator: str = ", ") -> Text:
    """`970 ok, 8 running, 2 failed`; states without tasks are left out, `none` if all are."""
    parts = [
        Text(f"{counts[state]:,} {'ok' if state == 'succeeded' else word(state)}", style=look(state).style)
        for state in [*COUNTED, *sorted(counts.keys() - LOOKS.keys())]
        if counts.get(state)
    ]
    return Text(separator).join(parts) if parts else Text("none", style="dim")


def telling(counts: Mapping[str, int]) -> str:
    """The one state that stands for all of them: the worst if something ended badly, else what is going on."""
    present = [state for state in LOOKS if counts.get(state)]
    return present[0] if present else "blocked"
