"""A window shows the head of a lane of any length, and forgets nothing that it does not show."""

import random
from bisect import bisect_right, insort

from hypothesis import given
from hypothesis import strategies as st

from node.state.task_rows import ReadyTask
from node.tasks.window import WINDOW, Window


class Shelf:
    """A lane in memory. `looks` counts how often tasks were fetched, `fetched` how many."""

    def __init__(self) -> None:
        self.tasks: list[ReadyTask] = []
        self.looks = self.fetched = 0

    def ready(self, lane_id: int, after: tuple[int, int] | None, limit: int) -> list[ReadyTask]:
        at = 0 if after is None else bisect_right([(task.key, task.number) for task in self.tasks], after)
        found = self.tasks[at : at + limit]
        self.looks += 1
        self.fetched += len(found)
        return found

    def add(self, task: ReadyTask) -> None:
        insort(self.tasks, task)

    def remove(self, number: int) -> None:
        self.tasks = [task for task in self.tasks if task.number != number]


def task(key: int, number: int) -> ReadyTask:
    return ReadyTask(key, number, size_ms=1, priority=0, order_ms=key, deadline_ms=0, bytes=10)


def drained(window: Window, shelf: Shelf) -> list[int]:
    taken = []
    while window.head() is not None:
        taken.append(window.take().number)
        shelf.remove(taken[-1])
    return taken


def test_tasks_come_in_the_order_of_their_keys_and_then_of_their_numbers() -> None:
    shelf = Shelf()
    for one in (task(5, 1), task(3, 2), task(5, 3), task(1, 4)):
        shelf.add(one)

    assert drained(Window(shelf, 1, first=2), shelf) == [4, 2, 1, 3]


def test_a_long_lane_is_fetched_in_pieces_and_each_task_once() -> None:
    shelf = Shelf()
    for number in range(1, 5 * WINDOW):
        shelf.add(task(number, number))
    window = Window(shelf, 1, first=16)

    assert window.head() is not None
    assert shelf.fetched == 16
    assert drained(window, shelf) == list(range(1, 5 * WINDOW))


def test_what_comes_in_masses_is_not_all_remembered_and_not_lost() -> None:
    shelf = Shelf()
    window = Window(shelf, 1, first=16)
    assert window.head() is None
    for number in range(1, 5 * WINDOW):
        shelf.add(task(number, number))
        window.add([task(number, number)])

    assert len(window) <= 2 * WINDOW
    assert drained(window, shelf) == list(range(1, 5 * WINDOW))


def test_a_task_that_comes_back_to_the_front_is_next() -> None:
    shelf = Shelf()
    for number in range(1, 4 * WINDOW):
        shelf.add(task(number, number))
    window = Window(shelf, 1, first=WINDOW)
    window.head()
    first = window.take()

    window.add([first])

    assert window.head() == first


@given(st.integers(0, 1 << 32), st.integers(1, 40))
def test_whatever_happens_the_head_is_the_least_waiting_task(seed: int, first: int) -> None:
    dice = random.Random(seed)
    shelf, numbers = Shelf(), iter(range(1, 10_000))
    for _ in range(dice.randrange(100)):
        shelf.add(task(dice.randrange(50), next(numbers)))
    window = Window(shelf, 1, first=first)
    for _ in range(120):
        match dice.randrange(4):
            case 0:
                one = task(dice.randrange(50), next(numbers))
                shelf.add(one)
                window.add([one])
            case 1 if shelf.tasks:
                gone = dice.choice(shelf.tasks).number
                shelf.remove(gone)
                window.remove(gone)
            case 2 if shelf.tasks:  # put in another order
                moved = dice.choice(shelf.tasks)
                shelf.remove(moved.number)
                window.remove(moved.number)
                shelf.add(task(dice.randrange(50), moved.number))
                window.add([one for one in shelf.tasks if one.number == moved.number])
            case _:
                head = window.head()
                assert head == (shelf.tasks[0] if shelf.tasks else None)
                if head is not None:
                    window.take()
                    shelf.remove(head.number)
