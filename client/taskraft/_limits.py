"""Every number the client relies on, and how they relate."""

MESSAGE_BYTES_MAX = 3 << 20  # one message that could fit no frame is refused before it is sent
FRAME_BYTES_SOFT = 1 << 20  # a frame is sent when it is this large; only a single message may exceed it
FRAME_BYTES_MAX = 3 << 20  # the broker's limit of one batch
FRAME_MESSAGES_MAX = 10_000  # the broker's limit of one batch
FRAMES_IN_FLIGHT = 2  # one is being stored while the next one travels
BUFFER_BYTES = 16 << 20  # what publish() takes before it waits
RECEIVE_BYTES_MAX = 8 << 20

PREFETCH_MESSAGES = 1_000
PREFETCH_BYTES = 32 << 20
PREFETCH_MESSAGES_MAX = (
    500_000  # twice as many may be open or unconfirmed, and all are claimed after a failure
)
HELD_MESSAGES_MAX = 1_000_000  # the broker's limit of one claim
HELD_RANGES_MAX = 100_000  # the same; more ranges are given up
CREDIT_MESSAGES_MAX = 1_000_000  # the broker's limit of one grant
CREDIT_BYTES_MAX = 1 << 30  # the broker's limit of one grant
PEEK_MESSAGES = 1_000  # the broker's limit of one Peek
REDRIVE_MESSAGES = (
    1_000  # of one Redrive; the broker moves up to ten times as many at once, and others wait meanwhile
)
RANGES_MAX = 1_000  # the broker's limit of one acknowledgement

PAYLOAD_BYTES_MAX = 1 << 20  # the broker's limit of a task's payload and of its result
SUBMIT_BYTES_MAX = 3 << 20  # the broker's limit of one SubmitTasks
SUBMIT_HEAD_BYTES = 64 << 10  # of those, for the workflow and its labels
SUBMIT_BYTES_SOFT = 1 << 20  # tasks of several callers travel together up to this size
SUBMIT_TASKS_MAX = 10_000  # the broker's limit of one SubmitTasks
SUBMIT_TASKS_SOFT = 2_000  # the same; so many are stored in one go unless they must be one commit
WAIT_TASKS_MAX = 10_000  # the broker's limit of one WaitTask
NAMES_MAX = 1_000  # the broker's limit of one CancelTasks or RetryTasks

TIMEOUT_S = 30.0
REFRESH_S = 30.0  # between two looks at who the members are
NOBODY_S = (
    5.0  # how long connections may be refused by all before any was made: a wrong address, or no cluster
)
PROBE_S = 0.3  # how long a node may take to say who leads
PROBE_PAUSE_S = 0.02  # between two rounds of asking
SILENCE_S = 1.0  # after so long without an answer, ask whether the leader is still the leader
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.02, 1.0
PRODUCER_IDLE_S = 3_600.0  # far below the 7 days after which the broker forgets a producer
GOODBYE_S = 1.0  # how long the broker may take to end a stream that was closed
EXPLAIN_S = 2.0  # how long a result that did not come in time may take to be explained
CLOSE_S = 5.0  # how long close() waits for what is still on its way

KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS = 20_000, 10_000

assert FRAME_BYTES_SOFT < FRAME_BYTES_MAX < RECEIVE_BYTES_MAX
assert PAYLOAD_BYTES_MAX < SUBMIT_BYTES_MAX < RECEIVE_BYTES_MAX
assert SUBMIT_BYTES_SOFT + PAYLOAD_BYTES_MAX < SUBMIT_BYTES_MAX
assert SUBMIT_TASKS_SOFT <= SUBMIT_TASKS_MAX
assert MESSAGE_BYTES_MAX <= FRAME_BYTES_MAX
assert PREFETCH_MESSAGES <= PREFETCH_MESSAGES_MAX <= CREDIT_MESSAGES_MAX
assert 2 * PREFETCH_MESSAGES_MAX <= HELD_MESSAGES_MAX
assert PREFETCH_BYTES <= CREDIT_BYTES_MAX
assert PROBE_PAUSE_S < PROBE_S < SILENCE_S
