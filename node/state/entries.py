"""Entries of the log as commands, and the place of each.

The commands of an entry are numbered in their order, those of a transaction one by one in its place. This `ordinal` is
part of the names of what a command makes: leases, etags, bodies, which are found again by it.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from google.protobuf.message import DecodeError

from taskraft.internal.v1 import command_pb2


class UnknownCommandError(Exception):
    """The log holds a command that this program does not know: it is older than the one that wrote it."""


class Entry(NamedTuple):
    """A batch, and for each of its commands the kind and the ordinal: of a transaction, that of its first command."""

    batch: command_pb2.Batch
    kinds: list[str]
    ordinals: Sequence[int]


def parse(payload: bytes, known: Collection[str]) -> Entry:
    """What an entry asks for. UnknownCommandError if one of its commands, or of their parts, is not of a `known` kind."""
    try:
        batch = command_pb2.Batch.FromString(payload)
    except DecodeError as error:
        raise UnknownCommandError(f"an entry of the log is not a batch of commands: {error}") from error
    kinds = [_kind(command, known) for command in batch.commands]
    if "transaction" not in kinds:
        return Entry(batch, kinds, range(len(kinds)))
    sizes = [
        1 if kind != "transaction" else _size(each.transaction, known)
        for kind, each in zip(kinds, batch.commands, strict=True)
    ]
    return Entry(batch, kinds, [*accumulate(sizes, initial=0)][:-1])


def _size(transaction: command_pb2.Transaction, known: Collection[str]) -> int:
    for command in transaction.commands:
        _kind(command, known)
    return len(transaction.commands)


def _kind(command: command_pb2.Command, known: Collection[str]) -> str:
    kind: str | None = command.WhichOneof("kind")
    if kind is None or kind not in known:
        raise UnknownCommandError(
            "the log holds a command that this program does not know; start a newer version"
        )
    return kind


def commands_of(payload: bytes) -> Iterator[command_pb2.Command]:
    """The commands of an entry by their ordinals, from 0 on, without the transactions around them."""
    for command in command_pb2.Batch.FromString(payload).commands:
        if command.HasField("transaction"):
            yield from command.transaction.commands
        else:
            yield command
