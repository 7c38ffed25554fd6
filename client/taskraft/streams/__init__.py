"""Stream processing where the data is: a program of yours reads a stream, and its state and results are in the cluster.

    orders = (
        stream("orders")
        .map(Record.json)
        .key_by(lambda order: order["country"])
        .window(tumbling("1m"), time=lambda order: order["at"], allowed_lateness="30s")
        .aggregate(count())
        .to("orders-per-minute")
    )

What it owes you: each record of the source counts once. What it changes (how far the source was read, accumulators,
results) is one transaction of the cluster; a processor that is killed is replaced by another one of the same group, on
any machine, which goes on from the last transaction. The same records in the same order give the same results.

What you owe it: functions that are pure, accumulators that are JSON, and another group for another topology: stored
state is refused if the source, the windows or the aggregation are not those with which it was written.

Read `_stream.py` (how a topology is written), `_processor.py` (what it does: windows and watermarks), `_runtime.py`.
"""

from taskraft.streams._aggregations import (
    Aggregation,
    collect,
    count,
    max_of,
    mean_of,
    min_of,
    reduce,
    sum_of,
)
from taskraft.streams._plan import Record, Result, Window
from taskraft.streams._stream import Keyed, Results, Stream, Topology, Windowed, stream
from taskraft.streams._windows import Windows, sliding, tumbling
from taskraft.streams.errors import StateMismatch, StateTooLarge, StepFailed, StreamError

__all__ = [
    "Aggregation",
    "Keyed",
    "Record",
    "Result",
    "Results",
    "StateMismatch",
    "StateTooLarge",
    "StepFailed",
    "Stream",
    "StreamError",
    "Topology",
    "Window",
    "Windowed",
    "Windows",
    "collect",
    "count",
    "max_of",
    "mean_of",
    "min_of",
    "reduce",
    "sliding",
    "stream",
    "sum_of",
    "tumbling",
]
