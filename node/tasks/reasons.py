"""Why a task does not run: the words of Obstacle.reason."""

from enum import StrEnum, auto, unique


@unique
class Reason(StrEnum):
    """One obstacle. Most important is what people must change, then what changes with time, then who else is here."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:
        return name

    WORKER_SILENT = auto()
    DEPENDENCY = auto()
    NOT_BEFORE = auto()
    BACKOFF = auto()
    QUEUE_PAUSED = auto()
    NO_WORKER = auto()
    NO_WORKER_FOR_TYPE = auto()
    WORKER_LABELS = auto()
    RESOURCES = auto()
    CONCURRENCY_LIMIT = auto()
    CONCURRENCY_LIMIT_KEY = auto()
    RATE_LIMIT = auto()
    RATE_LIMIT_KEY = auto()
    RESERVED = auto()
    RESOURCES_BUSY = auto()
    WORKERS_BUSY = auto()
    BEHIND_OTHERS = auto()
