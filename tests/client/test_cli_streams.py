"""`taskraft queue read`, `seek` and `delete-group`, with a whole node."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from taskraft import Client
from taskraft.cli.app import app
from taskraft.cli.stream import parse_position
from tests.node.single_node import run, running

if TYPE_CHECKING:
    from pathlib import Path


def test_a_stream_is_read_and_its_groups_are_moved_from_the_command_line(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as node:

            async def call(*arguments: str) -> str:
                words = ["queue", *arguments, "--address", node.address]
                result = await asyncio.to_thread(CliRunner().invoke, app, words)
                assert result.exit_code == 0, result.output
                return result.stdout

            await call("create", "s", "--kind", "stream")
            async with Client(node.address) as client:
                await client.queue("s").publish_many([b"%d" % each for each in range(1, 6)])

            assert await call("read", "s", "--from", "4", "--raw") == "4\n5\n"
            assert await call("read", "s", "--raw", "--count", "2") == "1\n2\n"
            assert json.loads(await call("read", "s", "--from", "5", "--output", "json"))["sequence"] == 5
            assert await call("consume", "s", "--group", "g", "--raw", "--count", "3") == "1\n2\n3\n"
            moved = json.loads(await call("seek", "s", "g", "2", "--output", "json"))
            assert (moved["position"], moved["pending_messages"]) == (2, 4)
            assert "g" in await call("show", "s")
            await call("delete-group", "s", "g", "--yes")
            assert json.loads(await call("show", "s", "--output", "json"))["stats"]["groups"] == []

    run(story())


def test_a_position_is_said_in_a_word() -> None:
    assert [parse_position(text) for text in ("beginning", " end", "17")] == ["beginning", "end", 17]
    ago = parse_position("2h")
    assert isinstance(ago, datetime)
    assert timedelta(hours=2) <= datetime.now(UTC) - ago < timedelta(hours=2, minutes=1)
    with pytest.raises(typer.BadParameter, match="is not a position"):
        parse_position("later")
