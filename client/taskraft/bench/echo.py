"""A bare grpc.aio server that answers what it is asked, in a process of its own: the floor under every call."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection

import grpc
import uvloop

METHOD = "/taskraft.bench.Echo/Echo"
START_TIMEOUT_S = 20.0


@asynccontextmanager
async def echo_channel() -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a fresh echo server on this machine, which ends with the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_echo, args=(theirs,), daemon=True)
    process.start()
    try:
        if not await asyncio.to_thread(ours.poll, START_TIMEOUT_S):
            raise TimeoutError("the echo server did not start")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{ours.recv()}") as channel:
            yield channel
    finally:
        process.kill()
        process.join()


def serve_echo(parent: Connection) -> None:
    """The server's process: tells its port, then serves until it is killed."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(parent))


async def _serve(parent: Connection) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((EchoHandler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    parent.send(port)
    await server.wait_for_termination()


class EchoHandler(grpc.GenericRpcHandler):
    """Every method answers its request."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(echo)


async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return request
