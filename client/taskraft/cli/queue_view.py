"""How queues look: of messages and of tasks."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table

from taskraft import Percentiles, QueueInfo, Rate, TaskRates
from taskraft.cli.task_view import mapping
from taskraft.terminal.report import (
    as_json,
    human_age,
    human_bytes,
    human_count,
    human_duration,
    human_limit,
    pairs,
    table,
)
from taskraft.terminal.states import counted

ONLY_FOR = {
    "aging": "priority",
    "time_slice": "round_robin",
    "refuse_infeasible": "earliest_deadline",
    "tenant_weights": "fair_share",
}
LENGTHS = ("aging", "time_slice", "lease", "backoff", "backoff_max", "retain_succeeded", "retain_failed")


def overview(infos: list[QueueInfo]) -> Table:
    """A row for each queue; of those of tasks the messages are the tasks that have not ended."""
    numbers = ["messages", "delivered", "bytes", "consumers", "oldest", "published"]
    grid = table("queue", *numbers, "of", right=numbers)
    for info in infos:
        grid.add_row(
            info.name,
            human_count(info.stats.messages),
            human_count(info.stats.leased_messages),
            human_bytes(info.stats.bytes),
            human_count(info.stats.consumers),
            human_age(info.stats.oldest_publish_time),
            human_count(info.stats.published_messages),
            f"{info.kind}s{', [yellow]paused[/]' if info.paused else ''}",
        )
    return grid


def details(info: QueueInfo) -> Table | Group:
    return task_details(info) if info.kind == "task" else message_details(info)


def message_details(info: QueueInfo) -> Table:
    stats = info.stats
    return pairs(
        {
            "queue": title(info),
            "messages": f"{human_count(stats.messages)}, {human_bytes(stats.bytes)}; "
            f"{human_count(stats.leased_messages)} delivered and not acknowledged",
            "oldest": human_age(stats.oldest_publish_time) or "none",
            "published": f"{human_count(stats.published_messages, 'message')} ever",
            "consumers": human_count(stats.consumers),
            "ack deadline": human_duration(info.ack_deadline),
            "max messages": human_limit(info.max_messages, human_count(info.max_messages)),
            "max bytes": human_limit(info.max_bytes, human_bytes(info.max_bytes)),
            "max message": human_bytes(info.max_message_bytes),
            "overflow": info.overflow,
            **ends(info),
        }
    )


def title(info: QueueInfo) -> str:
    return f"{info.name}{' [yellow](paused)[/]' if info.paused else ''}"


def ends(info: QueueInfo) -> dict[str, str]:
    created = info.create_time.isoformat(timespec="seconds") if info.create_time else ""
    return {"created": created, "etag": info.etag}


def task_details(info: QueueInfo) -> Group:
    """A queue of tasks: how many are in each state, how fast it goes, and how it is scheduled."""
    stats = info.stats
    rows = {
        "queue": title(info),
        "tasks": counted(as_json(stats.tasks)).markup if stats.tasks is not None else "",
        "not ended": f"{human_count(stats.messages)}, {human_bytes(stats.bytes)}; "
        f"{human_count(stats.leased_messages)} at {human_count(stats.consumers, 'worker')}",
        "oldest": human_age(stats.oldest_publish_time) or "none",
        "submitted": f"{human_count(stats.published_messages, 'task')} ever",
        "max tasks": human_limit(info.max_messages, human_count(info.max_messages)),
        "max bytes": human_limit(info.max_bytes, human_bytes(info.max_bytes)),
        **scheduling_rows(dict(info.scheduling or {})),
        **ends(info),
    }
    parts: list[Table | str] = [pairs({name: value for name, value in rows.items() if value})]
    if stats.rates is not None:
        parts += ["", rates_line(stats.rates), rates_table(stats.rates)]
    return Group(*parts)


def scheduling_rows(settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings that say something under the queue's policy, in their order."""
    rows = {}
    for name, value in settings.items():
        if ONLY_FOR.get(name, settings["policy"]) != settings["policy"]:
            continue
        if isinstance(value, bool):
            shown = "yes" if value else ""
        elif isinstance(value, Rate):
            shown = f"{value.per_second:g} per second, {human_count(value.burst)} at once"
        elif isinstance(value, Mapping):
            shown = mapping(value)
        elif name in LENGTHS:
            shown = human_duration(value)
        elif isinstance(value, int):
            shown = human_count(value) if value else ""
        else:
            shown = str(value or "").replace("_", " ")
        rows[name.replace("_", " ")] = shown
    return rows


def rates_line(rates: TaskRates) -> str:
    """Throughput over the window, as the leader has seen it."""
    return (
        f"In the last {human_duration(rates.window)}: {human_count(rates.submitted)} submitted, "
        f"{human_count(rates.started)} started, {human_count(rates.ended)} ended; "
        f"[bold]{rates.throughput:,.1f} tasks/s[/], mean latency {human_duration(rates.latency)}"
    )


def rates_table(rates: TaskRates) -> Table:
    """How long things took in the window."""
    numbers = ["p50", "p90", "p99"]
    grid = table("", *numbers, right=numbers)
    for name, times in (
        ("waiting: ready to leased", rates.waiting),
        ("running: leased to ended", rates.running),
        ("end to end: submitted to ended", rates.end_to_end),
    ):
        grid.add_row(name, *quantiles(times))
    return grid


def quantiles(times: Percentiles) -> list[str]:
    return [human_duration(time) for time in (times.p50, times.p90, times.p99)]
