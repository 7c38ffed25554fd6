"""The queues of an app and those of the cluster: what the app says of a queue holds when it is created, and not later."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from taskraft import errors
from taskraft._scheduling import Rate, queue_settings, scheduling_of
from taskraft.v1 import queue_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from taskraft import App, Client
    from taskraft._scheduling import Scheduling

_SWITCHES = {
    ("refuse_infeasible", True): "--refuse-infeasible",
    ("refuse_infeasible", False): "--accept-infeasible",
    ("preemption", True): "--preemption",
    ("preemption", False): "--no-preemption",
}
_SECONDS = ("aging", "time_slice", "lease", "backoff", "backoff_max", "retain_succeeded", "retain_failed")

_log = logging.getLogger("taskraft.worker")


async def look_up(client: Client, names: Iterable[str]) -> AsyncIterator[tuple[str, Scheduling]]:
    """The settings of these queues, by name; what the cluster does not tell is passed over."""
    for name in names:
        try:
            found = (await client.get_queue(name)).scheduling
        except errors.TaskraftError as error:
            _log.debug("queue %s was not looked at: %s", name, error)
            continue
        if found is not None:
            yield name, found


def compare(name: str, has: Scheduling, described: Scheduling) -> None:
    """Warn if a queue is not as the app describes it."""
    if line := difference(name, has, described):
        _log.warning("%s", line)


def difference(name: str, has: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    """`queue later has policy fifo, the app says priority: taskraft queue update later --policy priority`; or nothing."""
    queue, _ = queue_settings(name, described)
    queue.kind = queue_pb2.QUEUE_KIND_TASK
    wanted: dict[str, Any] = {**(scheduling_of(queue) or {})}
    other = [key for key in described if key in wanted and wanted[key] != has.get(key)]
    if not other:
        return ""
    there = ", ".join(f"{key} {_word(has.get(key))}" for key in other)
    here = ", ".join(_word(wanted[key]) for key in other)
    options = " ".join(_option(key, wanted[key]) for key in other)
    return f"queue {name} has {there}, the app says {here}: taskraft queue update {name} {options}"


def unknown(error: errors.QueueNotFound, app: App, names: Iterable[str]) -> errors.QueueNotFound:
    """The same error, which names the queues of the app if one of these is none of them."""
    strange = [name for name in names if name not in app.queues]
    if not strange:
        return error
    text = f"the app has no tasks in queue {', '.join(strange)}; it has {', '.join(sorted(app.queues))}"
    return errors.QueueNotFound(text, metadata=error.metadata)


def _word(value: Any) -> str:
    """A setting as people and the command line write it."""
    if isinstance(value, Rate):
        return f"{value.per_second:g}:{value.burst}" if value.burst > 1 else f"{value.per_second:g}"
    if isinstance(value, dict):
        return " ".join(f"{key}={one:g}" for key, one in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value or 0)


def _option(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return _SWITCHES[key, value]
    if key == "tenant_weights":
        return " ".join(f"--tenant-weight {tenant}={weight:g}" for tenant, weight in value.items())
    return f"--{key.replace('_', '-')} {_word(value)}{'s' if key in _SECONDS else ''}"
