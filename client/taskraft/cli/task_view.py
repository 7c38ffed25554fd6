"""How tasks look: a row each, one in full with its history, and why it does not run."""

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from taskraft import Estimate, Explanation, Obstacle, TaskInfo
from taskraft.terminal.report import (
    as_json,
    human_age,
    human_bytes,
    human_count,
    human_duration,
    one_line,
    pairs,
    table,
)
from taskraft.terminal.states import look, state_text, word

BYTES_SHOWN = 2_000
JSON_TYPE = "application/json"
BYTES_FIELDS = {"payload": "content_type", "result": "result_content_type", "checkpoint": ""}


def safe(text: str) -> str:
    """Text of others for a table: no control characters, no markup."""
    return escape(one_line(text))


def mapping(values: Mapping[str, object]) -> str:
    """`cpu=2, memory=1.5`."""
    return safe(
        ", ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in values.items()
        )
    )


def moment(time: datetime | None) -> str:
    """A time in the zone of this machine, to the millisecond; empty for never."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:23] if time else ""


def distance(time: datetime | None) -> str:
    """`in 5 s` or `3 min ago`; empty for never."""
    if time is None:
        return ""
    seconds = (time - datetime.now(UTC)).total_seconds()
    return f"in {human_duration(seconds)}" if seconds > 0 else f"{human_duration(-seconds)} ago"


def content(data: bytes | None, content_type: str) -> str:
    """Payloads and results for people: JSON and text as they are, anything else as its size; cut if long."""
    if not data:
        return ""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"{human_bytes(len(data))} of {safe(content_type) or 'bytes'}"
    cut = f" ... ({human_bytes(len(data))} in all)" if len(text) > BYTES_SHOWN else ""
    return safe(text[:BYTES_SHOWN]) + cut


def task_json(task: TaskInfo) -> dict[str, Any]:
    """A task as `--output json` prints it: JSON bytes as what they say, text as text, the rest in `..._base64`."""
    fields = {name: getattr(task, name) for name in task.__slots__ if name not in BYTES_FIELDS}
    out: dict[str, Any] = as_json(fields)
    for name, type_field in BYTES_FIELDS.items():
        data: bytes | None = getattr(task, name)
        if data is None:
            out[name] = None
            continue
        try:
            is_json = type_field and getattr(task, type_field) == JSON_TYPE and data
            out[name] = json.loads(data) if is_json else data.decode()
        except ValueError:
            out[f"{name}_base64"] = base64.b64encode(data).decode()
    return out


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """An explanation as `--output json` prints it."""
    fields = {name: getattr(explanation, name) for name in explanation.__slots__ if name != "task"}
    out: dict[str, Any] = as_json(fields)
    return {"task": task_json(explanation.task)} | out


def run_time(task: TaskInfo) -> str:
    """How long the last attempt ran, or has been running."""
    if task.start_time is None or task.state not in (
        "leased",
        "running",
        "succeeded",
        "failed",
        "dead_lettered",
    ):
        return ""
    end = task.end_time or datetime.now(UTC)
    return human_duration(max(0.0, (end - task.start_time).total_seconds()))


def note(task: TaskInfo) -> str:
    """What is most worth saying about a task in few words: its error, its progress, or what it waits for."""
    if task.error is not None and task.state != "succeeded":
        return f"[red]{safe(task.error.reason)}[/] {safe(task.error.message)[:120]}"
    if task.progress is not None and not task.ended:
        return f"{task.progress.fraction:.0%} {safe(task.progress.message)}".rstrip()
    if task.state == "blocked":
        return f"waits for {human_count(task.dependencies_open, 'task')}"
    return distance(task.not_before) if task.state == "delayed" else ""


def tasks_table(tasks: Iterable[TaskInfo]) -> Table:
    """A row for each task."""
    numbers = ["priority", "attempt", "age", "run"]
    grid = table("task", "type", "state", *numbers, "", right=numbers)
    for task in tasks:
        grid.add_row(
            safe(task.id),
            safe(task.type),
            state_text(task.state),
            str(task.priority),
            attempts(task),
            human_age(task.create_time),
            run_time(task),
            note(task),
        )
    return grid


def attempts(task: TaskInfo) -> str:
    return f"{task.attempt}/{task.max_attempts}" if task.max_attempts else str(task.attempt)


def task_row(task: TaskInfo) -> Text:
    """A line about a change, for `task watch`."""
    at = datetime.now().astimezone().strftime("%H:%M:%S")
    state = look(task.state)
    line = Text(f"{at}  ", style="dim") + Text(f"{state.sign} {word(task.state):<13}", style=state.style)
    line += Text(f" {one_line(task.type)}  ", style="bold") + Text(one_line(task.id))
    if task.attempt > 1:
        line += Text(f"  attempt {attempts(task)}")
    said = Text.from_markup(note(task))
    return line + Text("  ") + said if said.plain else line


def task_details(task: TaskInfo) -> Group:
    """Everything about a task: settings, what came of it, and its history."""
    rows = {
        "task": f"[bold]{safe(task.id)}[/]",
        "state": state_markup(task),
        "type": f"{safe(task.type)}, in queue {safe(task.queue)}",
        "workflow": safe(task.workflow),
        "attempt": f"{attempts(task)}{f' at {safe(task.worker_id)}' if task.worker_id else ''}",
        "progress": progress_bar(task),
        "priority": str(task.priority),
        "resources": mapping(task.resources),
        "worker labels": mapping(task.worker_labels),
        "labels": mapping(task.labels),
        "headers": mapping(task.headers),
        "tenant": safe(task.tenant),
        "limit key": safe(task.limit_key),
        "preemptible": "yes" if task.preemptible else "",
        "size": human_duration(task.size) if task.size is not None else "",
        "lease": human_duration(task.lease) if task.lease is not None else "",
        "timeout": human_duration(task.timeout) if task.timeout is not None else "",
        "not before": when(task.not_before),
        "deadline": when(task.deadline),
        "created": when(task.create_time),
        "started": when(task.start_time),
        "ended": when(task.end_time),
        "forgotten": when(task.expire_time),
        "after": after(task),
        "payload": content(task.payload, task.content_type),
        "checkpoint": human_bytes(len(task.checkpoint)) if task.checkpoint else "",
        "error": f"[red]{safe(task.error.reason)}: {safe(task.error.message)}[/]" if task.error else "",
        "result": content(task.result, task.result_content_type),
    }
    parts: list[Table | Text] = [pairs({name: value for name, value in rows.items() if value})]
    if task.error is not None and task.error.detail:
        parts.append(Text("\n" + "\n".join(map(one_line, task.error.detail.splitlines())), style="dim"))
    if task.events:
        parts += [Text(""), timeline(task)]
    return Group(*parts)


def state_markup(task: TaskInfo) -> str:
    return state_text(task.state).markup


def progress_bar(task: TaskInfo) -> str:
    """`42% [########............] resizing, 3 s ago`."""
    if task.progress is None:
        return ""
    if task.state == "succeeded" and not (task.progress.fraction or task.progress.message):
        return ""  # it told nothing, and is done
    done = round(20 * task.progress.fraction)
    said = f" {safe(task.progress.message)}" if task.progress.message else ""
    age = f", {distance(task.progress.time)}" if task.progress.time else ""
    return f"{task.progress.fraction:.0%} [green]{'━' * done}[/][dim]{'━' * (20 - done)}[/]{said}{age}"


def when(time: datetime | None) -> str:
    return f"{moment(time)} ({distance(time)})" if time else ""


def after(task: TaskInfo) -> str:
    """The tasks that it depends on, the first few by name."""
    if not task.dependencies:
        return (
            f"{human_count(task.dependencies_open, 'task')} not yet ended" if task.dependencies_open else ""
        )
    shown = [
        safe(one.id) + ("" if one.condition == "succeeded" else f" ({word(one.condition)})")
        for one in task.dependencies[:5]
    ]
    more = f" and {len(task.dependencies) - 5:,} more" if len(task.dependencies) > 5 else ""
    open_ = f"; {task.dependencies_open:,} not yet ended" if task.dependencies_open else ""
    return f"{', '.join(shown)}{more}{open_}"


def timeline(task: TaskInfo) -> Table:
    """What happened to a task: when, how long after the submit, and who."""
    grid = table(
        "time", "since submit", "state", "attempt", "worker", "what", right=["since submit", "attempt"]
    )
    first = task.events[0].time
    last = 0.0
    for event in task.events:
        since = (event.time - first).total_seconds() if event.time and first else last
        last = since
        grid.add_row(
            moment(event.time)[11:],
            f"{since:.3f} s",
            state_text(event.state),
            str(event.attempt) if event.attempt else "",
            safe(event.worker_id),
            f"{safe(event.reason)} {safe(event.message)}".strip(),
        )
    return grid


def explained(explanation: Explanation) -> Group:
    """Why a task does not run, and when it is expected to."""
    task = explanation.task
    waits = not task.ended and task.state not in ("leased", "running")
    parts: list[Table | Text] = [Text.assemble((one_line(task.id), "bold"), " is ", state_text(task.state))]
    parts += [obstacle_line(one) for one in explanation.obstacles]
    if waits and not explanation.obstacles:
        parts.append(Text("  nothing keeps it from starting", style="green"))
    ahead = (
        f"{human_count(explanation.tasks_ahead, 'task')}, {human_duration(explanation.work_ahead)} of work"
    )
    rows = {
        "ahead of it": ahead if waits and explanation.tasks_ahead else "",
        "expected start": estimate(explanation.start) if waits else "",
        "expected finish": estimate(explanation.finish) if not task.ended else "",
    }
    parts.append(pairs({name: value for name, value in rows.items() if value}))
    return Group(*parts)


def obstacle_line(obstacle: Obstacle) -> Text:
    text = Text("  - ") + Text(one_line(obstacle.message) or word(obstacle.reason.lower()))
    return text + Text(f"  {one_line(obstacle.reason)}", style="dim")


def estimate(time: Estimate | None) -> str:
    """`in 5 s (12:00:05), nine times in ten in 12 s`; empty if it cannot be said."""
    if time is None or time.p50 is None:
        return ""
    later = f", nine times in ten {distance(time.p90)}" if time.p90 else ""
    return f"{distance(time.p50)} ({moment(time.p50)[11:19]}){later}"
