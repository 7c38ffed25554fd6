"""What can go wrong in stream processing, beside what can go wrong in the cluster."""

from taskraft.errors import TaskraftError


class StreamError(TaskraftError):
    """Stream processing cannot go on."""

    default_reason = "STREAM_ERROR"


class StepFailed(StreamError):
    """A function of the topology raised; the message names the record, and `__cause__` is what was raised."""

    default_reason = "STEP_FAILED"


class StateMismatch(StreamError):
    """The stored state is of another topology, source or version: take another group, or delete its state."""

    default_reason = "STATE_MISMATCH"


class StateTooLarge(StreamError):
    """There are more keys and windows than one processor may hold."""

    default_reason = "STATE_TOO_LARGE"


class Superseded(StreamError):
    """Another processor of the group was faster: this one's transaction was refused, and it starts again."""

    default_reason = "SUPERSEDED"
