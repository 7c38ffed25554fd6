"""The settings of queues as options, and how their values are written."""

from typing import Annotated, Literal

import typer

from taskraft import Binding, Rate
from taskraft.terminal.options import parse_duration, parse_headers, parse_size

TASKS = "Queues of tasks"
MESSAGES = "Queues of messages"
Kind = Literal["message", "stream", "task"]
Overflow = Literal["reject", "drop_oldest"]
Policy = Literal["fifo", "priority", "shortest_job_first", "round_robin", "earliest_deadline", "fair_share"]
Placement = Literal["least_loaded", "pack", "spread"]


def parse_rate(text: str) -> Rate:
    """`10`, `0.5`, or `10:50`: ten per second, after up to fifty at once. Raises typer.BadParameter for anything else."""
    number, colon, burst = text.partition(":")
    try:
        return Rate(float(number), int(burst) if colon else 1)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a rate; write 10, or 10:50 for fifty at once") from None


def parse_binding(text: str) -> Binding:
    """`orders.*.created`, or `orders.> country=pt kind=new`: a pattern, and headers that a message must have.

    Raises typer.BadParameter for anything else.
    """
    words = text.split()
    if not words:
        raise typer.BadParameter("a binding is a pattern, such as orders.*.created")
    return Binding(words[0], parse_headers(words[1:]))


AckDeadline = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration,
        metavar="DURATION",
        help="How long a delivered message may stay unacknowledged before it is delivered again, 1s to 12h; 0 or "
        "nothing at creation: 30s.",
    ),
]
MaxMessages = Annotated[
    int | None, typer.Option(min=0, help="Most messages held, or tasks that have not ended; 0: no limit.")
]
MaxBytes = Annotated[
    int | None, typer.Option(parser=parse_size, metavar="SIZE", help="Most bytes held; 0: no limit.")
]
MaxMessageBytes = Annotated[
    int | None,
    typer.Option(
        parser=parse_size, metavar="SIZE", help="Largest message; at most 1MiB, which 0 stands for."
    ),
]
OverflowOption = Annotated[
    Overflow | None,
    typer.Option(help="At a limit: refuse the publish, or drop the oldest messages to make room."),
]
PolicyOption = Annotated[Policy | None, typer.Option(help="Which task is next.", rich_help_panel=TASKS)]
Aging = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration,
        metavar="DURATION",
        help="priority: waiting so long counts as one priority more; 0: it does not; default 1m.",
        rich_help_panel=TASKS,
    ),
]
TimeSlice = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration,
        metavar="DURATION",
        help="round_robin: how long a turn is; default 1s.",
        rich_help_panel=TASKS,
    ),
]
RefuseInfeasible = Annotated[
    bool | None,
    typer.Option(
        "--refuse-infeasible/--accept-infeasible",
        help="earliest_deadline: refuse what is not expected to meet its deadline.",
        rich_help_panel=TASKS,
    ),
]
TenantWeight = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TENANT=NUMBER", help="fair_share: a tenant's weight; others have 1.", rich_help_panel=TASKS
    ),
]
PlacementOption = Annotated[
    Placement | None,
    typer.Option(help="Which of the workers that can run a task gets it.", rich_help_panel=TASKS),
]
Preemption = Annotated[
    bool | None,
    typer.Option(
        "--preemption/--no-preemption",
        help="Stop a running preemptible task if one of higher priority cannot run otherwise.",
        rich_help_panel=TASKS,
    ),
]
MaxRunning = Annotated[
    int | None, typer.Option(min=0, help="Most tasks running at once; 0: no limit.", rich_help_panel=TASKS)
]
MaxRunningPerKey = Annotated[
    int | None, typer.Option(min=0, help="The same, of one limit key.", rich_help_panel=TASKS)
]
RateOption = Annotated[
    Rate | None,
    typer.Option(
        parser=parse_rate,
        metavar="N[:BURST]",
        help="Tasks started per second, evenly; 10:50: after fifty at once; 0: no limit.",
        rich_help_panel=TASKS,
    ),
]
RatePerKey = Annotated[
    Rate | None,
    typer.Option(
        parser=parse_rate, metavar="N[:BURST]", help="The same, of one limit key.", rich_help_panel=TASKS
    ),
]
Lease = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration,
        metavar="DURATION",
        help="How long a worker may be silent, 1s to 12h; default 10s.",
        rich_help_panel=TASKS,
    ),
]
MaxAttempts = Annotated[
    int | None,
    typer.Option(
        min=0, max=1000, help="How often a task is tried, default 3; or a message delivered, 0: no limit."
    ),
]
BackoffOption = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration,
        metavar="DURATION",
        help="The pause after the first failed attempt, doubled after each one; default 1s.",
        rich_help_panel=TASKS,
    ),
]
BackoffMax = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration,
        metavar="DURATION",
        help="The longest such pause; default 5m.",
        rich_help_panel=TASKS,
    ),
]
RetainSucceeded = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration,
        metavar="DURATION",
        help="How long a task is remembered that succeeded; default 1h.",
        rich_help_panel=TASKS,
    ),
]
RetainFailed = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration,
        metavar="DURATION",
        help="How long one is remembered that ended otherwise; default 7d.",
        rich_help_panel=TASKS,
    ),
]
MaxEnded = Annotated[
    int | None,
    typer.Option(min=1, help="Most ended tasks remembered; default 100000.", rich_help_panel=TASKS),
]
DeadLetterQueue = Annotated[
    str | None,
    typer.Option(
        metavar="QUEUE",
        help="Gets what was delivered too often, rejected, dropped or is too old; it must exist. Empty: none.",
        rich_help_panel=MESSAGES,
    ),
]
MaxAge = Annotated[
    float | None,
    typer.Option(
        parser=parse_duration,
        metavar="DURATION",
        help="How long a message stays, 1s to 366d; 0: no limit.",
        rich_help_panel=MESSAGES,
    ),
]
Bind = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Get the messages of these topics: words and dots, * for one word, > at the end for the rest; "
        "'orders.> country=pt': only with that header. All bindings at once; repeatable.",
        rich_help_panel=MESSAGES,
    ),
]
MaxInFlightPerKey = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1000,
        help="Most messages of one key at consumers at once; 1: one after the other; 0: keys do not order.",
        rich_help_panel=MESSAGES,
    ),
]
HoldKey = Annotated[
    bool | None,
    typer.Option(
        "--hold-key/--release-key",
        help="A message that was given back with a delay holds those behind it of its key.",
        rich_help_panel=MESSAGES,
    ),
]
Compaction = Annotated[
    bool | None,
    typer.Option(
        "--compaction/--no-compaction",
        help="A stream: a message replaces the earlier ones of its key.",
        rich_help_panel=MESSAGES,
    ),
]
