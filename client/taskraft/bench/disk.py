"""What a bare fdatasync costs: the floor under every durable acknowledgement."""

import os
import tempfile
import time
from pathlib import Path

BLOCK_BYTES = 4096


def fdatasync_seconds(directory: Path | None, duration_s: float) -> list[float]:
    """Append 4 KiB and fdatasync, again and again, in a new file in that directory; seconds of each."""
    block = os.urandom(BLOCK_BYTES)
    samples = []
    with tempfile.NamedTemporaryFile(dir=directory, prefix="taskraft-bench-") as file:
        end = time.perf_counter() + duration_s
        while (start := time.perf_counter()) < end:
            os.write(file.fileno(), block)
            os.fdatasync(file.fileno())
            samples.append(time.perf_counter() - start)
    return samples
