"""Where each call is answered, and what it is answered when that fails.

The leader answers itself. Another node passes the call on byte for byte, unless the client said with the metadata
key `taskraft-direct` that it finds the leader itself. While there is no leader, calls wait a moment for one. What
was passed on once is not passed on again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from node import limits
from node.api.forward import FORWARDED_KEY, Context, Forwarder, Passed
from node.errors import ApiError, Internal, Malformed, NoLeader, NotLeader, ShuttingDown, trailers, translate
from node.leadership import POLL_S, Leadership
from node.web.metrics import Metrics

_log = logging.getLogger(__name__)

DIRECT_KEY = "taskraft-direct"


@dataclass(frozen=True, slots=True)
class Unary:
    """A method with one request and one answer. `forwarded`: only the leader can answer it."""

    answer: Callable[[bytes], Awaitable[bytes]]
    forwarded: bool = True


@dataclass(frozen=True, slots=True)
class ServerStream:
    """A method with one request and a stream of answers. `forwarded`: only the leader serves it, not every node."""

    serve: Callable[[bytes, Context], Awaitable[None]]
    forwarded: bool = True


@dataclass(frozen=True, slots=True)
class Duplex:
    """A method with a stream each way, which only the leader serves."""

    serve: Callable[[Context], Awaitable[None]]


Method = Unary | ServerStream | Duplex


class Route:
    """Finds who answers one call. `may_move`: the call may be passed on, also a second time after a NOT_LEADER."""

    def __init__(self, leadership: Leadership, context: Context) -> None:
        keys = {key for key, _ in context.invocation_metadata() or ()}
        self.may_move = not keys & {DIRECT_KEY, FORWARDED_KEY}
        self._leadership = leadership
        wait_ms = limits.LEADER_WAIT_MS if self.may_move else limits.LEADER_WAIT_DIRECT_MS
        self._give_up_s = asyncio.get_running_loop().time() + wait_ms / 1000

    @property
    def left_s(self) -> float:
        return self._give_up_s - asyncio.get_running_loop().time()

    async def find(self) -> str | None:
        """None if this node answers, or else the leader's endpoint. Raises NotLeader, NoLeader."""
        while self._leadership.term is None:
            if endpoint := self._leadership.leader_endpoint:
                if self.may_move:
                    return endpoint
                raise self._leadership.not_leader()
            if self.left_s <= 0:
                raise NoLeader
            await self._leadership.changed(min(self.left_s, POLL_S))
        return None


class Router(grpc.GenericRpcHandler):
    """Serves all our methods, by their full path, without decoding anything."""

    def __init__(
        self, methods: Mapping[str, Method], *, leadership: Leadership, forwarder: Forwarder, metrics: Metrics
    ) -> None:
        self.streams_open = 0
        self._leadership, self._forwarder, self._metrics = leadership, forwarder, metrics
        self._handlers = {path: self._handler(path, method) for path, method in methods.items()}

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._handlers.get(handler_call_details.method)

    def _handler(self, path: str, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        """grpc.aio takes coroutines where the types say functions."""
        behave: Any
        match method:
            case Unary():

                async def unary(data: bytes, context: Context) -> bytes:
                    try:
                        return await self._unary(path, method, data, context)
                    except Exception as error:  # noqa: BLE001  each becomes an answer
                        await self._refuse(path, context, error)

                behave = unary
                return grpc.unary_unary_rpc_method_handler(behave)
            case ServerStream():

                async def stream(data: bytes, context: Context) -> None:
                    await self._stream(path, context, self._one_way(path, method, data, context))

                behave = stream
                return grpc.unary_stream_rpc_method_handler(behave)
            case Duplex():

                async def duplex(_: object, context: Context) -> None:
                    await self._stream(path, context, self._duplex(path, method, context))

                behave = duplex
                return grpc.stream_stream_rpc_method_handler(behave)

    # Where --------------------------------------------------------------------------------------------------------

    async def _unary(self, path: str, method: Unary, data: bytes, context: Context) -> bytes:
        if not method.forwarded:
            return await method.answer(data)
        route = Route(self._leadership, context)
        while True:
            endpoint = await route.find()
            try:
                if endpoint is None:
                    return await method.answer(data)
                return await self._forwarder.unary(endpoint, path, data, context)
            except Exception as error:
                if not _nothing_was_done(error) or not route.may_move or route.left_s <= 0:
                    raise
            await self._leadership.changed(limits.FORWARD_RETRY_MS / 1000)

    async def _duplex(self, path: str, method: Duplex, context: Context) -> None:
        endpoint = await Route(self._leadership, context).find()
        if endpoint is None:
            await method.serve(context)
        else:
            await self._forwarder.duplex(endpoint, path, context)

    async def _one_way(self, path: str, method: ServerStream, data: bytes, context: Context) -> None:
        endpoint = await Route(self._leadership, context).find() if method.forwarded else None
        if endpoint is None:
            await method.serve(data, context)
        else:
            await self._forwarder.stream(endpoint, path, data, context)

    async def _stream(self, path: str, context: Context, work: Awaitable[None]) -> None:
        self.streams_open += 1
        try:
            await work
        except Exception as error:  # noqa: BLE001  each becomes an answer
            await self._refuse(path, context, error)
        finally:
            self.streams_open -= 1

    # What, when it fails ------------------------------------------------------------------------------------------

    async def _refuse(self, path: str, context: Context, error: Exception) -> NoReturn:
        """End a call with an error; a bug is logged and told apart from the client's mistakes."""
        if isinstance(error, Passed):
            await context.abort(error.code, error.details, error.trailers)
        if isinstance(error, grpc.aio.UsageError | grpc.aio.InternalError | asyncio.InvalidStateError):
            raise asyncio.CancelledError from error  # the client went away while we wrote
        answer = self._answer(path, error)
        self._metrics.rejects.labels(answer.name).inc()
        await context.abort(answer.code, answer.message, trailers(answer))

    def _answer(self, path: str, error: Exception) -> ApiError:
        if isinstance(error, DecodeError):
            return Malformed()
        answer = translate(error)
        if isinstance(answer, NotLeader):
            return self._leadership.not_leader()
        if answer is None:
            _log.error("call_failed", extra={"fields": {"method": path}}, exc_info=error)
            return Internal()
        return answer


def _nothing_was_done(error: Exception) -> bool:
    """True if the same call may be made again elsewhere."""
    if isinstance(error, Passed):
        return error.reason in (NotLeader.reason, ShuttingDown.reason)
    return isinstance(translate(error), NotLeader | ShuttingDown)
