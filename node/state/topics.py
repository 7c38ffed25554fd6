"""Topics and the patterns that match them.

Both are words separated by `.`. In a pattern the word `*` stands for any one word, and `>`, as the last, for one or more.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

Value = TypeVar("Value", bound=Hashable)

ANY: Final = "*"
REST: Final = ">"


class _Node(Generic[Value]):
    """What the patterns that begin with the same words go on with."""

    __slots__ = ("here", "next", "rest")

    def __init__(self) -> None:
        self.next: dict[str, _Node[Value]] = {}  # by word
        self.here: set[Value] = set()  # of patterns that end
        self.rest: set[Value] = set()  # of those that end with `>` after this

    def __bool__(self) -> bool:
        return bool(self.next or self.here or self.rest)


class Patterns(Generic[Value]):
    """Patterns with values. What a match costs grows with the words of the topic, and not with patterns that begin otherwise."""

    def __init__(self) -> None:
        self._root: _Node[Value] = _Node()

    def __bool__(self) -> bool:
        return bool(self._root)

    def add(self, pattern: str, value: Value) -> None:
        """The pattern has that value from now on, too."""
        node, words, rest = self._root, *_split(pattern)
        for word in words:
            node = node.next.setdefault(word, _Node())
        (node.rest if rest else node.here).add(value)

    def remove(self, pattern: str, value: Value) -> None:
        """The pattern, which was added with that value, has it no more."""
        words, rest = _split(pattern)
        path = [self._root]
        for word in words:
            path.append(path[-1].next[word])
        (path[-1].rest if rest else path[-1].here).remove(value)
        while words and not path.pop():
            del path[-1].next[words.pop()]

    def match(self, topic: str) -> set[Value]:
        """The values of all patterns that match."""
        found: set[Value] = set()
        reached = [self._root]
        for word in topic.split("."):
            ahead = []
            for node in reached:
                found |= node.rest
                ahead += [node.next[each] for each in (word, ANY) if each in node.next]
            reached = ahead
            if not reached:
                break
        for node in reached:
            found |= node.here
        return found


def _split(pattern: str) -> tuple[list[str], bool]:
    """The words before a `>` at the end, and whether there is one."""
    words = pattern.split(".")
    if words[-1] == REST:
        return words[:-1], True
    return words, False
