"""Transactions: several commands in one, all or none.

What can be refused is mostly known before anything is done: a precondition that does not hold, a lease that is not
current, a message that is done already, or is not there before the transaction. That is looked at first, and costs a
transaction that goes through little. What turns out later, a full queue for instance, raises Undone: the machine goes
back and applies the batch again, one command at a time. So nothing has to be written early for the case that it must be
undone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from node.state import dead_letters, leases, lock_transitions, queues
from node.state.results import Code, Committed, Done, Refused, Result, Settlement, Success
from node.state.tables import Position, Tables
from taskraft.internal.v1 import command_pb2

Perform = Callable[[Tables, Position, str, Any], Result]
"""Does one command, with what follows from it."""

PARTS: Final = frozenset(
    {"publish", "ack", "move_messages", "submit_tasks", "settle_tasks", "check_queue", "check_lock"}
)
"""Kinds of commands that a transaction can have; acks and moves are strict there."""

_WRITE_NOTHING: Final = frozenset({"check_queue", "check_lock"})
_STRICT: Final = frozenset({"ack", "move_messages"})


def check_lock(tables: Tables, at: Position, command: command_pb2.CheckLock) -> Result:
    """Refused unless the lock is held by that token."""
    return lock_transitions.check_lock(tables, command.lock, command.token) or Done()


_CHECKS: Final[Mapping[str, Callable[[Tables, Position, Any], Result]]] = {
    "check_queue": queues.check,
    "check_lock": check_lock,
    "settle_tasks": leases.check,
    "ack": queues.check_ack,
    "move_messages": dead_letters.check,
}
"""What refuses a command, as far as that can be known before the transaction."""


class Undone(Exception):
    """What was done of a transaction has to be undone: one of its commands was refused."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.refused = refused


def commit(tables: Tables, at: Position, command: command_pb2.Transaction, perform: Perform) -> Result:
    """All of it, or a refusal that says in `operation` what was refused. Raises Undone if something is done by then."""
    if command.lost:
        return Refused(Code.ABORTED, "LEASE_LOST", "a lease that the transaction needs is gone")
    if refused := _foreseen(tables, at, command.commands):
        return refused
    results: list[Success] = []
    written = False
    for place, part in enumerate(command.commands):
        kind = part.WhichOneof("kind")
        assert kind is not None
        result = perform(tables, at._replace(ordinal=at.ordinal + place), kind, getattr(part, kind))
        if isinstance(result, Settlement) and result.refused:
            result, written = leases.not_current(result.refused), True
        if isinstance(result, Refused):
            refused = _of_operation(result, place)
            if written:
                raise Undone(refused)
            return refused
        results.append(result)
        written = written or kind not in _WRITE_NOTHING
    return Committed(tuple(results))


def _foreseen(tables: Tables, at: Position, parts: Sequence[command_pb2.Command]) -> Refused | None:
    """The refusal that is known before anything is done. Strict ones that come first refuse themselves."""
    first = True
    for place, part in enumerate(parts):
        kind = part.WhichOneof("kind")
        if kind not in PARTS:
            message = f"a transaction cannot have {kind}"
            return _of_operation(Refused(Code.INVALID_ARGUMENT, "INVALID_FIELD", message), place)
        if kind in _STRICT:
            getattr(part, kind).strict = True
        if (check := _CHECKS.get(kind)) and not (first and kind in _STRICT):
            result = check(tables, at, getattr(part, kind))
            if isinstance(result, Refused):
                return _of_operation(result, place)
        first = first and kind in _WRITE_NOTHING
    return None


def _of_operation(refused: Refused, place: int) -> Refused:
    return replace(refused, metadata={**refused.metadata, "operation": str(place)})
