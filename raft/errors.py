"""What can go wrong with a proposal or a read. The docstrings are the messages."""

from __future__ import annotations


class RaftError(Exception):
    """The replicated log could not do what was asked."""

    def __str__(self) -> str:
        return " ".join([self.__doc__ or "", *map(str, self.args)]).strip()


class NotLeader(RaftError):
    """This node does not lead, and nothing was done."""

    def __init__(self, leader_id: str | None = None) -> None:
        super().__init__(*([f"The leader is {leader_id}."] if leader_id else []))
        self.leader_id = leader_id


class CommitUnknown(RaftError):
    """Leadership was lost after the entry was written: it may or may not be committed."""


class Overwritten(RaftError):
    """Another leader put a different entry in this place: this one is not committed and never will be."""


class NoQuorum(RaftError):
    """No majority confirmed the leadership in time."""


class Stopped(RaftError):
    """The replica was closed."""


class MemberExists(RaftError):
    """The cluster has a member of that id."""


class MemberNotFound(RaftError):
    """The cluster has no member of that id."""


class ChangeInProgress(RaftError):
    """Another change of the members is not committed yet."""


class CatchUpTimeout(RaftError):
    """The new member did not catch up in time."""


class TransferFailed(RaftError):
    """Leadership was not handed over."""
