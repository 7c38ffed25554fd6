"""What a node accepts, and how these limits depend on each other.

Every size that a request can have is bounded here; the relations are asserted on import, so that no later change of
one number can make a request that is accepted at the door too large for the log.
"""

from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

# Requests.
GRPC_BYTES_MAX: Final = 4 * MIB  # the default of every gRPC library, kept so that plain stubs work
PUBLISH_BYTES_MAX: Final = 3 * MIB  # the messages of one publish, encoded
PUBLISH_MESSAGES_MAX: Final = 10_000
MESSAGE_BYTES_MAX: Final = 1 * MIB  # body and headers of one message
HEADER_KEY_BYTES_MAX: Final = 128
MESSAGE_KEY_BYTES_MAX: Final = 256
MESSAGE_PRIORITY_MAX: Final = 9
PULL_MESSAGES_MAX: Final = 10_000
DELIVERY_BYTES_MAX: Final = 3 * MIB  # what one delivery or pull holds
PEEK_MESSAGES_DEFAULT: Final = 100
PEEK_MESSAGES_MAX: Final = 1_000
PEEK_LOOKED_MAX: Final = 5_000  # messages looked at by one Peek: it holds the event loop
PEEK_READ_BYTES_MAX: Final = 16 * MIB  # of chunks that are read for it
REDRIVE_MESSAGES_DEFAULT: Final = 1_000
REDRIVE_MESSAGES_MAX: Final = 10_000
REDRIVE_LOOKED_MAX: Final = 100_000  # messages looked at by one Redrive
REDRIVE_READ_BYTES_MAX: Final = 256 * MIB  # of chunks that are read for it, in pauses of which others go on
RANGES_MAX: Final = 1_000  # sequence ranges in one acknowledgement, extension or rejection
PUBLISH_STREAM_UNANSWERED_MAX: Final = 32

# Transactions.
OPERATIONS_MAX: Final = 1_000
TRANSACTION_BYTES_MAX: Final = 3 * MIB
OPERATION_OVERHEAD_BYTES_MAX: Final = 256  # what one takes in the log besides what was asked for

# Names.
QUEUE_ID_CHARS_MAX: Final = 128
GROUP_CHARS_MAX: Final = 64
GROUPS_MAX: Final = 100  # of one stream
REQUEST_ID_CHARS_MAX: Final = 64
PRODUCER_ID_CHARS_MAX: Final = 64
CONSUMER_ID_CHARS_MAX: Final = 64

TOPIC_BYTES_MAX: Final = 256
BINDINGS_MAX: Final = 100  # of one queue
FILTER_HEADERS_MAX: Final = 16  # of one binding, Peek or Redrive
BINDING_VALUE_BYTES_MAX: Final = 256  # of a header of a binding, which every change of the queue writes

# Times.
ACK_DEADLINE_MS_MIN: Final = 1_000
ACK_DEADLINE_MS_MAX: Final = 12 * 3_600_000
ACK_DEADLINE_MS_DEFAULT: Final = 30_000
REJECT_DELAY_MS_MAX: Final = 12 * 3_600_000
PULL_WAIT_MS_MAX: Final = 60_000
TTL_MS_MIN: Final = 1
TTL_MS_MAX: Final = 366 * 24 * 3_600_000
DELAY_MS_MAX: Final = 366 * 24 * 3_600_000  # until a message comes into its queue
MAX_AGE_MS_MIN: Final = 1_000
MAX_AGE_MS_MAX: Final = 366 * 24 * 3_600_000

# Delivery of a queue.
DELIVERY_ATTEMPTS_MAX: Final = 1_000
KEY_IN_FLIGHT_MAX: Final = 1_000

# Tasks.
SUBMIT_BYTES_MAX: Final = 3 * MIB  # one request of SubmitTasks
SUBMIT_TASKS_MAX: Final = 10_000
TASK_ID_CHARS_MAX: Final = 128
TASK_NAME_BYTES_MADE: Final = 40  # at most, where the server makes a task's name
SCHEDULE_ID_CHARS_MAX: Final = 100
TASK_TYPE_CHARS_MAX: Final = 128
PAYLOAD_BYTES_MAX: Final = 1 * MIB
CONTENT_TYPE_CHARS_MAX: Final = 64
LABELS_MAX: Final = 32
LABEL_KEY_BYTES_MAX: Final = 64
LABEL_VALUE_BYTES_MAX: Final = 256
PRIORITY_MAX: Final = 1_000  # and the least is its opposite
RESOURCES_MAX: Final = 16
WORKER_LABELS_MAX: Final = 16
DEPENDENCIES_MAX: Final = 10_000  # of one task
TENANT_CHARS_MAX: Final = 128
LIMIT_KEY_CHARS_MAX: Final = 128
SIZE_MS_MAX: Final = 366 * 24 * 3_600_000
LEASE_MS_MIN: Final = 1_000
LEASE_MS_MAX: Final = 12 * 3_600_000
ATTEMPTS_MAX: Final = 1_000
BACKOFF_MS_MIN: Final = 1
BACKOFF_MS_MAX: Final = 24 * 3_600_000
TASK_TIMEOUT_MS_MIN: Final = 1_000
TASK_TIMEOUT_MS_MAX: Final = 30 * 24 * 3_600_000
TASKS_NAMED_MAX: Final = 1_000  # in one CancelTasks or RetryTasks
TASKS_SWEPT_MAX: Final = 2_000  # by one CancelTasks or RetryTasks of a queue
TASKS_WAITED_MAX: Final = 10_000  # in one WaitTask
REASON_CHARS_MAX: Final = 256
PAGE_BYTES_MAX: Final = 3 * MIB  # of one page, whatever is listed
PAGE_ROWS_MAX: Final = 5_000  # looked at for one page, whatever it then shows: it holds the event loop
WATCH_CHANGED_MAX: Final = (
    100_000  # tasks that changed and were not read yet; a watcher that is slower is ended
)
WATCH_BATCH_TASKS: Final = 500  # looked up and written at once

TASK_ROWS_CACHED: Final = 10_000  # of tasks that were looked at last, for the commands that follow
TASK_ROWS_UNWRITTEN: Final = 5_000  # of tasks that the state has and SQL not yet
TASK_CACHE_BYTES_MAX: Final = 16 * MIB  # recent tasks as submitted, for assignments
TASK_TYPES_LEARNED_MAX: Final = 10_000  # per queue: types whose run times are learned
LANE_IDLE_MS: Final = 60_000  # an empty lane is kept so long, for tasks that come again
FORGET_PAUSE_MS: Final = (
    1_000  # tasks that are too many to be remembered wait so long, to be forgotten together
)

# Scheduling of a queue.
AGING_MS_MAX: Final = 30 * 24 * 3_600_000
AGING_MS_DEFAULT: Final = 60_000
SLICE_MS_MIN: Final = 10
SLICE_MS_MAX: Final = 24 * 3_600_000
SLICE_MS_DEFAULT: Final = 1_000
TENANTS_MAX: Final = 10_000
WEIGHT_MAX: Final = 1_000_000.0
RATE_MAX: Final = 1_000_000.0  # starts per second, and starts in a burst
LEASE_MS_DEFAULT: Final = 10_000
ATTEMPTS_DEFAULT: Final = 3
BACKOFF_MS_DEFAULT: Final = 1_000
BACKOFF_LONGEST_MS_MAX: Final = 30 * 24 * 3_600_000
BACKOFF_LONGEST_MS_DEFAULT: Final = 300_000
RETAIN_MS_MAX: Final = 366 * 24 * 3_600_000
RETAIN_SUCCEEDED_MS_DEFAULT: Final = 3_600_000
RETAIN_FAILED_MS_DEFAULT: Final = 7 * 24 * 3_600_000
ENDED_MAX: Final = 10_000_000
ENDED_DEFAULT: Final = 100_000

# Schedules.
INTERVAL_MS_MIN: Final = 1_000
INTERVAL_MS_MAX: Final = 366 * 24 * 3_600_000
MISSED_WINDOW_MS_DEFAULT: Final = 3_600_000
MISSED_WINDOW_MS_MAX: Final = 30 * 24 * 3_600_000
MISSED_AFTER_MS: Final = 10_000  # a tick that is less late is never missed
MISSED_FIRED_MAX: Final = 1_000  # of the ticks of one outage
JITTER_MS_MAX: Final = 3_600_000
CRON_CHARS_MAX: Final = 256
TIME_ZONE_CHARS_MAX: Final = 64
NEXT_TICKS_SHOWN: Final = 5

# Locks.
LOCK_ID_CHARS_MAX: Final = 128
LOCK_HOLDER_ID_CHARS_MAX: Final = 128
LOCK_PERMITS_MAX: Final = 10_000
LOCK_WAITERS_MAX: Final = 3_000  # of one lock: when it becomes free all of them may get it in one command
LOCK_TTL_MS_MIN: Final = 1_000
LOCK_TTL_MS_MAX: Final = 3_600_000
LOCK_TTL_MS_DEFAULT: Final = 10_000
LOCK_DELAY_MS_MAX: Final = 60_000
LOCK_WAIT_MS_MAX: Final = 24 * 3_600_000
LOCKS_KEPT_MAX: Final = 1_000  # in one request of KeepAliveLock, and claims in one command
LOCK_CLAIMS_SHOWN: Final = 100  # of each kind, by GetLock
LOCK_CLAIMS_LISTED: Final = 10  # of each kind and lock, by ListLocks

assert LOCK_TTL_MS_MIN <= LOCK_TTL_MS_DEFAULT <= LOCK_TTL_MS_MAX

# Flow control.
CREDIT_MESSAGES_MAX: Final = 1_000_000  # in one grant
CREDIT_BYTES_MAX: Final = 1 * GIB  # in one grant
PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1_000

# The log: one entry carries everything that was proposed while the entry before it was in flight.
ENTRY_BYTES_MAX: Final = 4 * MIB
COMMAND_OVERHEAD_BYTES_MAX: Final = 4 * KIB  # names, ids and framing around the messages of one publish
RANGE_BYTES_MAX: Final = 24  # one encoded range of two 64-bit sequences

# Deduplication.
REQUESTS_MAX: Final = 1_000_000
REQUEST_WINDOW_MS: Final = 24 * 3_600_000
PRODUCER_WINDOW_MS: Final = 7 * 24 * 3_600_000
PRODUCER_RESULTS_KEPT: Final = 32

# The store.
COMMIT_INTERVAL_MS: Final = 2_000
COMMIT_COMMANDS: Final = 1_000
COMMIT_BYTES: Final = (
    8 * MIB
)  # of entries: until they are committed they are kept, to be repeated if one fails
STORE_CACHE_BYTES: Final = 8 * MIB  # pages of SQLite
WAL_BYTES_MAX: Final = 64 * MIB  # beyond that a checkpoint waits for a moment without writers
CHUNK_CACHE_BYTES_MAX: Final = 32 * MIB  # recent messages, for delivery
CHUNK_READ_BYTES_MAX: Final = 16 * MIB  # messages that were read from the disk, for their neighbours' sake

# Reclaiming the log.
RECLAIM_LIVE_PERCENT_MAX: Final = 25  # of a segment's bytes: what is worth copying to free it
RECLAIM_STEP_BYTES: Final = 1 * MIB  # copied in one step; the event loop waits that long
RECLAIM_STEP_ROWS: Final = 2_000
SEQUENCE_MAX: Final = (1 << 63) - 1  # SQLite integers are signed

assert MESSAGE_BYTES_MAX < PUBLISH_BYTES_MAX, "the largest message must fit a publish"
assert PUBLISH_BYTES_MAX + COMMAND_OVERHEAD_BYTES_MAX < GRPC_BYTES_MAX, "a full publish must pass gRPC"
assert DELIVERY_BYTES_MAX + COMMAND_OVERHEAD_BYTES_MAX < GRPC_BYTES_MAX, "a full delivery must pass gRPC"
assert MESSAGE_BYTES_MAX < DELIVERY_BYTES_MAX, "the largest message must fit a delivery"
assert PUBLISH_BYTES_MAX + COMMAND_OVERHEAD_BYTES_MAX < ENTRY_BYTES_MAX, "a full publish must fit one entry"
assert RANGES_MAX * RANGE_BYTES_MAX + COMMAND_OVERHEAD_BYTES_MAX < ENTRY_BYTES_MAX, (
    "so must a full acknowledgement"
)
assert QUEUE_ID_CHARS_MAX + REQUEST_ID_CHARS_MAX + PRODUCER_ID_CHARS_MAX < COMMAND_OVERHEAD_BYTES_MAX // 4
assert PEEK_MESSAGES_DEFAULT <= PEEK_MESSAGES_MAX <= PEEK_LOOKED_MAX
assert REDRIVE_MESSAGES_DEFAULT <= REDRIVE_MESSAGES_MAX <= REDRIVE_LOOKED_MAX
assert (
    BINDINGS_MAX
    * (TOPIC_BYTES_MAX + FILTER_HEADERS_MAX * (HEADER_KEY_BYTES_MAX + BINDING_VALUE_BYTES_MAX + 16))
    < ENTRY_BYTES_MAX // 2
), "the settings of a queue must fit one entry"
assert ACK_DEADLINE_MS_MIN <= ACK_DEADLINE_MS_DEFAULT <= ACK_DEADLINE_MS_MAX
assert PAGE_SIZE_DEFAULT <= PAGE_SIZE_MAX
assert PUBLISH_STREAM_UNANSWERED_MAX <= PRODUCER_RESULTS_KEPT, "a retried batch must find its first answer"
assert CHUNK_READ_BYTES_MAX >= 2 * ENTRY_BYTES_MAX, "what one entry gave must be there until it was used"
assert RECLAIM_STEP_BYTES < STORE_CACHE_BYTES, "a step must not spill the cache"

assert PAYLOAD_BYTES_MAX < SUBMIT_BYTES_MAX < GRPC_BYTES_MAX
assert (
    SUBMIT_BYTES_MAX + SUBMIT_TASKS_MAX * TASK_NAME_BYTES_MADE + COMMAND_OVERHEAD_BYTES_MAX < ENTRY_BYTES_MAX
), "a full submit must fit one entry, also if the server names all its tasks"
assert (
    TRANSACTION_BYTES_MAX
    + OPERATIONS_MAX * OPERATION_OVERHEAD_BYTES_MAX
    + SUBMIT_TASKS_MAX * TASK_NAME_BYTES_MADE
    + COMMAND_OVERHEAD_BYTES_MAX
    < ENTRY_BYTES_MAX
), "a full transaction must fit one entry, also if the server names all its tasks"
assert SUBMIT_TASKS_MAX * (TASK_ID_CHARS_MAX + 32) < GRPC_BYTES_MAX, "and its answer must pass gRPC"
assert TASKS_NAMED_MAX * (TASK_ID_CHARS_MAX + 32) + COMMAND_OVERHEAD_BYTES_MAX < ENTRY_BYTES_MAX
assert PAGE_BYTES_MAX + COMMAND_OVERHEAD_BYTES_MAX < GRPC_BYTES_MAX
assert SCHEDULE_ID_CHARS_MAX + len(":253402300799999") < TASK_ID_CHARS_MAX, "a tick's task must have a name"
assert LEASE_MS_MIN <= LEASE_MS_DEFAULT <= LEASE_MS_MAX
assert BACKOFF_MS_MIN <= BACKOFF_MS_DEFAULT <= BACKOFF_LONGEST_MS_DEFAULT <= BACKOFF_LONGEST_MS_MAX

# The broker: how commands become entries.
ENTRIES_IN_FLIGHT_MAX: Final = 2  # one is being replicated while the next one is written
ENTRY_BYTES_SOFT: Final = 1 * MIB  # an entry is closed when it is this large
ENTRY_COMMANDS_SOFT: Final = 256  # and when it has so many commands: applying them holds the event loop
ENTRY_COMMANDS_MAX: Final = (
    4_096  # those of transactions are counted one by one; ids of leases have room for so many
)
MARKED_MESSAGES_A_COMMAND: Final = (
    8  # messages that are looked at one by one take as long as a command, so many together
)
SOURCE_COMMANDS_SOFT: Final = 2_048  # of one entry: what the leader itself has to say goes before all others
LEADER_WAIT_MS: Final = 2_000  # how long a call waits for an election to end
LEADER_WAIT_DIRECT_MS: Final = 300  # the same for a client that finds the leader itself
FORWARD_RETRY_MS: Final = 20  # between two tries to pass a call to a leader that is not sure yet

# Dispatch.
PARCEL_BYTES_SOFT: Final = 512 * KIB  # a delivery on a stream is closed when it is this large
READ_ROUND_BYTES: Final = 1 * MIB  # gathered for the readers of a stream before others have their turn
PARCEL_SPAN_MS: Final = (
    100  # and when what comes next came so much later than the first: it says one time for all
)
PARCEL_CHUNKS_MAX: Final = 256  # and when it has so many chunks: gathering them holds the event loop
SHELF_ROWS: Final = 64  # chunks of a queue looked up at once
CUTS_KEPT: Final = 8  # chunks of a queue whose message positions are remembered
HELD_RANGES_MAX: Final = 100 * RANGES_MAX  # what a consumer may claim when it comes back
HELD_MESSAGES_MAX: Final = CREDIT_MESSAGES_MAX
ANSWER_RANGES_MAX: Final = 10 * RANGES_MAX  # unsent answers to one consumer; beyond them its requests wait
FAILOVER_GRACE_MS: Final = 1_000  # consumers of the last leader may claim what they hold before others get it
KEY_PARKED_MAX: Final = (
    10_000  # messages of a queue and priority that wait for their keys; then no more are read
)
KEYS_READ_MAX: Final = 500  # messages whose keys are read at once, when nothing that is known may go
KEYED_IN_FLIGHT_MAX: Final = 100_000  # messages of a queue with keys that are delivered and not settled
GIVE_UP_AGAIN_MS: Final = 1_000  # until what could not be made a dead letter is tried again

assert ENTRY_BYTES_SOFT < ENTRY_BYTES_MAX
assert SOURCE_COMMANDS_SOFT < ENTRY_COMMANDS_MAX
assert ENTRY_COMMANDS_SOFT + OPERATIONS_MAX < ENTRY_COMMANDS_MAX
assert PARCEL_BYTES_SOFT + MESSAGE_BYTES_MAX + COMMAND_OVERHEAD_BYTES_MAX < DELIVERY_BYTES_MAX
assert ANSWER_RANGES_MAX * RANGE_BYTES_MAX < GRPC_BYTES_MAX
assert HELD_RANGES_MAX * RANGE_BYTES_MAX < GRPC_BYTES_MAX

# Workers.
WORKER_ID_CHARS_MAX: Final = 64
INSTANCE_ID_CHARS_MAX: Final = 64
WORKER_QUEUES_MAX: Final = 100
WORKER_TYPES_MAX: Final = 10_000
SLOTS_MAX: Final = 100_000
HELD_LEASES_MAX: Final = 100_000  # what a worker may claim when it comes back
CREDIT_TASKS_MAX: Final = 100_000  # in one grant
RECEIVED_MAX: Final = 10_000  # leases in one frame
OUTCOMES_MAX: Final = 10_000
PROGRESS_REPORTS_MAX: Final = 1_000
OVERDUE_MAX: Final = 10_000
RESULT_BYTES_MAX: Final = 1 * MIB
CHECKPOINT_BYTES_MAX: Final = 1 * MIB
PARENT_RESULTS_BYTES_MAX: Final = 1 * MIB  # handed over with one assignment
ASSIGN_BYTES_SOFT: Final = 512 * KIB  # an Assign frame is closed when it is this large
ASSIGN_TASKS_MAX: Final = 1_000  # and when it has so many tasks: writing it holds the event loop
LEASED_TASKS_MAX: Final = 4_096  # in one command: the n of a lease id has 12 bits
SETTLED_LEASES_MAX: Final = 1_000  # in one command
PROGRESS_MESSAGE_CHARS_MAX: Final = 256
ERROR_REASON_CHARS_MAX: Final = 128
ERROR_MESSAGE_CHARS_MAX: Final = 1_024
ERROR_DETAIL_CHARS_MAX: Final = 8_192

assert PAYLOAD_BYTES_MAX + CHECKPOINT_BYTES_MAX + PARENT_RESULTS_BYTES_MAX + 64 * KIB < GRPC_BYTES_MAX, (
    "the largest assignment must pass gRPC"
)
assert ASSIGN_BYTES_SOFT < GRPC_BYTES_MAX
assert RESULT_BYTES_MAX + COMMAND_OVERHEAD_BYTES_MAX < ENTRY_BYTES_MAX, (
    "the largest outcome must fit one entry"
)
