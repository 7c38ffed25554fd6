"""The rules that stand between a peer's Append and PySyncObj: a message in, what may be believed out.

Stock PySyncObj cuts its log at every Append and acknowledges whatever it then ends with (defects 2 and 3). Here an
Append is compared with the log entry by entry first (Raft, figure 2, receiver rules 2 to 4):

- entries that are held already with the same term are skipped, so that nothing is cut without a conflict;
- what is acknowledged is the last entry that this message vouches for, never what the log happens to end with;
- the commit index is capped at that same entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from raft.frames import Append
from raft.members import decode_members
from raft.records import Entry
from raft.types import COMMAND, MEMBERS, NOOP


class LogView(Protocol):
    """What the rules need to see of a log."""

    @property
    def base(self) -> tuple[int, int]: ...
    @property
    def last(self) -> tuple[int, int]: ...
    def term_at(self, index: int) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """The log agrees with the sender's up to `verified`, once `entries` follow `prev`.

    With no new entries `prev` is this log's own last entry, so that PySyncObj has nothing to cut.
    """

    prev: tuple[int, int]
    entries: tuple[Entry, ...]
    verified: int
    commit: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The log does not hold what the Append builds on; the sender should build on `retry_from`."""

    retry_from: int


@dataclass(frozen=True, slots=True)
class Malformed:
    """No correct peer sends this."""

    why: str


def check_append(log: LogView, message: Append, committed: int) -> Accepted | Rejected | Malformed:
    """Decide what of `message`, which is of the current term, may reach the engine.

    `committed` is the last index known to be committed here; entries up to it are never cut.
    """
    if why := _malformed(message):
        return Malformed(why)
    prev_index, prev_term, entries = message.prev_index, message.prev_term, message.entries
    verified = prev_index + len(entries)
    base_index, base_term = log.base
    if prev_index < base_index:  # everything up to the base is committed, hence in the sender's log too
        entries = entries[base_index - prev_index :]
        prev_index, prev_term = base_index, base_term
    if prev_index > log.last[0]:
        return Rejected(log.last[0])
    if log.term_at(prev_index) != prev_term:
        return Rejected(_before_run(log, prev_index))
    held = 0
    while held < len(entries) and log.term_at(entries[held].index) == entries[held].term:
        held += 1
    commit = min(message.commit, verified)
    if held == len(entries):
        return Accepted(log.last, (), verified, commit)
    if held:
        prev_index, prev_term = entries[held - 1].index, entries[held - 1].term
    if prev_index < committed:
        return Malformed(f"it would overwrite entry {prev_index + 1}, and {committed} is committed here")
    return Accepted((prev_index, prev_term), entries[held:], verified, commit)


def _malformed(message: Append) -> str | None:
    index, term = message.prev_index, message.prev_term
    for entry in message.entries:
        index += 1
        if entry.index != index:
            return f"entry {entry.index} stands where {index} must"
        if not term <= entry.term <= message.term:
            return f"entry {index} has term {entry.term}, after {term} in an Append of term {message.term}"
        if why := _unreadable(entry):
            return why
        term = entry.term
    return None


def _unreadable(entry: Entry) -> str | None:
    """What must be understood where it stands in the log is looked at before it gets there."""
    if entry.kind not in (NOOP, COMMAND, MEMBERS):
        return f"entry {entry.index} has unknown kind {entry.kind}"
    if entry.kind == MEMBERS:
        try:
            decode_members(entry.payload)
        except ValueError as error:
            return f"entry {entry.index} is no list of members: {error}"
    return None


def _before_run(log: LogView, index: int) -> int:
    """The last index before the run of equal terms at `index`: a whole wrong term costs one round trip."""
    term = log.term_at(index)
    low = log.base[0]
    while index > low and log.term_at(index) == term:
        index -= 1
    return index
