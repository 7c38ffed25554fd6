"""In which order the tasks of a queue start: one module a policy, plain values in, plain values out.

A policy answers two questions. `key` places a task in its lane: it is computed when a task becomes ready, stored, and
the same on every node and in every version. `rank` compares the heads of lanes at the moment of choice, on the leader
only. You owe it: `opened` and `closed` as lanes get and lose waiting tasks, `started` and `settled` as leases begin and
end. It owes you: what the first lines of its module promise, for tasks that every worker can run.

Read `order.py` (what all have in common), then `fifo.py`, `priority.py`, `shortest_job.py`, `round_robin.py`,
`earliest_deadline.py` and `fair_share.py`.
"""

from collections.abc import Callable
from typing import Final

from google.protobuf.duration_pb2 import Duration

from node.policies.earliest_deadline import EarliestDeadline
from node.policies.fair_share import FairShare
from node.policies.fifo import Fifo
from node.policies.order import Facts, Head, Policy, Rank
from node.policies.priority import AGING_MS_DEFAULT, Priority
from node.policies.round_robin import SLICE_MS_DEFAULT, RoundRobin
from node.policies.shortest_job import ShortestJobFirst
from taskraft.v1 import queue_pb2
from taskraft.v1.queue_pb2 import Scheduling

__all__ = ["Facts", "Head", "Policy", "Rank", "policy"]


def _ms(given: bool, duration: Duration, unset_ms: int) -> int:
    return duration.ToMilliseconds() if given else unset_ms


_MAKERS: Final[dict[int, Callable[[Scheduling], Policy]]] = {
    queue_pb2.SCHEDULING_POLICY_UNSPECIFIED: lambda _: Fifo(),
    queue_pb2.SCHEDULING_POLICY_FIFO: lambda _: Fifo(),
    queue_pb2.SCHEDULING_POLICY_PRIORITY: lambda settings: Priority(
        aging_ms=_ms(settings.HasField("aging"), settings.aging, AGING_MS_DEFAULT)
    ),
    queue_pb2.SCHEDULING_POLICY_SHORTEST_JOB_FIRST: lambda _: ShortestJobFirst(),
    queue_pb2.SCHEDULING_POLICY_ROUND_ROBIN: lambda settings: RoundRobin(
        slice_ms=_ms(settings.HasField("time_slice"), settings.time_slice, SLICE_MS_DEFAULT)
    ),
    queue_pb2.SCHEDULING_POLICY_EARLIEST_DEADLINE: lambda _: EarliestDeadline(),
    queue_pb2.SCHEDULING_POLICY_FAIR_SHARE: lambda settings: FairShare(weights=dict(settings.tenant_weights)),
}


def policy(settings: Scheduling) -> Policy:
    """The policy of a queue with these settings, which were validated; what is unset has its default.

    Settings that change need a new policy. It keeps nothing of the old one: the caller tells it of the lanes that have
    waiting tasks and of the leases that run, as a new leader does. If `ordering` differs, keys must be made anew.
    """
    return _MAKERS[settings.policy](settings)
