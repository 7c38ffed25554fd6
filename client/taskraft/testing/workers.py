"""A worker in the process of a test."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from taskraft.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskraft import App

BEGIN_S = 10.0
GRACE_S = 5.0


@contextmanager
def run_worker(app: App | str, **settings: Any) -> Iterator[Worker]:
    """A worker for the length of a block; `settings` are those of Worker.

    It is connected when the block begins. When the block ends it finishes what it runs (for up to `grace` seconds, 5 if
    that is not among the settings) and leaves; an exception in the block ends it at once.
    """
    worker = Worker(app, **{"grace": GRACE_S, **settings})
    worker.launch()
    try:
        worker.wait_until_begun(BEGIN_S)
        yield worker
        worker.ask_to_drain()
    except BaseException:
        worker.ask_to_stop()
        raise
    finally:
        worker.wait_until_ended()
