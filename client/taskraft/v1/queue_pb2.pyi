import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from taskraft.v1 import task_pb2 as _task_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QueueKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUEUE_KIND_UNSPECIFIED: _ClassVar[QueueKind]
    QUEUE_KIND_MESSAGE: _ClassVar[QueueKind]
    QUEUE_KIND_TASK: _ClassVar[QueueKind]
    QUEUE_KIND_STREAM: _ClassVar[QueueKind]

class OverflowPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OVERFLOW_POLICY_UNSPECIFIED: _ClassVar[OverflowPolicy]
    OVERFLOW_POLICY_REJECT: _ClassVar[OverflowPolicy]
    OVERFLOW_POLICY_DROP_OLDEST: _ClassVar[OverflowPolicy]

class SchedulingPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCHEDULING_POLICY_UNSPECIFIED: _ClassVar[SchedulingPolicy]
    SCHEDULING_POLICY_FIFO: _ClassVar[SchedulingPolicy]
    SCHEDULING_POLICY_PRIORITY: _ClassVar[SchedulingPolicy]
    SCHEDULING_POLICY_SHORTEST_JOB_FIRST: _ClassVar[SchedulingPolicy]
    SCHEDULING_POLICY_ROUND_ROBIN: _ClassVar[SchedulingPolicy]
    SCHEDULING_POLICY_EARLIEST_DEADLINE: _ClassVar[SchedulingPolicy]
    SCHEDULING_POLICY_FAIR_SHARE: _ClassVar[SchedulingPolicy]

class Placement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLACEMENT_UNSPECIFIED: _ClassVar[Placement]
    PLACEMENT_LEAST_LOADED: _ClassVar[Placement]
    PLACEMENT_PACK: _ClassVar[Placement]
    PLACEMENT_SPREAD: _ClassVar[Placement]

class DeadLetterReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEAD_LETTER_REASON_UNSPECIFIED: _ClassVar[DeadLetterReason]
    DEAD_LETTER_REASON_MAX_ATTEMPTS: _ClassVar[DeadLetterReason]
    DEAD_LETTER_REASON_EXPIRED: _ClassVar[DeadLetterReason]
    DEAD_LETTER_REASON_OVERFLOW: _ClassVar[DeadLetterReason]
    DEAD_LETTER_REASON_REJECTED: _ClassVar[DeadLetterReason]
QUEUE_KIND_UNSPECIFIED: QueueKind
QUEUE_KIND_MESSAGE: QueueKind
QUEUE_KIND_TASK: QueueKind
QUEUE_KIND_STREAM: QueueKind
OVERFLOW_POLICY_UNSPECIFIED: OverflowPolicy
OVERFLOW_POLICY_REJECT: OverflowPolicy
OVERFLOW_POLICY_DROP_OLDEST: OverflowPolicy
SCHEDULING_POLICY_UNSPECIFIED: SchedulingPolicy
SCHEDULING_POLICY_FIFO: SchedulingPolicy
SCHEDULING_POLICY_PRIORITY: SchedulingPolicy
SCHEDULING_POLICY_SHORTEST_JOB_FIRST: SchedulingPolicy
SCHEDULING_POLICY_ROUND_ROBIN: SchedulingPolicy
SCHEDULING_POLICY_EARLIEST_DEADLINE: SchedulingPolicy
SCHEDULING_POLICY_FAIR_SHARE: SchedulingPolicy
PLACEMENT_UNSPECIFIED: Placement
PLACEMENT_LEAST_LOADED: Placement
PLACEMENT_PACK: Placement
PLACEMENT_SPREAD: Placement
DEAD_LETTER_REASON_UNSPECIFIED: DeadLetterReason
DEAD_LETTER_REASON_MAX_ATTEMPTS: DeadLetterReason
DEAD_LETTER_REASON_EXPIRED: DeadLetterReason
DEAD_LETTER_REASON_OVERFLOW: DeadLetterReason
DEAD_LETTER_REASON_REJECTED: DeadLetterReason

class Queue(_message.Message):
    __slots__ = ("name", "uid", "etag", "kind", "ack_deadline", "max_messages", "max_bytes", "max_message_bytes", "overflow_policy", "paused", "create_time", "update_time", "stats", "scheduling", "max_attempts", "dead_letter_queue", "max_age", "bindings", "max_in_flight_per_key", "hold_key", "compaction")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACK_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OVERFLOW_POLICY_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULING_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_QUEUE_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    BINDINGS_FIELD_NUMBER: _ClassVar[int]
    MAX_IN_FLIGHT_PER_KEY_FIELD_NUMBER: _ClassVar[int]
    HOLD_KEY_FIELD_NUMBER: _ClassVar[int]
    COMPACTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    etag: str
    kind: QueueKind
    ack_deadline: _duration_pb2.Duration
    max_messages: int
    max_bytes: int
    max_message_bytes: int
    overflow_policy: OverflowPolicy
    paused: bool
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    stats: QueueStats
    scheduling: Scheduling
    max_attempts: int
    dead_letter_queue: str
    max_age: _duration_pb2.Duration
    bindings: _containers.RepeatedCompositeFieldContainer[Binding]
    max_in_flight_per_key: int
    hold_key: bool
    compaction: bool
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., etag: _Optional[str] = ..., kind: _Optional[_Union[QueueKind, str]] = ..., ack_deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_messages: _Optional[int] = ..., max_bytes: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., overflow_policy: _Optional[_Union[OverflowPolicy, str]] = ..., paused: _Optional[bool] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stats: _Optional[_Union[QueueStats, _Mapping]] = ..., scheduling: _Optional[_Union[Scheduling, _Mapping]] = ..., max_attempts: _Optional[int] = ..., dead_letter_queue: _Optional[str] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., bindings: _Optional[_Iterable[_Union[Binding, _Mapping]]] = ..., max_in_flight_per_key: _Optional[int] = ..., hold_key: _Optional[bool] = ..., compaction: _Optional[bool] = ...) -> None: ...

class Binding(_message.Message):
    __slots__ = ("pattern", "headers")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    pattern: str
    headers: _containers.ScalarMap[str, str]
    def __init__(self, pattern: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RateLimit(_message.Message):
    __slots__ = ("per_second", "burst")
    PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    BURST_FIELD_NUMBER: _ClassVar[int]
    per_second: float
    burst: int
    def __init__(self, per_second: _Optional[float] = ..., burst: _Optional[int] = ...) -> None: ...

class Scheduling(_message.Message):
    __slots__ = ("policy", "aging", "time_slice", "refuse_infeasible", "tenant_weights", "placement", "preemption", "max_running", "max_running_per_key", "rate", "rate_per_key", "lease", "max_attempts", "backoff", "backoff_max", "retain_succeeded", "retain_failed", "max_ended")
    class TenantWeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    POLICY_FIELD_NUMBER: _ClassVar[int]
    AGING_FIELD_NUMBER: _ClassVar[int]
    TIME_SLICE_FIELD_NUMBER: _ClassVar[int]
    REFUSE_INFEASIBLE_FIELD_NUMBER: _ClassVar[int]
    TENANT_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    PREEMPTION_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_PER_KEY_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    RATE_PER_KEY_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_MAX_FIELD_NUMBER: _ClassVar[int]
    RETAIN_SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    RETAIN_FAILED_FIELD_NUMBER: _ClassVar[int]
    MAX_ENDED_FIELD_NUMBER: _ClassVar[int]
    policy: SchedulingPolicy
    aging: _duration_pb2.Duration
    time_slice: _duration_pb2.Duration
    refuse_infeasible: bool
    tenant_weights: _containers.ScalarMap[str, float]
    placement: Placement
    preemption: bool
    max_running: int
    max_running_per_key: int
    rate: RateLimit
    rate_per_key: RateLimit
    lease: _duration_pb2.Duration
    max_attempts: int
    backoff: _duration_pb2.Duration
    backoff_max: _duration_pb2.Duration
    retain_succeeded: _duration_pb2.Duration
    retain_failed: _duration_pb2.Duration
    max_ended: int
    def __init__(self, policy: _Optional[_Union[SchedulingPolicy, str]] = ..., aging: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., time_slice: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., refuse_infeasible: _Optional[bool] = ..., tenant_weights: _Optional[_Mapping[str, float]] = ..., placement: _Optional[_Union[Placement, str]] = ..., preemption: _Optional[bool] = ..., max_running: _Optional[int] = ..., max_running_per_key: _Optional[int] = ..., rate: _Optional[_Union[RateLimit, _Mapping]] = ..., rate_per_key: _Optional[_Union[RateLimit, _Mapping]] = ..., lease: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_attempts: _Optional[int] = ..., backoff: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., backoff_max: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., retain_succeeded: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., retain_failed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_ended: _Optional[int] = ...) -> None: ...

class QueueStats(_message.Message):
    __slots__ = ("messages", "bytes", "leased_messages", "consumers", "oldest_publish_time", "published_messages", "tasks", "rates", "delayed_messages", "delayed_bytes", "groups", "message_rates")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    LEASED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_PUBLISH_TIME_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    DELAYED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    DELAYED_BYTES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_RATES_FIELD_NUMBER: _ClassVar[int]
    messages: int
    bytes: int
    leased_messages: int
    consumers: int
    oldest_publish_time: _timestamp_pb2.Timestamp
    published_messages: int
    tasks: _task_pb2.TaskCounts
    rates: TaskRates
    delayed_messages: int
    delayed_bytes: int
    groups: _containers.RepeatedCompositeFieldContainer[ConsumerGroup]
    message_rates: MessageRates
    def __init__(self, messages: _Optional[int] = ..., bytes: _Optional[int] = ..., leased_messages: _Optional[int] = ..., consumers: _Optional[int] = ..., oldest_publish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., published_messages: _Optional[int] = ..., tasks: _Optional[_Union[_task_pb2.TaskCounts, _Mapping]] = ..., rates: _Optional[_Union[TaskRates, _Mapping]] = ..., delayed_messages: _Optional[int] = ..., delayed_bytes: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[ConsumerGroup, _Mapping]]] = ..., message_rates: _Optional[_Union[MessageRates, _Mapping]] = ...) -> None: ...

class ConsumerGroup(_message.Message):
    __slots__ = ("name", "position", "pending_messages", "leased_messages", "consumers", "create_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    PENDING_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    LEASED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    position: int
    pending_messages: int
    leased_messages: int
    consumers: int
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., position: _Optional[int] = ..., pending_messages: _Optional[int] = ..., leased_messages: _Optional[int] = ..., consumers: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class MessageRates(_message.Message):
    __slots__ = ("window", "published", "delivered", "acknowledged", "throughput", "latency", "waiting", "processing", "end_to_end")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    THROUGHPUT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    PROCESSING_FIELD_NUMBER: _ClassVar[int]
    END_TO_END_FIELD_NUMBER: _ClassVar[int]
    window: _duration_pb2.Duration
    published: int
    delivered: int
    acknowledged: int
    throughput: float
    latency: _duration_pb2.Duration
    waiting: Percentiles
    processing: Percentiles
    end_to_end: Percentiles
    def __init__(self, window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., published: _Optional[int] = ..., delivered: _Optional[int] = ..., acknowledged: _Optional[int] = ..., throughput: _Optional[float] = ..., latency: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., waiting: _Optional[_Union[Percentiles, _Mapping]] = ..., processing: _Optional[_Union[Percentiles, _Mapping]] = ..., end_to_end: _Optional[_Union[Percentiles, _Mapping]] = ...) -> None: ...

class TaskRates(_message.Message):
    __slots__ = ("window", "submitted", "started", "ended", "throughput", "latency", "waiting", "running", "end_to_end")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    THROUGHPUT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    END_TO_END_FIELD_NUMBER: _ClassVar[int]
    window: _duration_pb2.Duration
    submitted: int
    started: int
    ended: int
    throughput: float
    latency: _duration_pb2.Duration
    waiting: Percentiles
    running: Percentiles
    end_to_end: Percentiles
    def __init__(self, window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., submitted: _Optional[int] = ..., started: _Optional[int] = ..., ended: _Optional[int] = ..., throughput: _Optional[float] = ..., latency: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., waiting: _Optional[_Union[Percentiles, _Mapping]] = ..., running: _Optional[_Union[Percentiles, _Mapping]] = ..., end_to_end: _Optional[_Union[Percentiles, _Mapping]] = ...) -> None: ...

class Percentiles(_message.Message):
    __slots__ = ("p50", "p90", "p99")
    P50_FIELD_NUMBER: _ClassVar[int]
    P90_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    p50: _duration_pb2.Duration
    p90: _duration_pb2.Duration
    p99: _duration_pb2.Duration
    def __init__(self, p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p90: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p99: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("body", "headers", "key", "priority", "ttl", "deliver_time", "delay")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BODY_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    DELIVER_TIME_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    headers: _containers.ScalarMap[str, str]
    key: str
    priority: int
    ttl: _duration_pb2.Duration
    deliver_time: _timestamp_pb2.Timestamp
    delay: _duration_pb2.Duration
    def __init__(self, body: _Optional[bytes] = ..., headers: _Optional[_Mapping[str, str]] = ..., key: _Optional[str] = ..., priority: _Optional[int] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., deliver_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("source", "source_sequence", "reason", "attempts", "publish_time", "dead_letter_time", "group")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_TIME_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_TIME_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    source: str
    source_sequence: int
    reason: DeadLetterReason
    attempts: int
    publish_time: _timestamp_pb2.Timestamp
    dead_letter_time: _timestamp_pb2.Timestamp
    group: str
    def __init__(self, source: _Optional[str] = ..., source_sequence: _Optional[int] = ..., reason: _Optional[_Union[DeadLetterReason, str]] = ..., attempts: _Optional[int] = ..., publish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., dead_letter_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., group: _Optional[str] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("sequence", "time", "beginning", "end")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    BEGINNING_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    beginning: bool
    end: bool
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., beginning: _Optional[bool] = ..., end: _Optional[bool] = ...) -> None: ...

class SequenceRange(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class CreateQueueRequest(_message.Message):
    __slots__ = ("queue_id", "queue", "request_id")
    QUEUE_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue_id: str
    queue: Queue
    request_id: str
    def __init__(self, queue_id: _Optional[str] = ..., queue: _Optional[_Union[Queue, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateQueueResponse(_message.Message):
    __slots__ = ("queue",)
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    queue: Queue
    def __init__(self, queue: _Optional[_Union[Queue, _Mapping]] = ...) -> None: ...

class GetQueueRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetQueueResponse(_message.Message):
    __slots__ = ("queue",)
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    queue: Queue
    def __init__(self, queue: _Optional[_Union[Queue, _Mapping]] = ...) -> None: ...

class ListQueuesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListQueuesResponse(_message.Message):
    __slots__ = ("queues", "next_page_token")
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedCompositeFieldContainer[Queue]
    next_page_token: str
    def __init__(self, queues: _Optional[_Iterable[_Union[Queue, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateQueueRequest(_message.Message):
    __slots__ = ("queue", "update_mask", "request_id")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue: Queue
    update_mask: _field_mask_pb2.FieldMask
    request_id: str
    def __init__(self, queue: _Optional[_Union[Queue, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class UpdateQueueResponse(_message.Message):
    __slots__ = ("queue",)
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    queue: Queue
    def __init__(self, queue: _Optional[_Union[Queue, _Mapping]] = ...) -> None: ...

class DeleteQueueRequest(_message.Message):
    __slots__ = ("name", "etag", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteQueueResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PurgeQueueRequest(_message.Message):
    __slots__ = ("name", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class PurgeQueueResponse(_message.Message):
    __slots__ = ("purged_messages",)
    PURGED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    purged_messages: int
    def __init__(self, purged_messages: _Optional[int] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("queue", "request_id", "allow_unroutable", "messages")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ALLOW_UNROUTABLE_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    queue: str
    request_id: str
    allow_unroutable: bool
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    def __init__(self, queue: _Optional[str] = ..., request_id: _Optional[str] = ..., allow_unroutable: _Optional[bool] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("first_sequence", "count", "duplicate", "delayed", "queues")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    DELAYED_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    count: int
    duplicate: bool
    delayed: int
    queues: int
    def __init__(self, first_sequence: _Optional[int] = ..., count: _Optional[int] = ..., duplicate: _Optional[bool] = ..., delayed: _Optional[int] = ..., queues: _Optional[int] = ...) -> None: ...

class PublishStreamRequest(_message.Message):
    __slots__ = ("queue", "producer_id", "producer_sequence", "allow_unroutable", "messages")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_UNROUTABLE_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    queue: str
    producer_id: str
    producer_sequence: int
    allow_unroutable: bool
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    def __init__(self, queue: _Optional[str] = ..., producer_id: _Optional[str] = ..., producer_sequence: _Optional[int] = ..., allow_unroutable: _Optional[bool] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ...) -> None: ...

class PublishStreamResponse(_message.Message):
    __slots__ = ("producer_sequence", "first_sequence", "count", "duplicate", "failure", "reconnect", "delayed", "queues")
    PRODUCER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    RECONNECT_FIELD_NUMBER: _ClassVar[int]
    DELAYED_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    producer_sequence: int
    first_sequence: int
    count: int
    duplicate: bool
    failure: Failure
    reconnect: Reconnect
    delayed: int
    queues: int
    def __init__(self, producer_sequence: _Optional[int] = ..., first_sequence: _Optional[int] = ..., count: _Optional[int] = ..., duplicate: _Optional[bool] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., reconnect: _Optional[_Union[Reconnect, _Mapping]] = ..., delayed: _Optional[int] = ..., queues: _Optional[int] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "reason", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Reconnect(_message.Message):
    __slots__ = ("after", "endpoints")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    after: _duration_pb2.Duration
    endpoints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., endpoints: _Optional[_Iterable[str]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("first_sequence", "attempt", "publish_time", "lease_expire_time", "dead_letter", "messages")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_TIME_FIELD_NUMBER: _ClassVar[int]
    LEASE_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    attempt: int
    publish_time: _timestamp_pb2.Timestamp
    lease_expire_time: _timestamp_pb2.Timestamp
    dead_letter: DeadLetter
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    def __init__(self, first_sequence: _Optional[int] = ..., attempt: _Optional[int] = ..., publish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., lease_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., dead_letter: _Optional[_Union[DeadLetter, _Mapping]] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("queue", "max_messages", "wait", "group")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    queue: str
    max_messages: int
    wait: _duration_pb2.Duration
    group: str
    def __init__(self, queue: _Optional[str] = ..., max_messages: _Optional[int] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., group: _Optional[str] = ...) -> None: ...

class PullResponse(_message.Message):
    __slots__ = ("lease_id", "deliveries")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    def __init__(self, lease_id: _Optional[str] = ..., deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ...) -> None: ...

class AcknowledgeRequest(_message.Message):
    __slots__ = ("queue", "lease_id", "ranges", "request_id", "group")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    queue: str
    lease_id: str
    ranges: _containers.RepeatedCompositeFieldContainer[SequenceRange]
    request_id: str
    group: str
    def __init__(self, queue: _Optional[str] = ..., lease_id: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[SequenceRange, _Mapping]]] = ..., request_id: _Optional[str] = ..., group: _Optional[str] = ...) -> None: ...

class AcknowledgeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModifyAckDeadlineRequest(_message.Message):
    __slots__ = ("queue", "lease_id", "ranges", "ack_deadline", "group")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    ACK_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    queue: str
    lease_id: str
    ranges: _containers.RepeatedCompositeFieldContainer[SequenceRange]
    ack_deadline: _duration_pb2.Duration
    group: str
    def __init__(self, queue: _Optional[str] = ..., lease_id: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[SequenceRange, _Mapping]]] = ..., ack_deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., group: _Optional[str] = ...) -> None: ...

class ModifyAckDeadlineResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RejectRequest(_message.Message):
    __slots__ = ("queue", "lease_id", "ranges", "delay", "group", "dead_letter")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_FIELD_NUMBER: _ClassVar[int]
    queue: str
    lease_id: str
    ranges: _containers.RepeatedCompositeFieldContainer[SequenceRange]
    delay: _duration_pb2.Duration
    group: str
    dead_letter: bool
    def __init__(self, queue: _Optional[str] = ..., lease_id: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[SequenceRange, _Mapping]]] = ..., delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., group: _Optional[str] = ..., dead_letter: _Optional[bool] = ...) -> None: ...

class RejectResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ConsumeRequest(_message.Message):
    __slots__ = ("start", "credit", "ack", "nack")
    START_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    start: ConsumeStart
    credit: Credit
    ack: ConsumeAck
    nack: ConsumeNack
    def __init__(self, start: _Optional[_Union[ConsumeStart, _Mapping]] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., ack: _Optional[_Union[ConsumeAck, _Mapping]] = ..., nack: _Optional[_Union[ConsumeNack, _Mapping]] = ...) -> None: ...

class ConsumeStart(_message.Message):
    __slots__ = ("queue", "consumer_id", "held", "group", "position")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_ID_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    queue: str
    consumer_id: str
    held: _containers.RepeatedCompositeFieldContainer[SequenceRange]
    group: str
    position: Position
    def __init__(self, queue: _Optional[str] = ..., consumer_id: _Optional[str] = ..., held: _Optional[_Iterable[_Union[SequenceRange, _Mapping]]] = ..., group: _Optional[str] = ..., position: _Optional[_Union[Position, _Mapping]] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("messages", "bytes")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    messages: int
    bytes: int
    def __init__(self, messages: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class ConsumeAck(_message.Message):
    __slots__ = ("ranges",)
    RANGES_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[SequenceRange]
    def __init__(self, ranges: _Optional[_Iterable[_Union[SequenceRange, _Mapping]]] = ...) -> None: ...

class ConsumeNack(_message.Message):
    __slots__ = ("ranges", "delay", "dead_letter")
    RANGES_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[SequenceRange]
    delay: _duration_pb2.Duration
    dead_letter: bool
    def __init__(self, ranges: _Optional[_Iterable[_Union[SequenceRange, _Mapping]]] = ..., delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., dead_letter: _Optional[bool] = ...) -> None: ...

class ConsumeResponse(_message.Message):
    __slots__ = ("started", "delivery", "acked", "lease_lost", "reconnect")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    LEASE_LOST_FIELD_NUMBER: _ClassVar[int]
    RECONNECT_FIELD_NUMBER: _ClassVar[int]
    started: ConsumeStarted
    delivery: Delivery
    acked: ConsumeAcked
    lease_lost: LeaseLost
    reconnect: Reconnect
    def __init__(self, started: _Optional[_Union[ConsumeStarted, _Mapping]] = ..., delivery: _Optional[_Union[Delivery, _Mapping]] = ..., acked: _Optional[_Union[ConsumeAcked, _Mapping]] = ..., lease_lost: _Optional[_Union[LeaseLost, _Mapping]] = ..., reconnect: _Optional[_Union[Reconnect, _Mapping]] = ...) -> None: ...

class ConsumeStarted(_message.Message):
    __slots__ = ("session_id", "held", "term")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    held: _containers.RepeatedCompositeFieldContainer[SequenceRange]
    term: int
    def __init__(self, session_id: _Optional[str] = ..., held: _Optional[_Iterable[_Union[SequenceRange, _Mapping]]] = ..., term: _Optional[int] = ...) -> None: ...

class ConsumeAcked(_message.Message):
    __slots__ = ("ranges",)
    RANGES_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[SequenceRange]
    def __init__(self, ranges: _Optional[_Iterable[_Union[SequenceRange, _Mapping]]] = ...) -> None: ...

class LeaseLost(_message.Message):
    __slots__ = ("ranges",)
    RANGES_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[SequenceRange]
    def __init__(self, ranges: _Optional[_Iterable[_Union[SequenceRange, _Mapping]]] = ...) -> None: ...

class PeekRequest(_message.Message):
    __slots__ = ("queue", "position", "max_messages", "key", "headers")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    queue: str
    position: Position
    max_messages: int
    key: str
    headers: _containers.ScalarMap[str, str]
    def __init__(self, queue: _Optional[str] = ..., position: _Optional[_Union[Position, _Mapping]] = ..., max_messages: _Optional[int] = ..., key: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ...) -> None: ...

class PeekResponse(_message.Message):
    __slots__ = ("messages", "next_sequence")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[PeekedMessage]
    next_sequence: int
    def __init__(self, messages: _Optional[_Iterable[_Union[PeekedMessage, _Mapping]]] = ..., next_sequence: _Optional[int] = ...) -> None: ...

class PeekedMessage(_message.Message):
    __slots__ = ("sequence", "message", "publish_time", "attempts", "leased", "dead_letter")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_TIME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    message: Message
    publish_time: _timestamp_pb2.Timestamp
    attempts: int
    leased: bool
    dead_letter: DeadLetter
    def __init__(self, sequence: _Optional[int] = ..., message: _Optional[_Union[Message, _Mapping]] = ..., publish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attempts: _Optional[int] = ..., leased: _Optional[bool] = ..., dead_letter: _Optional[_Union[DeadLetter, _Mapping]] = ...) -> None: ...

class SeekRequest(_message.Message):
    __slots__ = ("queue", "group", "position", "request_id")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue: str
    group: str
    position: Position
    request_id: str
    def __init__(self, queue: _Optional[str] = ..., group: _Optional[str] = ..., position: _Optional[_Union[Position, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class SeekResponse(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: ConsumerGroup
    def __init__(self, group: _Optional[_Union[ConsumerGroup, _Mapping]] = ...) -> None: ...

class DeleteGroupRequest(_message.Message):
    __slots__ = ("queue", "group", "request_id")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue: str
    group: str
    request_id: str
    def __init__(self, queue: _Optional[str] = ..., group: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteGroupResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RedriveRequest(_message.Message):
    __slots__ = ("queue", "target", "max_messages", "first_sequence", "reason", "source", "key", "headers", "request_id")
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    queue: str
    target: str
    max_messages: int
    first_sequence: int
    reason: DeadLetterReason
    source: str
    key: str
    headers: _containers.ScalarMap[str, str]
    request_id: str
    def __init__(self, queue: _Optional[str] = ..., target: _Optional[str] = ..., max_messages: _Optional[int] = ..., first_sequence: _Optional[int] = ..., reason: _Optional[_Union[DeadLetterReason, str]] = ..., source: _Optional[str] = ..., key: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class RedriveResponse(_message.Message):
    __slots__ = ("moved_messages", "next_sequence")
    MOVED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    moved_messages: int
    next_sequence: int
    def __init__(self, moved_messages: _Optional[int] = ..., next_sequence: _Optional[int] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("operations", "request_id")
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    request_id: str
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("publish", "acknowledge", "reject", "submit_tasks", "complete_task", "check_queue", "check_lock")
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    REJECT_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_TASKS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_TASK_FIELD_NUMBER: _ClassVar[int]
    CHECK_QUEUE_FIELD_NUMBER: _ClassVar[int]
    CHECK_LOCK_FIELD_NUMBER: _ClassVar[int]
    publish: PublishOperation
    acknowledge: AcknowledgeOperation
    reject: AcknowledgeOperation
    submit_tasks: _task_pb2.SubmitTasksRequest
    complete_task: CompleteTaskOperation
    check_queue: CheckQueueOperation
    check_lock: CheckLockOperation
    def __init__(self, publish: _Optional[_Union[PublishOperation, _Mapping]] = ..., acknowledge: _Optional[_Union[AcknowledgeOperation, _Mapping]] = ..., reject: _Optional[_Union[AcknowledgeOperation, _Mapping]] = ..., submit_tasks: _Optional[_Union[_task_pb2.SubmitTasksRequest, _Mapping]] = ..., complete_task: _Optional[_Union[CompleteTaskOperation, _Mapping]] = ..., check_queue: _Optional[_Union[CheckQueueOperation, _Mapping]] = ..., check_lock: _Optional[_Union[CheckLockOperation, _Mapping]] = ...) -> None: ...

class PublishOperation(_message.Message):
    __slots__ = ("queue", "allow_unroutable", "messages")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_UNROUTABLE_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    queue: str
    allow_unroutable: bool
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    def __init__(self, queue: _Optional[str] = ..., allow_unroutable: _Optional[bool] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ...) -> None: ...

class AcknowledgeOperation(_message.Message):
    __slots__ = ("queue", "group", "lease_id", "ranges")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    queue: str
    group: str
    lease_id: str
    ranges: _containers.RepeatedCompositeFieldContainer[SequenceRange]
    def __init__(self, queue: _Optional[str] = ..., group: _Optional[str] = ..., lease_id: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[SequenceRange, _Mapping]]] = ...) -> None: ...

class CompleteTaskOperation(_message.Message):
    __slots__ = ("task", "lease_id", "result")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    task: str
    lease_id: int
    result: _task_pb2.TaskResult
    def __init__(self, task: _Optional[str] = ..., lease_id: _Optional[int] = ..., result: _Optional[_Union[_task_pb2.TaskResult, _Mapping]] = ...) -> None: ...

class CheckQueueOperation(_message.Message):
    __slots__ = ("queue", "etag")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    queue: str
    etag: str
    def __init__(self, queue: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class CheckLockOperation(_message.Message):
    __slots__ = ("lock", "token")
    LOCK_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    lock: str
    token: int
    def __init__(self, lock: _Optional[str] = ..., token: _Optional[int] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("results", "duplicate")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[OperationResult]
    duplicate: bool
    def __init__(self, results: _Optional[_Iterable[_Union[OperationResult, _Mapping]]] = ..., duplicate: _Optional[bool] = ...) -> None: ...

class OperationResult(_message.Message):
    __slots__ = ("publish", "submit_tasks")
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_TASKS_FIELD_NUMBER: _ClassVar[int]
    publish: PublishResponse
    submit_tasks: _task_pb2.SubmitTasksResponse
    def __init__(self, publish: _Optional[_Union[PublishResponse, _Mapping]] = ..., submit_tasks: _Optional[_Union[_task_pb2.SubmitTasksResponse, _Mapping]] = ...) -> None: ...
