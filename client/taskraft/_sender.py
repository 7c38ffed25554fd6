"""What task functions, workflows and schedules of an app share: how calls are written and where they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskraft import errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from taskraft._client import Client
    from taskraft._link import Link
    from taskraft._payload import Payloads
    from taskraft._scheduling import Scheduling
    from taskraft._submitter import Outcomes


class Sender:
    """Sends the tasks of an app, and creates the queues that they need and that are missing.

    `queues` are the settings of queues by name; a queue that has none there is created with the defaults.
    """

    def __init__(self, link: Link, payloads: Payloads, queues: Mapping[str, Scheduling]) -> None:
        self.link = link
        self.payloads = payloads
        self.queues = queues

    async def create_queues(self, client: Client, names: Iterable[str]) -> None:
        """Create those of these queues that do not exist; those that do stay as they are."""
        for name in dict.fromkeys(names):
            await client.create_queue(name, kind="task", exist_ok=True, **self.queues.get(name, {}))

    async def put(
        self, client: Client, queue: str, ids: Sequence[str], elements: Sequence[bytes]
    ) -> Outcomes:
        """Submit tasks of one queue, together with what others submit at this moment."""
        return await self._with_queues(client, [queue], lambda: client.tasks.submit_elements(ids, elements))

    async def put_workflow(
        self,
        client: Client,
        queues: Iterable[str],
        elements: Sequence[bytes],
        workflow: str,
        labels: Mapping[str, str],
        request_id: str,
    ) -> Outcomes:
        """Submit tasks in one commit, as a workflow; again with the same `request_id`, it answers as the first time."""
        return await self._with_queues(
            client,
            queues,
            lambda: client.tasks.submit_workflow(elements, workflow, labels, request_id=request_id),
        )

    async def _with_queues(
        self, client: Client, queues: Iterable[str], submit: Callable[[], Awaitable[Outcomes]]
    ) -> Outcomes:
        try:
            return await submit()
        except errors.QueueNotFound:
            await self.create_queues(client, queues)
            return await submit()
