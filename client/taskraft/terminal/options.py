"""Options that commands share, and how their values are written: sizes, durations, headers."""

import math
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from taskraft import _addresses

DEFAULT_ADDRESS = _addresses.DEFAULT_ADDRESS
SIZE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
DURATION_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
HOST_AND_PORT = re.compile(r"(\[[^\[\]]+\]|[^\s:\[\]]+):\d{1,5}")
NUMBER_AND_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_addresses(text: str) -> str:
    """Checks `host:port[,host:port...]`. Raises typer.BadParameter for anything else: gRPC would guess a port."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts or [text]:
        if not HOST_AND_PORT.fullmatch(part):
            raise typer.BadParameter(f"{part!r} is not HOST:PORT")
    return ",".join(parts)


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


Address = Annotated[
    str,
    typer.Option(
        "--address",
        "-a",
        parser=parse_addresses,
        envvar=_addresses.ADDRESS_VARIABLE,
        metavar="HOST:PORT[,...]",
        help="Any node of the cluster, or several.",
        rich_help_panel="Connection",
    ),
]
OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How results are printed.", rich_help_panel="Output")
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=0.1,
        metavar="SECONDS",
        help="How long one call may take, retries and failover included.",
        rich_help_panel="Connection",
    ),
]
QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue's name.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def parse_size(text: str) -> int:
    """Bytes of `1048576`, `64KiB`, `1.5 GB`. Raises typer.BadParameter for anything else."""
    match = NUMBER_AND_UNIT.fullmatch(text.strip())
    if match is None or match[2].upper() not in SIZE_UNITS:
        raise typer.BadParameter(f"{text!r} is not a size; write 1048576, 64KiB or 1.5GB")
    return int(float(match[1]) * SIZE_UNITS[match[2].upper()])


def parse_duration(text: str) -> float:
    """Seconds of `30`, `30s`, `500ms`, `5m`, `12h`, `7d`. Raises typer.BadParameter for anything else."""
    match = NUMBER_AND_UNIT.fullmatch(text.strip())
    if match is None or match[2].lower() not in DURATION_UNITS:
        raise typer.BadParameter(f"{text!r} is not a duration; write 30s, 500ms, 5m, 12h or 7d")
    return float(match[1]) * DURATION_UNITS[match[2].lower()]


def parse_moment(text: str) -> datetime:
    """The time in UTC of `2026-03-01T12:00`, which is local without an offset, or of `5m`: so long from now.

    Raises typer.BadParameter for anything else, and for times that no calendar has.
    """
    return _moment(text, 1)


def parse_past(text: str) -> datetime:
    """As `parse_moment`, but `5m` is so long ago."""
    return _moment(text, -1)


def _moment(text: str, sign: int) -> datetime:
    try:
        if NUMBER_AND_UNIT.fullmatch(text.strip()):
            return datetime.now(UTC) + sign * timedelta(seconds=parse_duration(text))
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is not a time; write 5m or 2026-03-01T12:00+01:00") from None


def parse_quantities(pairs: list[str]) -> dict[str, float]:
    """The numbers of `NAME=NUMBER` arguments. Raises typer.BadParameter if one has no name or no finite number."""
    quantities = {}
    for name, number in parse_headers(pairs).items():
        try:
            quantities[name] = float(number)
        except ValueError:
            quantities[name] = math.nan
        if not math.isfinite(quantities[name]):
            raise typer.BadParameter(f"{name}={number!r} is not NAME=NUMBER")
    return quantities


def parse_headers(pairs: list[str]) -> dict[str, str]:
    """The headers of `KEY=VALUE` arguments. Raises typer.BadParameter if one has no `=` or no key."""
    headers = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE")
        headers[key] = value
    return headers
