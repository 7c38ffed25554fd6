"""Passes calls on to the leader byte for byte: deadline, metadata, status and trailers are kept."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from node import limits
from node.errors import DETAILS_KEY, ApiError, CommitUnknown, NoLeader, Trailers

FORWARDED_KEY = "taskraft-forwarded"
HOP_KEYS = ("user-agent", "te", "content-type")
CHANNELS_MAX = 16
MESSAGE_BYTES_MAX = limits.GRPC_BYTES_MAX + limits.COMMAND_OVERHEAD_BYTES_MAX

Context = grpc.aio.ServicerContext[bytes, bytes]

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)


class Passed(Exception):
    """The leader's own answer to a call that failed there."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Trailers) -> None:
        super().__init__(details)
        self.code, self.details, self.trailers = code, details, trailing

    @property
    def reason(self) -> str:
        """The reason of its ErrorInfo; empty if it has none."""
        for key, value in self.trailers:
            if key == DETAILS_KEY and isinstance(value, bytes):
                return _reason(value)
        return ""


class Forwarder:
    """Channels to the other nodes' gRPC ports, made when needed."""

    def __init__(self, node_id: str) -> None:
        self._mark = (FORWARDED_KEY, node_id)
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def unary(self, endpoint: str, path: str, data: bytes, context: Context) -> bytes:
        """Raises Passed, or NoLeader or CommitUnknown if the leader was lost."""
        ask: Any = self._channel(endpoint).unary_unary(path)
        try:
            answer: bytes = await ask(data, metadata=self._metadata(context), timeout=_timeout_s(context))
        except grpc.aio.AioRpcError as error:
            raise lost_or_passed(
                error.code(), error.details() or "", _trailers(error.trailing_metadata())
            ) from None
        return answer

    async def duplex(self, endpoint: str, path: str, context: Context) -> None:
        """Pass both directions on until the leader ends the call. Raises what `unary` raises."""
        call: Any = self._channel(endpoint).stream_stream(path)(
            metadata=self._metadata(context), timeout=_timeout_s(context)
        )
        upwards = asyncio.create_task(_upwards(context, call))
        try:
            await _downwards(call, context)
        finally:
            upwards.cancel()
            call.cancel()
            await asyncio.wait([upwards])

    async def stream(self, endpoint: str, path: str, data: bytes, context: Context) -> None:
        """Pass on what the leader answers to one request until it ends the call. Raises Passed, or NoLeader: whoever
        reads a stream misses what comes, and commits nothing.
        """
        ask: Any = self._channel(endpoint).unary_stream(path)
        call = ask(data, metadata=self._metadata(context), timeout=_timeout_s(context))
        try:
            await _downwards(call, context)
        except CommitUnknown:
            raise NoLeader("the leader was lost") from None
        finally:
            call.cancel()

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        if self._closing:
            await asyncio.wait(self._closing)

    def _channel(self, endpoint: str) -> grpc.aio.Channel:
        channel = self._channels.pop(endpoint, None)
        if channel is None:
            channel = grpc.aio.insecure_channel(endpoint, options=CHANNEL_OPTIONS)
        self._channels[endpoint] = channel
        if len(self._channels) > CHANNELS_MAX:
            oldest = self._channels.pop(next(iter(self._channels)))
            task = asyncio.create_task(oldest.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        return channel

    def _metadata(self, context: Context) -> tuple[tuple[str, str | bytes], ...]:
        kept = [
            (key, value)
            for key, value in context.invocation_metadata() or ()
            if not key.startswith((":", "grpc-")) and key not in HOP_KEYS
        ]
        return (*kept, self._mark)


async def _downwards(call: Any, context: Context) -> None:
    """What the leader says, to the client. Raises what `lost_or_passed` makes of an end that is not OK."""
    try:
        while (data := await call.read()) is not grpc.aio.EOF:
            await context.write(data)
        code = await call.code()
        if code is not grpc.StatusCode.OK:
            raise lost_or_passed(code, await call.details() or "", _trailers(await call.trailing_metadata()))
    except grpc.aio.AioRpcError as error:
        raise lost_or_passed(
            error.code(), error.details() or "", _trailers(error.trailing_metadata())
        ) from None


async def _upwards(context: Context, call: Any) -> None:
    """What the client says, to the leader. That the call is over is for the other direction to tell."""
    try:
        while (data := await context.read()) is not grpc.aio.EOF:  # type: ignore[comparison-overlap]
            await call.write(data)
        await call.done_writing()
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError, grpc.aio.UsageError):
        return


def lost_or_passed(code: grpc.StatusCode, details: str, trailing: Trailers) -> Exception:
    """What a failed call to the leader means: its own answer, or that it could not be reached or was lost."""
    passed = Passed(code, details, trailing)
    if code is not grpc.StatusCode.UNAVAILABLE or passed.reason:
        return passed
    never_sent = "failed to connect" in details.lower()
    lost: ApiError = NoLeader("the leader cannot be reached") if never_sent else CommitUnknown()
    return lost


def _timeout_s(context: Context) -> float | None:
    return context.time_remaining()


def _trailers(metadata: Any) -> Trailers:
    return tuple((key, value) for key, value in metadata or ())


def _reason(details: bytes) -> str:
    try:
        status = status_pb2.Status.FromString(details)
    except DecodeError:
        return ""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
            return str(info.reason)
    return ""
