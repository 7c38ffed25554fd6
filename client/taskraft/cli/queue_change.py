"""`taskraft queue create` and `taskraft queue update`: the settings of queues, of messages and of tasks."""

from typing import Annotated, Any, Literal

import typer

from taskraft import Rate
from taskraft.cli.queue_view import details
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    QueueName,
    Timeout,
    parse_duration,
    parse_quantities,
    parse_size,
)
from taskraft.terminal.report import emit
from taskraft.terminal.session import with_client

TIMEOUT_S = 10.0
TASKS = "Queues of tasks"
Kind = Literal["message", "task"]
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
    typer.Option(min=1, max=1000, help="How often a task is tried; default 3.", rich_help_panel=TASKS),
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


def create(
    name: QueueName,
    kind: Annotated[Kind, typer.Option("--kind", "-k", help="What it holds; cannot be changed.")] = "message",
    ack_deadline: AckDeadline = None,
    max_messages: MaxMessages = None,
    max_bytes: MaxBytes = None,
    max_message_bytes: MaxMessageBytes = None,
    overflow: OverflowOption = None,
    policy: PolicyOption = None,
    aging: Aging = None,
    time_slice: TimeSlice = None,
    refuse_infeasible: RefuseInfeasible = None,
    tenant_weight: TenantWeight = None,
    placement: PlacementOption = None,
    preemption: Preemption = None,
    max_running: MaxRunning = None,
    max_running_per_key: MaxRunningPerKey = None,
    rate: RateOption = None,
    rate_per_key: RatePerKey = None,
    lease: Lease = None,
    max_attempts: MaxAttempts = None,
    backoff: BackoffOption = None,
    backoff_max: BackoffMax = None,
    retain_succeeded: RetainSucceeded = None,
    retain_failed: RetainFailed = None,
    max_ended: MaxEnded = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a queue. The same settings again are fine; other settings are refused.

    Examples:

    `taskraft queue create orders`

    `taskraft queue create thumbnails --ack-deadline 5m --max-bytes 1GiB --overflow drop_oldest`

    `taskraft queue create images --kind task --policy priority --max-running 10 --rate-per-key 5`
    """
    changes = given(
        kind=kind,
        ack_deadline=ack_deadline,
        max_messages=max_messages,
        max_bytes=max_bytes,
        max_message_bytes=max_message_bytes,
        overflow=overflow,
        policy=policy,
        aging=aging,
        time_slice=time_slice,
        refuse_infeasible=refuse_infeasible,
        tenant_weights=parse_quantities(tenant_weight) if tenant_weight else None,
        placement=placement,
        preemption=preemption,
        max_running=max_running,
        max_running_per_key=max_running_per_key,
        rate=rate,
        rate_per_key=rate_per_key,
        lease=lease,
        max_attempts=max_attempts,
        backoff=backoff,
        backoff_max=backoff_max,
        retain_succeeded=retain_succeeded,
        retain_failed=retain_failed,
        max_ended=max_ended,
    )
    info = with_client(address, timeout, lambda client: client.create_queue(name, **changes))
    emit(output, info, f"Created {info.name}.", details(info))


def update(
    name: QueueName,
    ack_deadline: AckDeadline = None,
    max_messages: MaxMessages = None,
    max_bytes: MaxBytes = None,
    max_message_bytes: MaxMessageBytes = None,
    overflow: OverflowOption = None,
    paused: Annotated[
        bool | None, typer.Option("--pause/--resume", help="Stop deliveries, or go on with them.")
    ] = None,
    policy: PolicyOption = None,
    aging: Aging = None,
    time_slice: TimeSlice = None,
    refuse_infeasible: RefuseInfeasible = None,
    tenant_weight: TenantWeight = None,
    placement: PlacementOption = None,
    preemption: Preemption = None,
    max_running: MaxRunning = None,
    max_running_per_key: MaxRunningPerKey = None,
    rate: RateOption = None,
    rate_per_key: RatePerKey = None,
    lease: Lease = None,
    max_attempts: MaxAttempts = None,
    backoff: BackoffOption = None,
    backoff_max: BackoffMax = None,
    retain_succeeded: RetainSucceeded = None,
    retain_failed: RetainFailed = None,
    max_ended: MaxEnded = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change the settings that are given, and no others. Waiting tasks are put in the order of a new policy.

    Examples:

    `taskraft queue update orders --max-messages 100000`

    `taskraft queue update orders --pause`

    `taskraft queue update images --policy fair_share --tenant-weight gold=3`
    """
    changes = given(
        ack_deadline=ack_deadline,
        max_messages=max_messages,
        max_bytes=max_bytes,
        max_message_bytes=max_message_bytes,
        overflow=overflow,
        paused=paused,
        policy=policy,
        aging=aging,
        time_slice=time_slice,
        refuse_infeasible=refuse_infeasible,
        tenant_weights=parse_quantities(tenant_weight) if tenant_weight else None,
        placement=placement,
        preemption=preemption,
        max_running=max_running,
        max_running_per_key=max_running_per_key,
        rate=rate,
        rate_per_key=rate_per_key,
        lease=lease,
        max_attempts=max_attempts,
        backoff=backoff,
        backoff_max=backoff_max,
        retain_succeeded=retain_succeeded,
        retain_failed=retain_failed,
        max_ended=max_ended,
    )
    if not changes:
        raise typer.BadParameter("say what to change; `taskraft queue update --help` lists the settings")
    info = with_client(address, timeout, lambda client: client.update_queue(name, **changes))
    emit(output, info, f"Updated {info.name}.", details(info))


def given(**settings: Any) -> dict[str, Any]:
    """The settings that were named on the command line; a rate of 0 stands for no limit."""
    named = {name: value for name, value in settings.items() if value is not None}
    return {name: None if value == Rate(0.0) else value for name, value in named.items()}
