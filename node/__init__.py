"""One broker process: an API in front of the replicated log, a state machine behind it, and a dispatcher beside both.

Everything runs on one event loop, which owns all state. A call is checked in `api`, proposed by `broker`, agreed on
by `raft`, applied in `state` on every node, and what comes of it is delivered by `dispatch` on the leader. `raft`
knows nothing of this package, and this package knows nothing of how `raft` agrees.

Read `settings.py` (what a node is told), then `supervisor.py` (what it starts, and in which order it stops).
"""
