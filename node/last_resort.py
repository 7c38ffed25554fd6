"""A node that was told to stop does stop: if its own way out takes too long, it says where it hangs and ends.

Nothing is lost by that: what was acknowledged is on disk before it is acknowledged, and a stop is no different from a
crash to the others. Waiting for a SIGKILL would hide the reason.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os

_log = logging.getLogger(__name__)

PATIENCE_S = 3.0  # beyond the time that calls are given to finish
STACK_CHARS_MAX = 600


async def end_after(seconds: float) -> None:
    """Unless cancelled before, log what every task waits for and end the process with 1."""
    await asyncio.sleep(seconds)
    for task in asyncio.all_tasks():
        stack = io.StringIO()
        task.print_stack(file=stack)
        fields = {"task": task.get_name(), "stack": stack.getvalue()[-STACK_CHARS_MAX:]}
        _log.error("still_waiting", extra={"fields": fields})
    _log.critical("stop_timed_out", extra={"fields": {"seconds": seconds}})
    logging.shutdown()
    os._exit(1)
