"""The tables of tasks, workflows and schedules.

A task has one narrow row that its transitions change, and up to three wide ones (what was submitted, its result, its
checkpoint) that are written once and read when someone asks; what is short stands in the narrow row. Every index but those of names and queues is of the tasks in
one state, so that a task pays only for the state that it is in. Tasks of a queue that was deleted, and those that waited in
one that was purged, are dead at once and deleted in steps; `graves` says where they lie.
"""

from typing import Final

TASK_SCHEMA: Final = (
    # The fields of TaskRow that an index or a condition needs, under their names, and all others packed into two columns:
    # each column costs every statement some time.
    """
    CREATE TABLE IF NOT EXISTS tasks (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        queue_id INTEGER NOT NULL,
        lane_id INTEGER NOT NULL,
        state INTEGER NOT NULL,
        key INTEGER NOT NULL,
        end_ms INTEGER NOT NULL,
        due_ms INTEGER NOT NULL,
        stamp INTEGER NOT NULL,
        workflow_id INTEGER NOT NULL,
        schedule_id INTEGER NOT NULL,
        children INTEGER NOT NULL,
        terms BLOB NOT NULL,           -- task_rows.pack_terms
        course BLOB NOT NULL,          -- task_rows.pack_course
        spec BLOB                      -- as in task_specs; NULL if it is there, which also counts if both are set
    )""",
    "CREATE UNIQUE INDEX IF NOT EXISTS tasks_by_name ON tasks (name)",
    "CREATE INDEX IF NOT EXISTS tasks_by_queue ON tasks (queue_id)",
    "CREATE INDEX IF NOT EXISTS tasks_ready ON tasks (lane_id, key) WHERE state = 1",
    "CREATE INDEX IF NOT EXISTS tasks_held ON tasks (queue_id) WHERE state IN (2, 3)",
    "CREATE INDEX IF NOT EXISTS tasks_leased ON tasks (number) WHERE state = 4",
    "CREATE INDEX IF NOT EXISTS tasks_due ON tasks (due_ms) WHERE due_ms > 0",
    """
    CREATE INDEX IF NOT EXISTS tasks_ended ON tasks (queue_id, state, end_ms)
        WHERE end_ms > 0 AND children = 0 AND workflow_id = 0""",
    "CREATE INDEX IF NOT EXISTS tasks_dead_lettered ON tasks (queue_id) WHERE state = 10",
    "CREATE INDEX IF NOT EXISTS tasks_by_workflow ON tasks (workflow_id) WHERE workflow_id > 0",
    "CREATE INDEX IF NOT EXISTS tasks_by_schedule ON tasks (schedule_id) WHERE schedule_id > 0 AND state < 6",
    # The encoded taskraft.v1.Task, input fields only.
    "CREATE TABLE IF NOT EXISTS task_specs (number INTEGER PRIMARY KEY, spec BLOB NOT NULL)",
    # The encoded taskraft.v1.TaskResult.
    "CREATE TABLE IF NOT EXISTS task_results (number INTEGER PRIMARY KEY, result BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS task_checkpoints (number INTEGER PRIMARY KEY, checkpoint BLOB NOT NULL)",
    """
    CREATE TABLE IF NOT EXISTS lanes (
        id INTEGER PRIMARY KEY,        -- grows; up to task_queues.retired_lane they take no more tasks
        queue_id INTEGER NOT NULL,
        demand BLOB NOT NULL,          -- taskraft.internal.v1.Demand
        tasks INTEGER NOT NULL,        -- of it that have not ended
        idle_ms INTEGER NOT NULL       -- since when that is none; 0 if there are some
    )""",
    "CREATE INDEX IF NOT EXISTS lanes_by_demand ON lanes (queue_id, demand, id)",
    "CREATE INDEX IF NOT EXISTS lanes_idle ON lanes (idle_ms) WHERE idle_ms > 0",
    """
    CREATE TABLE IF NOT EXISTS task_queues (
        queue_id INTEGER PRIMARY KEY,
        counts BLOB NOT NULL,          -- tasks by state, eleven 64-bit integers
        waiting_bytes INTEGER NOT NULL,
        leased_bytes INTEGER NOT NULL,
        submitted INTEGER NOT NULL,
        forgettable INTEGER NOT NULL,  -- ended tasks that belong to no workflow
        over_ms INTEGER NOT NULL,      -- since when these are too many; 0: they are not
        purged INTEGER NOT NULL,       -- tasks that have waited since this place in the log or longer are dead
        retired_lane INTEGER NOT NULL,
        reordered INTEGER NOT NULL,    -- up to this number waiting tasks are in the new order
        reorder_until INTEGER NOT NULL -- 0: all are
    )""",
    """
    CREATE TABLE IF NOT EXISTS task_sizes (
        queue_id INTEGER NOT NULL,
        type TEXT NOT NULL,            -- empty: all of the queue
        count INTEGER NOT NULL,
        mean_ms REAL NOT NULL,
        deviation_ms REAL NOT NULL,
        time_ms INTEGER NOT NULL,      -- when the last one was learned from
        PRIMARY KEY (queue_id, type)
    ) WITHOUT ROWID""",
    # Numbers up to `swept` were looked at, those up to `until` have to be.
    """
    CREATE TABLE IF NOT EXISTS graves (
        queue_id INTEGER PRIMARY KEY,
        swept INTEGER NOT NULL,
        until INTEGER NOT NULL
    )""",
    """
    CREATE TABLE IF NOT EXISTS edges (
        parent INTEGER NOT NULL,
        child INTEGER NOT NULL,
        place INTEGER NOT NULL,        -- in the dependencies of the child
        condition INTEGER NOT NULL,    -- taskraft.v1.DependencyCondition
        PRIMARY KEY (child, place)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS edges_by_parent ON edges (parent)",
    """
    CREATE TABLE IF NOT EXISTS workflows (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        labels BLOB NOT NULL,          -- taskraft.v1.Workflow with its labels only
        create_ms INTEGER NOT NULL,
        end_ms INTEGER NOT NULL,       -- 0 while it runs
        keep_ms INTEGER NOT NULL,      -- its tasks are remembered at least until then
        cancelled INTEGER NOT NULL,
        tasks INTEGER NOT NULL,        -- not forgotten yet
        counts BLOB NOT NULL           -- tasks by state, eleven 32-bit integers
    )""",
    "CREATE INDEX IF NOT EXISTS workflows_ended ON workflows (keep_ms) WHERE end_ms > 0",
    """
    CREATE TABLE IF NOT EXISTS schedules (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        etag TEXT NOT NULL,
        config BLOB NOT NULL,          -- taskraft.v1.Schedule, settings only
        create_ms INTEGER NOT NULL,
        update_ms INTEGER NOT NULL,
        next_tick_ms INTEGER NOT NULL, -- 0: none
        last_tick_ms INTEGER NOT NULL,
        last_task TEXT NOT NULL,
        fired INTEGER NOT NULL,
        overlapped INTEGER NOT NULL,
        missed INTEGER NOT NULL
    )""",
)
"""Also run on a store that was made before there were tasks."""
