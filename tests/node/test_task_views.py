from node import limits
from node.api.task_views import READ_BYTES, READ_ROWS, TASK_BYTES_MAX, fitting, parts
from node.state.task_rows import SUCCEEDED, TaskRow
from taskraft.v1 import task_pb2
from tests.node.task_clients import a_task, after

MIB = limits.MIB


def a_row(number: int, size: int = 100, **fields: bool) -> TaskRow:
    row = TaskRow(number, f"tasks/t{number}", 1, 1, SUCCEEDED, bytes=size)
    for name, value in fields.items():
        setattr(row, name, value)
    return row


def sizes(rows: list[TaskRow], *, with_large: bool = False) -> list[int]:
    return [len(part) for part in parts(rows, with_large=with_large)]


def test_rows_are_read_together_up_to_a_number_and_a_size() -> None:
    assert sizes([a_row(number) for number in range(READ_ROWS + 1)]) == [READ_ROWS, 1]
    assert sizes([a_row(number, MIB) for number in range(6)]) == [READ_BYTES // MIB, 2]
    assert sizes([a_row(1, 9 * MIB), a_row(2)]) == [1, 1]
    assert sizes([]) == []


def test_results_and_checkpoints_count_where_they_are_read() -> None:
    rows = [a_row(number, has_result=True) for number in range(5)]

    assert sizes(rows) == [5]
    assert sizes(rows, with_large=True) == [3, 2]


def test_a_task_that_is_too_large_to_travel_comes_without_its_checkpoint() -> None:
    task = a_task("a", payload=bytes(MIB), dependencies=after(*(f"{place:0120}" for place in range(10_000))))
    task.result.data, task.checkpoint = bytes(MIB), bytes(MIB)
    assert task.ByteSize() > TASK_BYTES_MAX

    fitted = fitting(task)

    assert fitted.ByteSize() <= TASK_BYTES_MAX
    assert (len(fitted.checkpoint), len(fitted.dependencies)) == (0, 10_000)
    assert len(fitted.result.data) == len(fitted.payload) == MIB


def test_a_task_that_is_still_too_large_comes_without_its_dependencies() -> None:
    task = task_pb2.Task(
        payload=bytes(3 * MIB), dependencies=after(*(f"{place:0120}" for place in range(10_000)))
    )

    assert fitting(task) == task_pb2.Task(payload=bytes(3 * MIB))


def test_a_task_that_fits_is_left_as_it_is() -> None:
    task = task_pb2.Task(payload=bytes(MIB), checkpoint=bytes(MIB))

    assert fitting(task).checkpoint
