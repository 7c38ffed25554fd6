"""Mistakes of ours in callbacks of the event loop: nobody awaits them, so they must end the node by another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def guarded(fail: Callable[[Exception], None], step: Callable[..., None], *args: Any) -> None:
    """Run `step`; what it raises goes to `fail`, because asyncio would only log it and go on."""
    try:
        step(*args)
    except Exception as error:  # noqa: BLE001  whatever it is, what `step` owns is not to be trusted any more
        fail(error)
