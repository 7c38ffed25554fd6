"""Runs the tasks of an app for a cluster: one stream to its leader, threads, a loop and processes for user code.

    worker = Worker(app, threads=4)
    worker.run()

You owe it: functions that may run twice (a worker can die after the work and before its outcome is stored), and code
that lets the interpreter lock go: threads of one process share it, and a C extension that keeps it for longer than a
heartbeat silences the worker. Code that computes belongs into processes.
It owes you: what an outcome says is stored before it is forgotten here, across leaders; what it took and did not begin
goes back when it ends; user code never delays its heartbeats otherwise.

Read `session.py` (the stream), `outbox.py` (what is said on it), `runner.py` (what is held), `pace.py` (how much of it),
then `executors.py` and `processes.py` (where it runs) and `execution.py` (how a function is called).
"""

from taskraft.worker.life import WorkerBroken
from taskraft.worker.loading import LoadError, load_app
from taskraft.worker.worker import Worker

__all__ = ["LoadError", "Worker", "WorkerBroken", "load_app"]
