"""Settings that are given by name: what a wrong one is told."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_names(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """TypeError for a name that is not known, with what may have been meant and with all that there are."""
    names = sorted(known)
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            meant = close or [one for one in names if one.startswith(name)][:1]
            guess = f"; did you mean {meant[0]}?" if meant else ""
            raise TypeError(f"{what} has no setting named {name}{guess} (there are {', '.join(names)})")
