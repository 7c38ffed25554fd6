"""What a request may say. Each function returns the value it accepts or raises InvalidField naming field and limit."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from node import limits
from node.dispatch.ledger import Range
from node.dispatch.spans import merged
from node.errors import InvalidCredit, InvalidField
from taskraft.v1 import queue_pb2

PREFIX = "queues/"
TOPICS = "topics/"
TASKS, WORKFLOWS, SCHEDULES = "tasks/", "workflows/", "schedules/"
LOCKS = "locks/"
QUEUE_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{limits.QUEUE_ID_CHARS_MAX}}}", re.ASCII)
QUEUE_ID_LIMIT = f"1 to {limits.QUEUE_ID_CHARS_MAX} of letters, digits, '.', '_', '-'"
WORD = "[A-Za-z0-9_-]+"
TOPIC = re.compile(rf"{WORD}(\.{WORD})*", re.ASCII)
TOPIC_LIMIT = f"words of letters, digits, '_', '-', separated by '.', up to {limits.TOPIC_BYTES_MAX} bytes"
PATTERN = re.compile(rf"(({WORD}|\*)\.)*({WORD}|\*|>)", re.ASCII)
PATTERN_LIMIT = f"{TOPIC_LIMIT}; '*' for one word, '>' at the end for one or more"
GROUP = re.compile(rf"[A-Za-z0-9._-]{{1,{limits.GROUP_CHARS_MAX}}}", re.ASCII)
TASK_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{limits.TASK_ID_CHARS_MAX}}}", re.ASCII)
TASK_ID_LIMIT = f"1 to {limits.TASK_ID_CHARS_MAX} of letters, digits, '.', '_', '-', ':'"
SCHEDULE_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{limits.SCHEDULE_ID_CHARS_MAX}}}", re.ASCII)
SCHEDULE_ID_LIMIT = f"1 to {limits.SCHEDULE_ID_CHARS_MAX} of letters, digits, '.', '_', '-'"
LOCK_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{limits.LOCK_ID_CHARS_MAX}}}", re.ASCII)
LOCK_ID_LIMIT = f"1 to {limits.LOCK_ID_CHARS_MAX} of letters, digits, '.', '_', '-', ':'"
WORKER_ID = re.compile(rf"[A-Za-z0-9._:@/-]{{1,{limits.WORKER_ID_CHARS_MAX}}}", re.ASCII)
WORKER_ID_LIMIT = f"1 to {limits.WORKER_ID_CHARS_MAX} of letters, digits, '.', '_', '-', ':', '@', '/'"
MEMBER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):([1-9][0-9]{0,4})", re.ASCII)
PORT_MAX = 65_535
TIME_S_MAX = 253_402_300_799  # the end of the year 9999
UNITS_MS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms"))


def queue_name(name: str, field: str = "name") -> str:
    if not name.startswith(PREFIX) or not QUEUE_ID.fullmatch(name, len(PREFIX)):
        raise InvalidField(field, f"{PREFIX} and {QUEUE_ID_LIMIT}")
    return name


def queue_id(text: str) -> str:
    if not QUEUE_ID.fullmatch(text):
        raise InvalidField("queue_id", QUEUE_ID_LIMIT)
    return text


def topic(name: str, field: str) -> str:
    """The topic that `topics/{topic}` names."""
    if not name.startswith(TOPICS) or not TOPIC.fullmatch(name, len(TOPICS)) or _long(name, TOPICS):
        raise InvalidField(field, f"{TOPICS} and {TOPIC_LIMIT}")
    return name[len(TOPICS) :]


def pattern(text: str, field: str) -> str:
    """What a queue binds."""
    if not PATTERN.fullmatch(text) or _long(text):
        raise InvalidField(field, PATTERN_LIMIT)
    return text


def _long(name: str, prefix: str = "") -> bool:
    return len(name) - len(prefix) > limits.TOPIC_BYTES_MAX


def task_name(name: str, field: str = "name") -> str:
    if not name.startswith(TASKS) or not TASK_ID.fullmatch(name, len(TASKS)):
        raise InvalidField(field, f"{TASKS} and {TASK_ID_LIMIT}")
    return name


def workflow_name(name: str, field: str = "name") -> str:
    if not name.startswith(WORKFLOWS) or not TASK_ID.fullmatch(name, len(WORKFLOWS)):
        raise InvalidField(field, f"{WORKFLOWS} and {TASK_ID_LIMIT}")
    return name


def schedule_name(name: str, field: str = "name") -> str:
    if not name.startswith(SCHEDULES) or not SCHEDULE_ID.fullmatch(name, len(SCHEDULES)):
        raise InvalidField(field, f"{SCHEDULES} and {SCHEDULE_ID_LIMIT}")
    return name


def schedule_id(text: str) -> str:
    if not SCHEDULE_ID.fullmatch(text):
        raise InvalidField("schedule_id", SCHEDULE_ID_LIMIT)
    return text


def lock_name(name: str, field: str = "name") -> str:
    if not name.startswith(LOCKS) or not LOCK_ID.fullmatch(name, len(LOCKS)):
        raise InvalidField(field, f"{LOCKS} and {LOCK_ID_LIMIT}")
    return name


def worker_id(text: str, field: str = "worker_id") -> str:
    if not WORKER_ID.fullmatch(text):
        raise InvalidField(field, WORKER_ID_LIMIT)
    return text


def group(name: str, field: str = "group") -> str:
    if not GROUP.fullmatch(name):
        raise InvalidField(field, f"1 to {limits.GROUP_CHARS_MAX} of letters, digits, '.', '_', '-'")
    return name


def position(given: queue_pb2.Position, field: str = "position") -> queue_pb2.Position:
    if given.HasField("time"):
        timestamp_ms(given.time, f"{field}.time")
    return given


def text(value: str, field: str, chars_max: int, chars_min: int = 0) -> str:
    if not chars_min <= len(value) <= chars_max:
        raise InvalidField(field, f"{chars_min} to {chars_max} characters")
    return value


def request_id(value: str) -> str:
    return text(value, "request_id", limits.REQUEST_ID_CHARS_MAX)


def duration_ms(value: Duration, field: str, low_ms: int, high_ms: int) -> int:
    """Whole milliseconds, rounded up so that a short wait does not become none."""
    length_ms = value.seconds * 1000 + -(-value.nanos // 1_000_000)
    if not low_ms <= length_ms <= high_ms or not -999_999_999 <= value.nanos <= 999_999_999:
        raise InvalidField(field, f"{shown(low_ms)} to {shown(high_ms)}")
    return length_ms


def timestamp_ms(value: Timestamp, field: str) -> int:
    """Milliseconds since 1970."""
    if not 0 <= value.seconds <= TIME_S_MAX or not 0 <= value.nanos <= 999_999_999:
        raise InvalidField(field, "a time from 1970 to 9999")
    return value.seconds * 1000 + value.nanos // 1_000_000


def labels(given: Mapping[str, str], field: str, labels_max: int = limits.LABELS_MAX) -> None:
    if len(given) > labels_max:
        raise InvalidField(field, f"at most {labels_max} labels")
    for key in given:  # quicker than items() of a protobuf map
        value = given[key]
        if not 1 <= len(key.encode()) <= limits.LABEL_KEY_BYTES_MAX:
            raise InvalidField(field, f"labels with keys of 1 to {limits.LABEL_KEY_BYTES_MAX} bytes")
        if len(value.encode()) > limits.LABEL_VALUE_BYTES_MAX:
            limit = f"at most {limits.LABEL_VALUE_BYTES_MAX} bytes"
            raise InvalidField(f"{field}[{quoted(key)}]", limit)


def quoted(key: str) -> str:
    """A map's key as part of the name of a field."""
    return json.dumps(key, ensure_ascii=False)


def shown(length_ms: int) -> str:
    """`12 h`, `1 s`, `1500 ms`: in the largest unit that divides it."""
    if not length_ms:
        return "0"
    size, unit = next(each for each in UNITS_MS if length_ms % each[0] == 0)
    return f"{length_ms // size} {unit}"


def ranges(
    given: Sequence[queue_pb2.SequenceRange],
    field: str = "ranges",
    *,
    ranges_min: int = 1,
    ranges_max: int = limits.RANGES_MAX,
) -> list[Range]:
    """The same sequences in the fewest ranges."""
    if not ranges_min <= len(given) <= ranges_max:
        raise InvalidField(field, f"{ranges_min} to {ranges_max} ranges")
    pairs = [(each.first, each.last) for each in given]
    for first, last in pairs:
        if not 1 <= first <= last <= limits.SEQUENCE_MAX:
            raise InvalidField(field, f"ranges of sequences from 1 to {limits.SEQUENCE_MAX}, first <= last")
    return merged(pairs)


def held(given: Sequence[queue_pb2.SequenceRange]) -> list[Range]:
    """What a consumer may claim."""
    claimed = ranges(given, "start.held", ranges_min=0, ranges_max=limits.HELD_RANGES_MAX)
    if sum(last - first + 1 for first, last in claimed) > limits.HELD_MESSAGES_MAX:
        raise InvalidField("start.held", f"at most {limits.HELD_MESSAGES_MAX} messages")
    return claimed


def credit(given: queue_pb2.Credit) -> tuple[int, int]:
    """(messages, bytes) to add."""
    if not 0 <= given.messages <= limits.CREDIT_MESSAGES_MAX:
        raise InvalidCredit("credit.messages", f"0 to {limits.CREDIT_MESSAGES_MAX}")
    if not 0 <= given.bytes <= limits.CREDIT_BYTES_MAX:
        raise InvalidCredit("credit.bytes", f"0 to {limits.CREDIT_BYTES_MAX}")
    return given.messages, given.bytes


def headers(
    given: Mapping[str, str], field: str, value_bytes_max: int = limits.MESSAGE_BYTES_MAX
) -> dict[str, str]:
    """Those that a message must have."""
    if len(given) > limits.FILTER_HEADERS_MAX:
        raise InvalidField(field, f"at most {limits.FILTER_HEADERS_MAX} headers")
    for key in given:
        header_key(key, field)
        if len(given[key].encode()) > value_bytes_max:
            raise InvalidField(f"{field}[{quoted(key)}]", f"at most {value_bytes_max} bytes")
    return dict(given)


def header_key(key: str, field: str) -> None:
    if not 1 <= len(key.encode()) <= limits.HEADER_KEY_BYTES_MAX:
        raise InvalidField(field, f"keys of 1 to {limits.HEADER_KEY_BYTES_MAX} bytes")


def message_key(key: str, field: str) -> str:
    if len(key.encode()) > limits.MESSAGE_KEY_BYTES_MAX:
        raise InvalidField(field, f"at most {limits.MESSAGE_KEY_BYTES_MAX} bytes")
    return key


def page_size(given: int) -> int:
    if given < 0:
        raise InvalidField("page_size", "0 or more")
    return min(given or limits.PAGE_SIZE_DEFAULT, limits.PAGE_SIZE_MAX)


def member_id(value: str, field: str) -> str:
    if not MEMBER_ID.fullmatch(value):
        raise InvalidField(field, "1 to 64 of letters, digits, '.', '_', '-'")
    return value


def address(value: str, field: str) -> str:
    found = ADDRESS.fullmatch(value)
    if not found or int(found[2]) > PORT_MAX:
        raise InvalidField(field, "host:port")
    return value
