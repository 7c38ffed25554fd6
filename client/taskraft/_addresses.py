"""Where the nodes of a cluster are, as a user may say it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from taskraft import errors

if TYPE_CHECKING:
    from collections.abc import Iterable

ADDRESS_VARIABLE = "TASKRAFT_ADDRESS"
DEFAULT_ADDRESS = "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003"
"""What `taskraft up` starts: all of it, so that a program can begin while one of the nodes is down."""


def as_addresses(addresses: str | Iterable[str] | None) -> tuple[str, ...]:
    """Addresses one by one; None stands for those of TASKRAFT_ADDRESS, or else for the default. InvalidArgument if
    there is none.
    """
    if addresses is None:
        addresses = os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
    parts = addresses.split(",") if isinstance(addresses, str) else addresses
    out = tuple(address.strip() for address in parts if address.strip())
    if not out:
        raise errors.InvalidArgument("no address of a node was given", metadata={"field": "addresses"})
    return out
