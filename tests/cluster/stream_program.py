"""Orders per minute and country, with orders that come late: stream processing as a program of its own.

`python -m tests.cluster.stream_program ADDRESSES` runs until it is ended. Start several: one works, the others wait.
"""

import asyncio
import json
import logging
import sys
from typing import Any

from taskraft import Client
from taskraft.streams import Record, Result, count, stream, tumbling

GROUP = "orders-per-minute"
ORDERS, RESULTS, LATE, BAD = "orders", "orders-per-minute", "late-orders", "bad-orders"


def result_of(found: Result[int]) -> Any:
    """What is published: when the minute begins, the country, how many orders, and whether that replaces a result."""
    assert found.window is not None
    return [found.window.start_ms, found.key, found.value, found.update]


ORDERS_PER_MINUTE = (
    stream(ORDERS, failed_to=BAD)
    .map(Record.json)
    .key_by(lambda order: order["country"])
    .window(
        tumbling("1m"),
        time=lambda order: order["at"],
        out_of_orderness="5s",  # a minute ends when an order is seen that is 5 s after it
        allowed_lateness="30s",  # what comes later than that corrects the result
        late_to=LATE,  # what comes still later is kept for people
    )
    .aggregate(count())
    .to(RESULTS, encode=result_of)
)


def order(country: str, time_ms: int) -> bytes:
    return json.dumps({"country": country, "at": time_ms / 1_000}).encode()


async def main(addresses: str) -> None:
    """Process orders until the process is ended."""
    async with Client(addresses) as client:
        await ORDERS_PER_MINUTE.run(client, group=GROUP)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(main(sys.argv[1]))
