"""How the text of a setting becomes a value: one kind a type of setting, each with its limit in words.

A kind reads text (`read`), judges a value (`check`) and writes it back (`show`). `read` and `check` raise
ValueError; what was allowed is in `limit`, so that every refusal can name it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from raft.types import Member

UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
PORT_MAX = 65_535
UNSPECIFIED_HOSTS = {"0.0.0.0", "::"}  # noqa: S104  they are recognised here, not bound


class Kind(Protocol):
    """What a setting may be. `read(show(value)) == value` for every value that `check` lets pass."""

    @property
    def metavar(self) -> str:
        """The placeholder in --help."""
        ...

    @property
    def limit(self) -> str:
        """What is allowed, in words that follow "must be"."""
        ...

    def read(self, text: str) -> object:
        """Turn text into a value; ValueError if it is not of this kind at all."""
        ...

    def check(self, value: object) -> None:
        """ValueError if the value is out of its limits."""
        ...

    def show(self, value: object) -> str:
        """Write the value as an operator would."""
        ...


class Text:
    """A piece of text that is its own value."""

    def read(self, text: str) -> object:
        return text

    def show(self, value: object) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Name(Text):
    """An id: of a node or of a cluster."""

    PATTERN: ClassVar[re.Pattern[str]] = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

    metavar: ClassVar[str] = "NAME"
    limit: ClassVar[str] = "1 to 64 letters, digits, '.', '_' or '-', the first one a letter or a digit"

    def check(self, value: object) -> None:
        if not (isinstance(value, str) and self.PATTERN.fullmatch(value)):
            raise ValueError


@dataclass(frozen=True, slots=True)
class Choice(Text):
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def metavar(self) -> str:
        return "|".join(self.words)

    @property
    def limit(self) -> str:
        return f"one of {', '.join(self.words)}"

    def check(self, value: object) -> None:
        if value not in self.words:
            raise ValueError


@dataclass(frozen=True, slots=True)
class Address(Text):
    """host:port; an IPv6 host stands in brackets. With `optional`, empty means: not said."""

    optional: bool = False

    @property
    def metavar(self) -> str:
        return "HOST:PORT"

    @property
    def limit(self) -> str:
        return f"host:port with a port from 1 to {PORT_MAX}{', or empty' if self.optional else ''}"

    def check(self, value: object) -> None:
        assert isinstance(value, str)
        if not (value == "" and self.optional):
            split_address(value)


@dataclass(frozen=True, slots=True)
class Directory:
    """A path, relative to where the node is started."""

    metavar: ClassVar[str] = "DIR"
    limit: ClassVar[str] = "the path of a directory"

    def read(self, text: str) -> object:
        if not text or "\0" in text:
            raise ValueError
        return Path(text)

    def check(self, value: object) -> None:
        if not isinstance(value, Path) or (value.exists() and not value.is_dir()):
            raise ValueError

    def show(self, value: object) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Members:
    """The founding members: ids with the addresses of their peer ports."""

    COUNT_MAX: ClassVar[int] = 9
    metavar: ClassVar[str] = "ID=HOST:PORT,..."
    limit: ClassVar[str] = "id=host:port,... with up to 9 members, no id or address twice"

    def read(self, text: str) -> object:
        pairs = [part.strip().partition("=") for part in text.split(",")] if text.strip() else []
        return tuple(Member(id_, address) for id_, _, address in pairs)

    def check(self, value: object) -> None:
        assert isinstance(value, tuple)
        for member in value:
            Name().check(member.id)
            Address().check(member.address)
        ids, addresses = {member.id for member in value}, {member.address for member in value}
        if not (len(ids) == len(addresses) == len(value) <= self.COUNT_MAX):
            raise ValueError

    def show(self, value: object) -> str:
        assert isinstance(value, tuple)
        return ",".join(f"{member.id}={member.address}" for member in value)


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number of milliseconds, or of anything that is counted."""

    low: int
    high: int
    metavar: str = "MS"

    @property
    def limit(self) -> str:
        return f"a whole number from {self.low} to {self.high}"

    def read(self, text: str) -> object:
        if not re.fullmatch(r"[0-9][0-9_]{0,18}", text.strip(), re.ASCII):
            raise ValueError
        return int(text)

    def check(self, value: object) -> None:
        if type(value) is not int or not self.low <= value <= self.high:
            raise ValueError

    def show(self, value: object) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Bytes:
    """An amount of memory or disk: a number of bytes, or 64KiB, 8MiB, 4GiB."""

    low: int
    high: int
    metavar: ClassVar[str] = "BYTES"

    @property
    def limit(self) -> str:
        return f"from {self.show(self.low)} to {self.show(self.high)}"

    def read(self, text: str) -> object:
        found = re.fullmatch(r"([0-9][0-9_]{0,18}) ?(|KiB|MiB|GiB)", text.strip(), re.ASCII)
        if found is None:
            raise ValueError
        return int(found[1]) * UNITS[found[2]]

    def check(self, value: object) -> None:
        if type(value) is not int or not self.low <= value <= self.high:
            raise ValueError

    def show(self, value: object) -> str:
        assert isinstance(value, int)
        unit = next(unit for unit in reversed(UNITS) if value % UNITS[unit] == 0)
        return "0" if value == 0 else f"{value // UNITS[unit]}{unit}"


def split_address(address: str) -> tuple[str, int]:
    """Split host:port; brackets around an IPv6 host are removed. ValueError if it is no such thing."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not re.fullmatch(r"[1-9][0-9]{0,4}", port, re.ASCII) or int(port) > PORT_MAX:
        raise ValueError(address)
    host = host[1:-1] if bracketed else host
    allowed = r"[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?" if bracketed else r"[A-Za-z0-9._-]+"
    if not re.fullmatch(allowed, host, re.ASCII):
        raise ValueError(address)
    return host, int(port)


def is_unspecified(address: str) -> bool:
    """True if `address` listens on all interfaces: nobody else can reach it under that name."""
    return split_address(address)[0] in UNSPECIFIED_HOSTS
