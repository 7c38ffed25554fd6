"""Pages of lists: how much one holds, and the tokens that say where the next one begins."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Generic, TypeVar

from google.protobuf.message import Message

from node import limits
from node.errors import InvalidField

Item = TypeVar("Item", bound=Message)

NUMBER_CHARS_MAX = len(str(limits.SEQUENCE_MAX))
ITEM_OVERHEAD_BYTES = 8  # what stands before an item in its list


class Page(Generic[Item]):
    """As many of the first items as fit a page, and at least one if there is any; the others are not asked for."""

    def __init__(self, items: Iterable[Item], bytes_max: int = limits.PAGE_BYTES_MAX) -> None:
        self.items: list[Item] = []
        size = 0
        for item in items:
            size += item.ByteSize() + ITEM_OVERHEAD_BYTES
            if self.items and size > bytes_max:
                return
            self.items.append(item)

    @property
    def count(self) -> int:
        return len(self.items)


def page_token(position: str) -> str:
    """An opaque token for a position in a list."""
    return base64.urlsafe_b64encode(position.encode()).decode()


def read_page_token(token: str) -> str:
    """The position that `page_token` was made of. Raises InvalidField."""
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise bad_token() from None


def read_number(position: str) -> int:
    """The number that a position says; 0 for the beginning. Raises InvalidField."""
    if not position:
        return 0
    if position.isascii() and position.isdecimal() and len(position) <= NUMBER_CHARS_MAX:
        number = int(position)
        if number <= limits.SEQUENCE_MAX:
            return number
    raise bad_token()


def bad_token() -> InvalidField:
    return InvalidField("page_token", "the next_page_token of an earlier page")
