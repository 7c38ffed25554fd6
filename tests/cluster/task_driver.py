"""Submits tasks and tells what became of them, from the network in which the clients live.

`Driver` starts this module as a program; it reads one question a line, as JSON, and prints one answer a line.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taskraft import SyncClient
from tests.cluster.processes import end, python, start
from tests.cluster.task_app import app, sleep


class Driver:
    """A client in another room."""

    def __init__(self, addresses: str, prefix: Sequence[str], log: Path) -> None:
        self._process = start(
            python("tests.cluster.task_driver", addresses), prefix=prefix, log=log, talk=True
        )

    def submit(self, seconds: float, count: int) -> list[str]:
        """So many tasks that sleep for so long; their ids."""
        ids: list[str] = self._ask("submit", seconds, count)
        return ids

    def histories(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Once all these tasks have succeeded: the reasons of their events."""
        found: dict[str, list[str]] = self._ask("histories", ids)
        return found

    def _ask(self, *question: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the driver has ended"
        return json.loads(answer)

    def close(self) -> None:
        """Ends the program."""
        end(self._process)


def histories(client: SyncClient, ids: Sequence[str]) -> dict[str, list[str]]:
    """Once all these tasks have ended: the reasons of their events."""
    list(client.tasks.wait(ids, timeout=60))
    return {each: [event.reason for event in client.tasks.get(each, full=True).events] for each in ids}


def main() -> None:
    """Answers until its input ends."""
    app.addresses = sys.argv[1]
    with SyncClient(sys.argv[1]) as client:
        for line in sys.stdin:
            what, *arguments = json.loads(line)
            if what == "submit":
                answer: Any = [handle.id for handle in sleep.map([arguments[0]] * arguments[1])]
            else:
                answer = histories(client, *arguments)
            print(json.dumps(answer), flush=True)
    app.close()


if __name__ == "__main__":
    main()
