"""Stories of a worker and a broker in memory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from taskraft import App
from taskraft.worker import Worker
from tests.client.work_broker import WorkBroker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from taskraft._task import TaskFunction
    from tests.client.work_broker import Row

TIMEOUT_S = 20.0


class Stage:
    """A broker and an app that knows it."""

    def __init__(self, broker: WorkBroker, app: App) -> None:
        self.broker = broker
        self.app = app

    def submit(self, task: TaskFunction[..., Any, Any], *args: Any, **settings: Any) -> Row:
        """Give the broker a task; `settings` are those of `WorkBroker.submit`."""
        payloads = self.app.payloads
        return self.broker.submit(
            task.name, payloads.encode_call(args, {}).payload, payloads.content_type, **settings
        )

    def result(self, row: Row) -> Any:
        """What a task that succeeded returned."""
        result = row.outcomes[-1].result
        return self.app.payloads.decode_result(result.data, result.content_type)

    @asynccontextmanager
    async def worker(self, **settings: Any) -> AsyncIterator[Worker]:
        """A worker that is connected; at the end it stops at once."""
        worker = Worker(self.app, **settings)
        await worker.start()
        try:
            yield worker
        finally:
            await worker.stop()


async def all_ended(*rows: Row) -> None:
    for row in rows:
        await row.ended.wait()


def perform(story: Callable[[Stage], Awaitable[None]], *node_ids: str, app: App | None = None) -> None:
    """Run a story with a broker of these nodes, or one; the first leads."""

    async def stage() -> None:
        broker = WorkBroker()
        await broker.start(*(node_ids or ("n1",)))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await story(Stage(broker, app or App(broker.addresses)))
        finally:
            await broker.close()

    asyncio.run(stage())
