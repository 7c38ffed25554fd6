"""A node that hangs while it stops ends all the same, and says where it hung."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HANGING = """
import asyncio
from node import last_resort, logs

async def never_ends():
    await asyncio.Event().wait()

async def main():
    hanging = asyncio.create_task(never_ends(), name="hanging")
    await last_resort.end_after(0.05)

logs.configure("INFO", "n1")
asyncio.run(main())
"""


def test_a_stop_that_hangs_ends_with_an_error_and_names_the_task_that_hung() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    hung = next(line for line in lines if line.get("task") == "hanging")
    assert hung["action"] == "still_waiting"
    assert "never_ends" in hung["stack"]
    assert lines[-1]["action"] == "stop_timed_out"
