"""What tests of the log have in common."""

from raft.records import Entry
from raft.segments import Log


def flush(log: Log) -> None:
    """Write all that is to be written, as the writer thread would."""
    while batch := log.take():
        log.write(batch)
        log.written(batch)


def fill(log: Log, count: int, term: int = 1, size: int = 20) -> None:
    """Append so many entries, whose payloads tell index and term."""
    for index in range(log.last[0] + 1, log.last[0] + 1 + count):
        log.append(index, term, index % 3, b"%d/%d " % (index, term) + b"x" * size)


def held(log: Log) -> list[Entry]:
    """All entries of the log, read one by one."""
    return [log.entry(index) for index in range(log.base[0] + 1, log.last[0] + 1)]
