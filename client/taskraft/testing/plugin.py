"""Fixtures for pytest: `pytest_plugins = ["taskraft.testing.plugin"]` in a conftest.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from taskraft.testing.nodes import node

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def taskraft_node() -> Iterator[str]:
    """The address of a broker that all tests of this run share."""
    with node() as address:
        yield address
