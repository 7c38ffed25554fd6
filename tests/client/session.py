"""A Consume stream of the brokers of the tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from taskraft.v1 import queue_pb2
from tests.client.store import QueueState, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.client.broker import Node


class Session:
    """One Consume stream."""

    def __init__(self, node: Node, state: QueueState, context: Any, holder: str) -> None:
        self._node = node
        self._state = state
        self._context = context
        self._holder = holder
        self._credit = 0
        self._granted = asyncio.Event()
        self._writing = asyncio.Lock()

    async def _write(self, response: queue_pb2.ConsumeResponse) -> None:
        async with self._writing:
            await self._context.write(response)

    async def run(self, start: Any, requests: AsyncIterator[Any], deposed: asyncio.Event) -> None:
        held = self._state.claim(self._holder, start.held)
        started = queue_pb2.ConsumeStarted(session_id=self._holder, held=held, term=self._node.broker.term)
        await self._write(queue_pb2.ConsumeResponse(started=started))
        parts = [self._listen(requests), self._deliver(), deposed.wait()]
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if deposed.is_set():
                await self._node.abort(self._context, self._node.not_leader())
            if tasks[1].done():
                tasks[1].result()
        finally:
            for task in tasks:
                task.cancel()
            self._state.release(self._holder)

    async def _listen(self, requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            await self._node.thawed.wait()
            match request.WhichOneof("request"):
                case "credit":
                    self._credit += request.credit.messages
                    self._granted.set()
                case "ack":
                    done, lost = self._state.settle(self._holder, request.ack.ranges, gone=True)
                    self._node.broker.acks += 1
                    await self._node.broker.answers.wait()
                    if done:
                        acked = queue_pb2.ConsumeAcked(ranges=done)
                        await self._write(queue_pb2.ConsumeResponse(acked=acked))
                    await self._lost(lost)
                case "nack":
                    nack = request.nack
                    settled = self._state.settle(
                        self._holder, nack.ranges, gone=False, dead_letter=nack.dead_letter
                    )
                    await self._lost(settled[1])

    async def _lost(self, lost: list[queue_pb2.SequenceRange]) -> None:
        if lost:
            response = queue_pb2.ConsumeResponse(lease_lost=queue_pb2.LeaseLost(ranges=lost))
            await self._write(response)

    async def _deliver(self) -> None:
        store, state = self._node.broker.store, self._state
        while True:
            await self._node.thawed.wait()
            changed = state.changed
            if store.queues.get(state.queue.name) is not state:
                await self._node.abort(self._context, Refused(grpc.StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND"))
            deliveries = state.lease(self._holder, self._credit) if self._credit > 0 else []
            for delivery in deliveries:
                self._credit -= len(delivery.messages)
                await self._write(queue_pb2.ConsumeResponse(delivery=delivery))
            if self._credit <= 0:
                self._granted.clear()
                await self._granted.wait()
            elif not deliveries:
                await changed.wait()
