"""`taskraft queue create` and `taskraft queue update`: the settings of queues, of messages and of tasks."""

from typing import Annotated, Any

import typer

from taskraft import Rate
from taskraft.cli.queue_options import (
    MESSAGES,
    AckDeadline,
    Aging,
    BackoffMax,
    BackoffOption,
    Bind,
    Compaction,
    DeadLetterQueue,
    HoldKey,
    Kind,
    Lease,
    MaxAge,
    MaxAttempts,
    MaxBytes,
    MaxEnded,
    MaxInFlightPerKey,
    MaxMessageBytes,
    MaxMessages,
    MaxRunning,
    MaxRunningPerKey,
    OverflowOption,
    PlacementOption,
    PolicyOption,
    Preemption,
    RateOption,
    RatePerKey,
    RefuseInfeasible,
    RetainFailed,
    RetainSucceeded,
    TenantWeight,
    TimeSlice,
    parse_binding,
)
from taskraft.cli.queue_view import details
from taskraft.terminal.options import (
    DEFAULT_ADDRESS,
    Address,
    Output,
    OutputOption,
    QueueName,
    Timeout,
    parse_quantities,
)
from taskraft.terminal.report import emit
from taskraft.terminal.session import with_client

TIMEOUT_S = 10.0


def create(
    name: QueueName,
    kind: Annotated[Kind, typer.Option("--kind", "-k", help="What it holds; cannot be changed.")] = "message",
    ack_deadline: AckDeadline = None,
    max_messages: MaxMessages = None,
    max_bytes: MaxBytes = None,
    max_message_bytes: MaxMessageBytes = None,
    overflow: OverflowOption = None,
    dead_letter_queue: DeadLetterQueue = None,
    max_age: MaxAge = None,
    bind: Bind = None,
    max_in_flight_per_key: MaxInFlightPerKey = None,
    hold_key: HoldKey = None,
    compaction: Compaction = None,
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

    `taskraft queue create invoices --bind 'orders.*.paid' --max-attempts 5 --dead-letter-queue invoices-dead`

    `taskraft queue create images --kind task --policy priority --max-running 10 --rate-per-key 5`
    """
    changes = given(
        kind=kind,
        ack_deadline=ack_deadline,
        max_messages=max_messages,
        max_bytes=max_bytes,
        max_message_bytes=max_message_bytes,
        overflow=overflow,
        dead_letter_queue=dead_letter_queue,
        max_age=max_age,
        bindings=[parse_binding(one) for one in bind] if bind else None,
        max_in_flight_per_key=max_in_flight_per_key,
        hold_key=hold_key,
        compaction=compaction,
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
    dead_letter_queue: DeadLetterQueue = None,
    max_age: MaxAge = None,
    bind: Bind = None,
    no_bindings: Annotated[
        bool, typer.Option("--no-bindings", help="Get no topic any more.", rich_help_panel=MESSAGES)
    ] = False,
    max_in_flight_per_key: MaxInFlightPerKey = None,
    hold_key: HoldKey = None,
    compaction: Compaction = None,
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
        dead_letter_queue=dead_letter_queue,
        max_age=max_age,
        bindings=[parse_binding(one) for one in bind or []] if bind or no_bindings else None,
        max_in_flight_per_key=max_in_flight_per_key,
        hold_key=hold_key,
        compaction=compaction,
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
