"""A process that holds a lock again and again, and writes down when it has it, on a clock that all processes share.

python -m tests.cluster.lock_holder ADDRESSES LOCK TTL_S ROUNDS FILE [HOLD_S]

Lines of FILE, one write each: `want`, `got TOKEN`, `sure TOKEN` every few milliseconds while it is sure to hold the lock,
`gave TOKEN`, `lost TOKEN`, each behind the time in seconds.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from taskraft import Client, errors

PAUSE_S = 0.005


async def hold(addresses: str, name: str, ttl_s: float, rounds: int, file: Path, hold_s: float) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(*words: object) -> None:
        os.write(descriptor, f"{time.monotonic():.6f} {' '.join(map(str, words))}\n".encode())

    async with Client(addresses, timeout=60) as client:
        for _ in range(rounds):
            say("want")
            token = 0
            try:
                async with client.lock(name, ttl=ttl_s, holder_id=file.stem) as lock:
                    token = lock.token
                    say("got", token)
                    until_s = time.monotonic() + hold_s
                    while time.monotonic() < until_s:
                        say("sure", token)
                        await asyncio.sleep(PAUSE_S)
                    say("gave", token)
            except errors.LockLost:
                say("lost", token)
        say("done")
    os.close(descriptor)


if __name__ == "__main__":
    _, addresses_, name_, ttl_, rounds_, file_, *rest = sys.argv
    asyncio.run(
        hold(addresses_, name_, float(ttl_), int(rounds_), Path(file_), float(rest[0]) if rest else 0.05)
    )
