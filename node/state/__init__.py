"""The replicated state: queues with their messages or tasks, workflows, schedules, deduplication, and nothing that is not in the log.

    machine = Machine.open(directory, log_body=replica.body, clock_ms=monotonic_ms)

You owe it: call everything but `snapshot` and `Checkpoint.run` from one thread; apply every entry once, in
index order, above `applied`; keep the log above `checkpointed()`, and what `reclaim` has not released. When
`next_due_ms()` has come, propose AdvanceTasks, when `next_queue_due_ms(now)` has, AdvanceQueues, and while
`reordering(queue_id)` ReorderTasks: nothing happens by itself.
It owes you: the same commands give the same results and the same `fingerprint` on every node, whenever it commits
and however often it restarts; a command takes effect wholly or not at all; after a crash the store is the state
of an earlier entry, and the log replays the rest. What one entry costs does not grow with what waits: its memory is bounded,
and its time by what it names.

Machine, for raft: applied, applied_term, members, apply(index, term, payload) -> list[Result], record(index, term, members),
flush(), checkpointed(), snapshot(path) -> SnapshotMeta, install(path, meta), fingerprint().
For the node: listeners, on_fault, outlook(submit), commit_now(), begin_checkpoint() -> Checkpoint, end_checkpoint(checkpoint),
reclaim(segments, log_bytes_max), reclaiming, store_bytes(), close(); of queues and messages all of `QueueQueries`, of consumer
groups all of `GroupQueries`, of tasks all of `TaskQueries`.

Read `machine.py` (what an entry does), `queues.py` and `publish.py` (what commands do), `chunks.py` (messages),
`transactions.py` (several in one), `dedup.py` (repeated calls), then `store.py`, `snapshot.py` and `reclaim.py` (where it lives).
Of what goes its own way: `parts.py` and `arrivals.py` (messages on their way into a queue), `topics.py` and `directory.py` (who
gets them), `dead_letters.py`, `queue_times.py` and `agenda.py` (what time brings).
Of streams: `group_tables.py` (what a group has done), `groups.py` (what commands do to it), `compaction.py` (the last of each key).
Of locks: `lock_rows.py` (what they are), `lock_transitions.py` (who gets one).
Of tasks: `task_rows.py` (what they are), `tasks.py` (how they go from state to state), `submit.py`, `leases.py`, `advance.py`,
`cancel.py` and `retry.py` (what commands do to them), `conclude.py` and `propagation.py` (what follows), `task_tables.py`
and `task_schema.py` (where they live), `graves.py` (how a million of them go at once).
"""
