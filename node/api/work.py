"""The Work stream on the leader: frames in and out of a worker's session."""

from __future__ import annotations

import asyncio
import logging

import grpc
from google.protobuf.message import DecodeError

from node.api.forward import Context
from node.api.streams import MOVED, reconnect
from node.api.worker_input import check_hello, check_request
from node.errors import ApiError, Internal, InvalidField, Malformed
from node.leadership import Leadership
from node.tasks.scheduler import Scheduler
from node.tasks.session import Session
from taskraft.v1 import worker_pb2

_log = logging.getLogger(__name__)


class Work:
    """Serves WorkerService.Work."""

    def __init__(self, scheduler: Scheduler, leadership: Leadership) -> None:
        self._scheduler, self._leadership = scheduler, leadership

    async def Work(self, context: Context) -> None:
        """See the contract. The two directions run as two tasks."""
        hello = await _hello(context)
        ready = asyncio.Event()
        session = self._scheduler.desk.connect(hello, ready.set)
        reading = asyncio.create_task(self._read(context, session))
        try:
            await self._write(context, session, ready)
            if isinstance(session.error, MOVED):
                advice = worker_pb2.WorkResponse(reconnect=await reconnect(self._leadership))
                await context.write(advice.SerializeToString())
            if session.error:
                raise session.error
        finally:
            reading.cancel()
            self._scheduler.desk.disconnect(session)
            await asyncio.wait([reading])

    async def _read(self, context: Context, session: Session) -> None:
        """Do what the worker says until it is done; whatever goes wrong ends the session with that error."""
        try:
            while (data := await context.read()) is not grpc.aio.EOF:  # type: ignore[comparison-overlap]
                if session.ended and not session.awaiting:
                    return
                request = worker_pb2.WorkRequest.FromString(data)
                check_request(request)
                self._scheduler.desk.handle(session, request)
        except DecodeError:
            session.end(Malformed())
        except ApiError as error:
            session.end(error)
        except Exception:  # noqa: BLE001  one stream ends, the node goes on
            _log.exception("stream_failed", extra={"fields": {"stream": "Work"}})
            session.end(Internal())
        session.end(None)

    async def _write(self, context: Context, session: Session, ready: asyncio.Event) -> None:
        """Write what there is until the session is over."""
        while True:
            ready.clear()
            frame = session.next_frame(self._scheduler.state)
            if frame is not None:
                await context.write(frame)
            elif session.over:
                return
            else:
                await ready.wait()


async def _hello(context: Context) -> worker_pb2.Hello:
    data = await context.read()
    if data is grpc.aio.EOF:  # type: ignore[comparison-overlap]
        raise InvalidField("hello", "the first request")
    request = worker_pb2.WorkRequest.FromString(data)
    if request.WhichOneof("request") != "hello":
        raise InvalidField("hello", "the first request")
    check_hello(request.hello)
    return request.hello
