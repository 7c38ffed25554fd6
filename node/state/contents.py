"""The wide parts of tasks: what was submitted, results, checkpoints. Read in bulk, written at the end of a batch."""

import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from node import limits
from node.state.store import Store
from node.state.task_rows import TaskRow

SHORT_RESULT_BYTES: Final = 64
SHORT_SPEC_BYTES: Final = 256
_OVERHEAD_BYTES: Final = 200  # of one spec in the cache, beside its content


class Contents:
    """Specs, results and checkpoints by task number. The specs used last are kept, up to `TASK_CACHE_BYTES_MAX`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recent: OrderedDict[int, bytes] = OrderedDict()  # least recently used first
        self._recent_bytes = 0
        self._short: dict[
            int, bytes
        ] = {}  # specs that will be written with the row; none of these four is written yet
        self._specs: dict[int, bytes] = {}
        self._results: dict[int, bytes | None] = {}
        self._checkpoints: dict[int, bytes | None] = {}

    # Reading ------------------------------------------------------------------------------------------------------

    def specs(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Encoded taskraft.v1.Task, input fields only."""
        found = {number: spec for number in numbers if (spec := self._recent.get(number)) is not None}
        missing = [number for number in numbers if number not in found]
        if missing:
            found.update((number, self._specs[number]) for number in missing if number in self._specs)
            apart = dict(self._select("spec", "task_specs", [n for n in missing if n not in found]))
            found.update(apart)  # before those in rows, which are older if there are both
            found.update((n, self._short[n]) for n in missing if n not in found and n in self._short)
            written = dict(self._select("spec", "tasks", [n for n in missing if n not in found]))
            found.update(written)
            for number, spec in (apart | written).items():
                self._keep(number, spec)
        return found

    def results(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """Encoded taskraft.v1.TaskResult of those whose results are stored apart."""
        return self._stored("result", "task_results", numbers, self._results)

    def checkpoints(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """The checkpoints of those that have one."""
        return self._stored("checkpoint", "task_checkpoints", numbers, self._checkpoints)

    def _stored(
        self, column: str, table: str, numbers: Sequence[int], unwritten: dict[int, bytes | None]
    ) -> dict[int, bytes]:
        asked = [number for number in numbers if number not in unwritten]
        found = dict(self._select(column, table, asked)) if asked else {}
        found.update((n, content) for n in numbers if (content := unwritten.get(n)) is not None)
        return found

    def _select(self, column: str, table: str, numbers: Sequence[int]) -> Iterable[tuple[int, bytes]]:
        if not numbers:
            return ()
        rows: Iterable[tuple[int, bytes]] = self._store.execute(
            f"SELECT number, {column} FROM {table} WHERE number IN (SELECT value FROM json_each(?))",
            (json.dumps(numbers),),
        )
        return rows

    # Writing ------------------------------------------------------------------------------------------------------

    def add_spec(self, number: int, spec: bytes) -> None:
        """A task is new."""
        if len(spec) <= SHORT_SPEC_BYTES:
            self._short[number] = spec
        else:
            self._specs[number] = spec
        self._keep(number, spec)

    def put_spec(self, number: int, spec: bytes) -> None:
        """A task is another one now."""
        self._specs[number] = spec
        self._keep(number, spec)

    def take_short(self, number: int) -> bytes | None:
        """The spec of a new task whose row is being written, if it is to stand there."""
        return self._short.pop(number, None)

    def put_result(self, row: TaskRow, result: bytes) -> None:
        """It succeeded with that; a short one stands in the row."""
        if len(result) <= SHORT_RESULT_BYTES:
            row.result = result
        else:
            row.has_result = True
            self._results[row.number] = result

    def put_checkpoint(self, row: TaskRow, checkpoint: bytes) -> None:
        """The next attempt goes on from that."""
        row.has_checkpoint = True
        self._checkpoints[row.number] = checkpoint

    def drop_outcome(self, row: TaskRow) -> None:
        """It has no result and no checkpoint any more."""
        row.result = b""
        if row.has_result:
            row.has_result = False
            self._results[row.number] = None
        self.drop_checkpoint(row)

    def drop_checkpoint(self, row: TaskRow) -> None:
        """The next attempt begins anew, or there is none."""
        if row.has_checkpoint:
            row.has_checkpoint = False
            self._checkpoints[row.number] = None

    def delete(self, numbers: Collection[int], listed: str) -> None:
        """These tasks, `listed` as JSON, too, are forgotten."""
        self.write_back()
        for table in ("task_specs", "task_results", "task_checkpoints"):
            self._store.execute(
                f"DELETE FROM {table} WHERE number IN (SELECT value FROM json_each(?))", (listed,)
            )
        for number in numbers:
            if spec := self._recent.pop(number, None):
                self._recent_bytes -= len(spec) + _OVERHEAD_BYTES
            self._short.pop(number, None)

    def write_back(self) -> None:
        """Write what has changed."""
        execute_many = self._store.connection.executemany
        if self._specs:
            execute_many("INSERT OR REPLACE INTO task_specs VALUES (?, ?)", [*self._specs.items()])
            self._specs.clear()
        for table, contents in (("task_results", self._results), ("task_checkpoints", self._checkpoints)):
            gone = [(number,) for number, content in contents.items() if content is None]
            new = [(number, content) for number, content in contents.items() if content is not None]
            if gone:
                execute_many(f"DELETE FROM {table} WHERE number = ?", gone)
            if new:
                execute_many(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", new)
            contents.clear()

    def forget(self) -> None:
        """Drop everything that is remembered."""
        for remembered in (self._recent, self._short, self._specs, self._results, self._checkpoints):
            remembered.clear()
        self._recent_bytes = 0

    def _keep(self, number: int, spec: bytes) -> None:
        known = self._recent.pop(number, None)
        if known is not None:
            self._recent_bytes -= len(known) + _OVERHEAD_BYTES
        self._recent[number] = spec
        self._recent_bytes += len(spec) + _OVERHEAD_BYTES
        while self._recent_bytes > limits.TASK_CACHE_BYTES_MAX and len(self._recent) > 1:
            _, oldest = self._recent.popitem(last=False)
            self._recent_bytes -= len(oldest) + _OVERHEAD_BYTES
