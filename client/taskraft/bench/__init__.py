"""Measures a cluster as its users meet it: through the SDK, acknowledged means durable on a majority.

Each module measures one thing and returns a frozen value: `throughput.py` (publish, e2e), `latency.py` (one
publish at a time beside a bare gRPC echo and a bare fdatasync), `failover.py` (kill -9 to the next acknowledged
publish), `backlog.py` (memory and restart under a backlog), `standard.py` (all of them on a cluster of its own).
`command.py` is the command line, `figures.py` the arithmetic. Tasks are in files of their own: `task_load.py`,
`task_latency.py`, `task_workflow.py`, `task_takeover.py`, with `task_worker.py` at the other end, and `tasks.py` for all.
"""
