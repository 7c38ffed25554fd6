from collections import Counter

from hypothesis import given
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from node.dispatch.keys import Keys


def going(keys: Keys, priority: int = 0) -> list[int]:
    """All that may go now, which goes."""
    found = []
    while (sequence := keys.next(priority)) is not None:
        keys.start(sequence, sequence)
        found.append(sequence)
    return found


def test_one_message_of_a_key_goes_and_others_pass_those_behind_it() -> None:
    keys = Keys(1, hold=False)
    keys.read(0, 1, ["a", "a", "b", "a", "b", "c"])

    assert going(keys) == [1, 3, 6]
    assert keys.parked == 3


def test_the_next_of_a_key_goes_when_the_one_before_is_gone() -> None:
    keys = Keys(1, hold=False)
    keys.read(0, 1, ["a", "a", "a"])
    going(keys)

    keys.gone(1, 1)

    assert going(keys) == [2]


def test_as_many_of_a_key_go_as_the_queue_says() -> None:
    keys = Keys(2, hold=False)
    keys.read(0, 1, ["a", "a", "a", "a"])
    assert going(keys) == [1, 2]

    keys.change(3, hold=False)
    assert going(keys) == [3]

    keys.change(1, hold=False)
    keys.gone(1, 2)
    assert going(keys) == []
    keys.gone(3, 3)
    assert going(keys) == [4]


def test_messages_without_a_key_are_not_ordered() -> None:
    keys = Keys(1, hold=False)
    keys.read(0, 1, ["", "", ""])

    assert going(keys) == [1, 2, 3]


def test_a_message_that_came_back_goes_before_the_later_ones_of_its_key() -> None:
    keys = Keys(1, hold=False)
    keys.read(0, 1, ["a", "a"])
    going(keys)

    keys.back(0, 1, 1)

    assert going(keys) == [1]


def test_a_delay_lets_the_later_ones_of_the_key_go() -> None:
    keys = Keys(1, hold=False)
    keys.read(0, 1, ["a", "a", "a"])
    going(keys)

    keys.delay(0, 1, 1)
    assert going(keys) == [2]

    keys.back(0, 1, 1)
    assert going(keys) == []
    keys.gone(2, 2)
    assert going(keys) == [1]


def test_a_delay_holds_the_later_ones_until_it_is_done_if_the_queue_says_so() -> None:
    keys = Keys(2, hold=True)
    keys.read(0, 1, ["a", "a", "a", "b"])
    assert going(keys) == [1, 2, 4]

    keys.delay(0, 1, 1)
    assert going(keys) == []
    keys.back(0, 1, 1)
    assert going(keys) == [1]
    keys.gone(2, 2)
    assert going(keys) == []

    keys.gone(1, 1)
    assert going(keys) == [3]


def test_what_is_held_goes_on_when_the_queue_does_not_hold_any_more() -> None:
    keys = Keys(1, hold=True)
    keys.read(0, 1, ["a", "a"])
    going(keys)
    keys.delay(0, 1, 1)
    assert going(keys) == []

    keys.change(1, hold=False)

    assert going(keys) == [2]


def test_of_one_key_the_highest_priority_goes_first() -> None:
    keys = Keys(1, hold=False)
    keys.read(0, 1, ["a"])
    keys.read(7, 2, ["a"])

    assert (going(keys, 7), going(keys, 0)) == ([2], [])
    keys.gone(2, 2)
    assert going(keys, 0) == [1]


def test_what_comes_back_from_ahead_is_read_in_its_turn() -> None:
    keys = Keys(1, hold=False)
    keys.claim(9, ["a"])
    keys.read(0, 1, ["a"])
    assert going(keys) == []

    keys.back(0, 9, 9)

    assert 9 not in keys
    assert going(keys) == [1]


def test_nothing_is_remembered_of_what_is_gone() -> None:
    keys = Keys(1, hold=True)
    keys.read(0, 1, ["a", "b", "", "a"])
    going(keys)
    keys.delay(0, 2, 2)

    keys.gone(1, 1_000_000)

    assert (keys.in_flight, keys.parked, keys.waiting(0)) == (0, 0, 0)
    assert not keys._keys
    assert not keys._known


class AnyStory(RuleBasedStateMachine):
    """Whatever happens: at most so many in flight, in the order of each key, nobody waits without a reason."""

    def __init__(self) -> None:
        super().__init__()
        self.per_key, self.hold = 1, False
        self.keys = Keys(1, hold=False)
        self.names: dict[int, str] = {}
        self.priority: dict[int, int] = {}
        self.waiting: set[int] = set()
        self.flying: set[int] = set()
        self.delayed: set[int] = set()
        self.held: set[int] = set()
        self.last = 0

    def place(self, sequence: int) -> tuple[int, int]:
        return -self.priority[sequence], sequence

    def may_go(self, sequence: int) -> bool:
        name = self.names[sequence]
        if not name:
            return True
        same = {each for each in self.names if self.names[each] == name}
        earlier = {each for each in same if self.place(each) < self.place(sequence)}
        room = len(same & self.flying) < self.per_key
        return room and not earlier & self.waiting and not earlier & self.held

    @rule(
        names=some.lists(some.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=5),
        priority=some.integers(0, 2),
    )
    def read(self, names: list[str], priority: int) -> None:
        self.keys.read(priority, self.last + 1, names)
        for name in names:
            self.last += 1
            self.names[self.last], self.priority[self.last] = name, priority
            self.waiting.add(self.last)

    @rule(priority=some.integers(0, 2))
    def go(self, priority: int) -> None:
        sequence = self.keys.next(priority)
        able = {each for each in self.waiting if self.priority[each] == priority and self.may_go(each)}
        assert sequence == min(able, default=None)
        if sequence is not None:
            self.keys.start(sequence, sequence)
            self.waiting.remove(sequence)
            self.flying.add(sequence)

    @precondition(lambda self: self.flying)
    @rule(data=some.data(), how=some.sampled_from(["gone", "back", "delay"]))
    def end(self, data: some.DataObject, how: str) -> None:
        sequence = data.draw(some.sampled_from(sorted(self.flying)))
        self.flying.remove(sequence)
        if how == "gone":
            self.forget(sequence)
        elif how == "back":
            self.keys.back(self.priority[sequence], sequence, sequence)
            self.waiting.add(sequence)
        else:
            self.keys.delay(self.priority[sequence], sequence, sequence)
            self.delayed.add(sequence)
            if self.hold and self.names[sequence]:
                self.held.add(sequence)

    @precondition(lambda self: self.delayed)
    @rule(data=some.data())
    def due(self, data: some.DataObject) -> None:
        sequence = data.draw(some.sampled_from(sorted(self.delayed)))
        self.keys.back(self.priority[sequence], sequence, sequence)
        self.delayed.remove(sequence)
        self.waiting.add(sequence)

    @precondition(lambda self: self.waiting | self.delayed)
    @rule(data=some.data())
    def taken_away(self, data: some.DataObject) -> None:
        self.forget(data.draw(some.sampled_from(sorted(self.waiting | self.delayed))))

    @precondition(lambda self: self.waiting | self.delayed)
    @rule(data=some.data())
    def claimed(self, data: some.DataObject) -> None:
        sequence = data.draw(some.sampled_from(sorted(self.waiting | self.delayed)))
        self.keys.claim(sequence, [self.names[sequence]])
        self.waiting.discard(sequence)
        self.delayed.discard(sequence)
        self.flying.add(sequence)

    @rule(per_key=some.integers(1, 3), hold=some.booleans())
    def change(self, per_key: int, hold: bool) -> None:
        self.keys.change(per_key, hold=hold)
        self.per_key, self.hold = per_key, hold
        if not hold:
            self.held.clear()

    def forget(self, sequence: int) -> None:
        self.keys.gone(sequence, sequence)
        for states in (self.waiting, self.delayed, self.held):
            states.discard(sequence)
        del self.names[sequence], self.priority[sequence]

    @invariant()
    def counts_are_right(self) -> None:
        assert self.keys.in_flight == len(self.flying)
        waiting = Counter(self.priority[sequence] for sequence in self.waiting)
        assert [self.keys.waiting(priority) for priority in range(3)] == [waiting[p] for p in range(3)]
        assert self.keys.parked == len(self.waiting) - sum(map(self.may_go, self.waiting))


TestAnyStory = AnyStory.TestCase


@given(some.lists(some.sampled_from(["", "a", "b", "c"]), max_size=30), some.integers(1, 3))
def test_no_message_is_stuck(names: list[str], per_key: int) -> None:
    keys = Keys(per_key, hold=False)
    keys.read(0, 1, names)
    done: list[int] = []

    while went := going(keys):
        for sequence in went:
            keys.gone(sequence, sequence)
        done += went

    assert sorted(done) == list(range(1, len(names) + 1))
    for name in "abc":
        mine = [sequence for sequence in done if names[sequence - 1] == name]
        assert mine == sorted(mine)
