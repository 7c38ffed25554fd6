"""The inside of a process that runs tasks for a worker, one at a time.

Its main thread runs the tasks; another one reads what the worker says. When the worker is gone, so is the process. It
leaves Ctrl-C and SIGTERM to the worker: whoever signals a group of processes reaches both.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

from taskraft.v1 import worker_pb2
from taskraft.worker import frames
from taskraft.worker.execution import execute
from taskraft.worker.job import REASONS, Job
from taskraft.worker.loading import load_app

if TYPE_CHECKING:
    import socket

    from taskraft._context import Revoked

READ_BYTES = 1 << 16


class Child:
    """Runs what arrives on a socket, until that is closed."""

    def __init__(self, sock: socket.socket, spec: str, addresses: tuple[str, ...]) -> None:
        self._sock = sock
        self._app = load_app(spec)
        self._app.addresses = addresses  # tasks may submit others
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._job: Job | None = None
        self._reasons: dict[int, Revoked] = {}
        self._writing = threading.Lock()

    def run(self) -> None:
        threading.Thread(target=self._read, name="taskraft-read", daemon=True).start()
        self._write(frames.READY)
        while (assignment := self._queue.get()) is not None:
            job = self._job_of(worker_pb2.Assignment.FromString(assignment))
            self._job = job
            job.revoked = self._reasons.pop(job.lease_id, None)  # said before it began
            began_s = time.monotonic()
            outcome = execute(job)
            ran_s = time.monotonic() - began_s
            self._job = None
            self._write(frames.OUTCOME, frames.SECONDS.pack(ran_s), outcome.SerializeToString())

    def _job_of(self, assignment: worker_pb2.Assignment) -> Job:
        task = self._app.tasks[assignment.task.type]
        return Job(assignment, task, self._app.payloads, "process", self._note)

    def _note(self, job: Job) -> None:
        self._write(frames.PROGRESS, job.progress().SerializeToString())

    def _write(self, what: bytes, *parts: bytes) -> None:
        with self._writing:
            self._sock.sendall(frames.frame(what, *parts))

    def _read(self) -> None:
        incoming = frames.Frames()
        while data := self._receive():
            for what, content in incoming.feed(data):
                if what == frames.RUN:
                    self._queue.put(content)
                elif what == frames.REVOKED:
                    self._revoked(*frames.LEASE_AND_REASON.unpack(content))
        if self._job is not None:
            os._exit(0)  # the worker is gone: nobody wants what runs here
        self._queue.put(None)

    def _receive(self) -> bytes:
        try:
            return self._sock.recv(READ_BYTES)
        except OSError:
            return b""

    def _revoked(self, lease_id: int, reason: worker_pb2.RevokeReason) -> None:
        self._reasons[lease_id] = REASONS[reason]
        job = self._job
        if job is not None and job.lease_id == lease_id:
            job.revoked = self._reasons.pop(lease_id, job.revoked)


def main(sock: socket.socket, spec: str, addresses: tuple[str, ...]) -> None:
    """The process's whole life; `spec` names the app as `load_app` takes it, `addresses` are those of the brokers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(ConnectionError):  # the worker is gone
        Child(sock, spec, addresses).run()
