"""Which function does what each kind of command asks for."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from node.state import (
    advance,
    cancel,
    dead_letters,
    groups,
    leases,
    lock_transitions,
    publish,
    queue_times,
    queues,
    reorder,
    retry,
    schedules,
    submit,
    transactions,
)
from node.state.conclude import consequences
from node.state.results import Refused, Result
from node.state.tables import Position, Tables

HANDLERS: Final[Mapping[str, Callable[[Tables, Position, Any], Result]]] = {
    "create_queue": queues.create,
    "update_queue": queues.update,
    "delete_queue": queues.delete,
    "purge_queue": queues.purge,
    "publish": publish.publish,
    "ack": queues.ack,
    "delivered": queues.delivered,
    "seek_group": groups.seek,
    "delete_group": groups.delete,
    "advance_queues": queue_times.advance,
    "move_messages": dead_letters.move,
    "cancel_tasks": cancel.cancel,
    "retry_tasks": retry.retry,
    "create_schedule": schedules.create,
    "update_schedule": schedules.update,
    "delete_schedule": schedules.delete,
    "fire_schedule": schedules.fire,
    "trigger_schedule": schedules.trigger,
    "submit_tasks": submit.submit,
    "lease_tasks": leases.lease,
    "settle_tasks": leases.settle,
    "record_progress": leases.record_progress,
    "advance_tasks": advance.advance,
    "reorder_tasks": reorder.reorder,
    "acquire_lock": lock_transitions.acquire,
    "release_lock": lock_transitions.release,
    "end_lock_claims": lock_transitions.end,
    "check_queue": queues.check,
    "check_lock": transactions.check_lock,
}
"""What is done for each kind of command that this program knows, but for transactions."""

KINDS: Final = frozenset((*HANDLERS, "transaction"))
"""All kinds of commands that this program knows."""


def perform(tables: Tables, at: Position, kind: str, command: Any) -> Result:
    """Do what a command asks for, and what follows from that for other tasks, queues, lanes and workflows.

    Undone if what was done of a transaction has to be undone.
    """
    if kind == "transaction":
        return transactions.commit(tables, at, command, perform)
    result = HANDLERS[kind](tables, at, command)
    if isinstance(result, Refused):
        assert not tables.tasks.touched, "a refusal changes nothing"
        return result
    if tables.tasks.touched:
        consequences(tables, at)
    return result


def scope(kind: str, command: Any) -> str:
    """What a request_id stands for: the kind of command and what it is about."""
    match kind:
        case "create_queue" | "update_queue":
            about = command.queue.name
        case "create_schedule" | "update_schedule":
            about = command.schedule.name
        case "seek_group" | "delete_group":
            about = f"{command.queue} {command.group}"
        case "publish" | "ack" | "delivered" | "move_messages" | "reorder_tasks":
            about = command.queue
        case "submit_tasks":
            about = command.workflow.name or (command.tasks[0].queue if command.tasks else "")
        case "cancel_tasks" | "retry_tasks":
            about = command.workflow or command.queue or (command.names[0] if command.names else "")
        case _:
            about = getattr(command, "name", "")
    return f"{kind} {about}"
