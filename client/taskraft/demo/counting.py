"""What the consumers do: count the tokens of Python source files."""

import asyncio
import io
import json
import sysconfig
import tokenize
from collections import Counter
from pathlib import Path

from taskraft import Client

SOURCES, COUNTS = "sources", "counts"
PREFETCH_FILES = 16
NOT_STANDARD_LIBRARY = {"site-packages", "dist-packages"}
UNREADABLE = (
    "UNREADABLE"  # counted once for a file that stops being Python somewhere; its tokens before that count
)


def standard_library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def source_files() -> list[Path]:
    """Every .py file of the standard library, its tests included; paths are relative to it."""
    root = standard_library()
    paths = (path.relative_to(root) for path in root.rglob("*.py") if path.is_file())
    return sorted(path for path in paths if not NOT_STANDARD_LIBRARY & set(path.parts))


def count_tokens(source: bytes) -> Counter[str]:
    """How many tokens of each kind: NAME, OP, COMMENT, ..."""
    kinds: Counter[str] = Counter()
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            kinds[tokenize.tok_name[token.type]] += 1
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError):
        kinds[UNREADABLE] += 1
    return kinds


def consumer_process(address: str, name: str) -> None:
    """One consumer, in a process of its own, until it is stopped."""
    asyncio.run(count_sources(address, name))


async def count_sources(address: str, name: str) -> None:
    """Count each file that comes, publish the result, and only then acknowledge the file."""
    async with Client(address) as client:
        results = client.queue(COUNTS)
        async for message in client.queue(SOURCES).consume(prefetch=PREFETCH_FILES, consumer_id=name):
            result = {
                "path": message.headers["path"],
                "sequence": message.sequence,
                "attempt": message.attempt,
                "consumer": name,
                "tokens": count_tokens(message.body),
            }
            await results.publish(json.dumps(result).encode())
            await message.ack()
