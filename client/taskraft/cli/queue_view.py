"""How queues look: of messages and of tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from taskraft import Binding, GroupInfo, MessageRates, Percentiles, QueueInfo, Rate, TaskRates
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


def details(info: QueueInfo) -> Group:
    return task_details(info) if info.kind == "task" else message_details(info)


def message_details(info: QueueInfo) -> Group:
    """A queue of messages: what it holds, what is done with it, how fast it goes, who reads it."""
    stats = info.stats
    delayed = f"{human_count(stats.delayed_messages)}, {human_bytes(stats.delayed_bytes)}"
    rows = {
        "queue": title(info),
        "kind": "stream" if info.kind == "stream" else "",
        "messages": f"{human_count(stats.messages)}, {human_bytes(stats.bytes)}; "
        f"{human_count(stats.leased_messages)} delivered and not acknowledged",
        "delayed": delayed if stats.delayed_messages else "",
        "oldest": human_age(stats.oldest_publish_time) or "none",
        "published": f"{human_count(stats.published_messages, 'message')} ever",
        "consumers": human_count(stats.consumers),
        "ack deadline": human_duration(info.ack_deadline),
        "max messages": human_limit(info.max_messages, human_count(info.max_messages)),
        "max bytes": human_limit(info.max_bytes, human_bytes(info.max_bytes)),
        "max message": human_bytes(info.max_message_bytes),
        "max age": human_duration(info.max_age) if info.max_age else "",
        "overflow": info.overflow,
        "max attempts": human_count(info.max_attempts) if info.max_attempts else "",
        "dead letters to": info.dead_letter_queue,
        "bindings": "\n".join(binding(one) for one in info.bindings),
        "keys": keys(info),
        "compaction": "by key" if info.compaction else "",
        **ends(info),
    }
    parts: list[Table | str] = [pairs({name: value for name, value in rows.items() if value})]
    if stats.groups:
        parts += ["", groups_table(stats.groups)]
    if stats.message_rates is not None:
        rates = stats.message_rates
        parts += ["", message_rates_line(rates), times_table(MESSAGE_TIMES, rates)]
    return Group(*parts)


def binding(one: Binding) -> str:
    """A pattern, and the headers that a message must have."""
    headers = "".join(f" {escape(name)}={escape(value)}" for name, value in sorted(one.headers.items()))
    return f"{one.pattern}{headers}"


def keys(info: QueueInfo) -> str:
    """What keys do to the order of messages."""
    if not info.max_in_flight_per_key:
        return ""
    holds = ", delayed ones hold their key" if info.hold_key else ""
    return f"{human_count(info.max_in_flight_per_key)} of a key at once{holds}"


def groups_table(groups: Sequence[GroupInfo]) -> Table:
    """A row for each consumer group."""
    numbers = ["position", "pending", "delivered", "consumers"]
    grid = table("group", *numbers, right=numbers)
    for group in groups:
        grid.add_row(
            group.name,
            human_count(group.position),
            human_count(group.pending_messages),
            human_count(group.leased_messages),
            human_count(group.consumers),
        )
    return grid


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
        parts += ["", rates_line(stats.rates), times_table(TASK_TIMES, stats.rates)]
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


def message_rates_line(rates: MessageRates) -> str:
    """The same for messages: rates in and out, and throughput."""
    window = rates.window or 1.0
    return (
        f"In the last {human_duration(rates.window)}: {human_count(rates.published)} in "
        f"({rates.published / window:,.1f}/s), {human_count(rates.delivered)} delivered, "
        f"{human_count(rates.acknowledged)} out; "
        f"[bold]{rates.throughput:,.1f} messages/s[/], mean latency {human_duration(rates.latency)}"
    )


TASK_TIMES = {
    "waiting": "waiting: ready to leased",
    "running": "running: leased to ended",
    "end_to_end": "end to end: submitted to ended",
}
MESSAGE_TIMES = {
    "waiting": "waiting: stored to delivered",
    "processing": "processing: delivered to acknowledged",
    "end_to_end": "end to end: stored to acknowledged",
}


def times_table(names: Mapping[str, str], rates: TaskRates | MessageRates) -> Table:
    """How long things took in the window."""
    numbers = ["p50", "p90", "p99"]
    grid = table("", *numbers, right=numbers)
    for field, name in names.items():
        grid.add_row(name, *quantiles(getattr(rates, field)))
    return grid


def quantiles(times: Percentiles) -> list[str]:
    return [human_duration(time) for time in (times.p50, times.p90, times.p99)]
