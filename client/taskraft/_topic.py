"""A topic: publish to all queues that are bound to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskraft import _outlet
from taskraft._values import OutgoingMessage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from taskraft._connection import Connection
    from taskraft._values import Receipt


class Topic:
    """A topic, such as `orders.eu.created`: its messages go to all queues with a binding that matches, in one commit."""

    name: str

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.name = name

    def __repr__(self) -> str:
        return f"Topic({self.name!r})"

    async def publish(
        self,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        key: str = "",
        priority: int = 0,
        ttl: float | None = None,
        delay: float = 0.0,
        deliver_at: datetime | None = None,
        allow_unroutable: bool = False,
        timeout: float | None = None,
    ) -> Receipt:
        """Store one message in all queues that are bound to the topic, or in none; as `Queue.publish`.

        Unroutable if no queue gets it, unless `allow_unroutable`. The receipt says how many `queues` it went to. Where
        queues are bound with headers, both are said of the messages of concurrent calls that travel together.
        """
        return await _outlet.store(
            self._connection,
            f"topics/{self.name}",
            OutgoingMessage(body, headers or {}, key, priority, ttl, delay, deliver_at),
            timeout,
            allow_unroutable=allow_unroutable,
        )

    async def publish_many(
        self,
        messages: Sequence[bytes | OutgoingMessage],
        *,
        allow_unroutable: bool = False,
        timeout: float | None = None,
    ) -> list[Receipt]:
        """The same of many messages, in order; as `Queue.publish_many`."""
        return await _outlet.store_many(
            self._connection, f"topics/{self.name}", messages, timeout, allow_unroutable=allow_unroutable
        )
