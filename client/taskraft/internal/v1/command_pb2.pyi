from taskraft.v1 import lock_pb2 as _lock_pb2
from taskraft.v1 import queue_pb2 as _queue_pb2
from taskraft.v1 import schedule_pb2 as _schedule_pb2
from taskraft.v1 import task_pb2 as _task_pb2
from taskraft.v1 import worker_pb2 as _worker_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LockEnding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOCK_ENDING_UNSPECIFIED: _ClassVar[LockEnding]
    LOCK_ENDING_EXPIRED: _ClassVar[LockEnding]
    LOCK_ENDING_GIVEN_UP: _ClassVar[LockEnding]
    LOCK_ENDING_CALL_GONE: _ClassVar[LockEnding]
    LOCK_ENDING_DELAY_OVER: _ClassVar[LockEnding]
LOCK_ENDING_UNSPECIFIED: LockEnding
LOCK_ENDING_EXPIRED: LockEnding
LOCK_ENDING_GIVEN_UP: LockEnding
LOCK_ENDING_CALL_GONE: LockEnding
LOCK_ENDING_DELAY_OVER: LockEnding

class Batch(_message.Message):
    __slots__ = ("time_ms", "commands")
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    time_ms: int
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    def __init__(self, time_ms: _Optional[int] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("request_id", "create_queue", "update_queue", "delete_queue", "purge_queue", "publish", "ack", "delivered", "submit_tasks", "lease_tasks", "settle_tasks", "record_progress", "advance_tasks", "cancel_tasks", "retry_tasks", "reorder_tasks", "create_schedule", "update_schedule", "delete_schedule", "fire_schedule", "trigger_schedule", "advance_queues", "move_messages", "seek_group", "delete_group", "transaction", "check_queue", "check_lock", "acquire_lock", "release_lock", "end_lock_claims")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_QUEUE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_QUEUE_FIELD_NUMBER: _ClassVar[int]
    DELETE_QUEUE_FIELD_NUMBER: _ClassVar[int]
    PURGE_QUEUE_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_TASKS_FIELD_NUMBER: _ClassVar[int]
    LEASE_TASKS_FIELD_NUMBER: _ClassVar[int]
    SETTLE_TASKS_FIELD_NUMBER: _ClassVar[int]
    RECORD_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ADVANCE_TASKS_FIELD_NUMBER: _ClassVar[int]
    CANCEL_TASKS_FIELD_NUMBER: _ClassVar[int]
    RETRY_TASKS_FIELD_NUMBER: _ClassVar[int]
    REORDER_TASKS_FIELD_NUMBER: _ClassVar[int]
    CREATE_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    DELETE_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    FIRE_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    ADVANCE_QUEUES_FIELD_NUMBER: _ClassVar[int]
    MOVE_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SEEK_GROUP_FIELD_NUMBER: _ClassVar[int]
    DELETE_GROUP_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    CHECK_QUEUE_FIELD_NUMBER: _ClassVar[int]
    CHECK_LOCK_FIELD_NUMBER: _ClassVar[int]
    ACQUIRE_LOCK_FIELD_NUMBER: _ClassVar[int]
    RELEASE_LOCK_FIELD_NUMBER: _ClassVar[int]
    END_LOCK_CLAIMS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    create_queue: CreateQueue
    update_queue: UpdateQueue
    delete_queue: DeleteQueue
    purge_queue: PurgeQueue
    publish: Publish
    ack: Ack
    delivered: Delivered
    submit_tasks: SubmitTasks
    lease_tasks: LeaseTasks
    settle_tasks: SettleTasks
    record_progress: RecordProgress
    advance_tasks: AdvanceTasks
    cancel_tasks: CancelTasks
    retry_tasks: RetryTasks
    reorder_tasks: ReorderTasks
    create_schedule: CreateSchedule
    update_schedule: UpdateSchedule
    delete_schedule: DeleteSchedule
    fire_schedule: FireSchedule
    trigger_schedule: TriggerSchedule
    advance_queues: AdvanceQueues
    move_messages: MoveMessages
    seek_group: SeekGroup
    delete_group: DeleteGroup
    transaction: Transaction
    check_queue: CheckQueue
    check_lock: CheckLock
    acquire_lock: AcquireLock
    release_lock: ReleaseLock
    end_lock_claims: EndLockClaims
    def __init__(self, request_id: _Optional[str] = ..., create_queue: _Optional[_Union[CreateQueue, _Mapping]] = ..., update_queue: _Optional[_Union[UpdateQueue, _Mapping]] = ..., delete_queue: _Optional[_Union[DeleteQueue, _Mapping]] = ..., purge_queue: _Optional[_Union[PurgeQueue, _Mapping]] = ..., publish: _Optional[_Union[Publish, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., delivered: _Optional[_Union[Delivered, _Mapping]] = ..., submit_tasks: _Optional[_Union[SubmitTasks, _Mapping]] = ..., lease_tasks: _Optional[_Union[LeaseTasks, _Mapping]] = ..., settle_tasks: _Optional[_Union[SettleTasks, _Mapping]] = ..., record_progress: _Optional[_Union[RecordProgress, _Mapping]] = ..., advance_tasks: _Optional[_Union[AdvanceTasks, _Mapping]] = ..., cancel_tasks: _Optional[_Union[CancelTasks, _Mapping]] = ..., retry_tasks: _Optional[_Union[RetryTasks, _Mapping]] = ..., reorder_tasks: _Optional[_Union[ReorderTasks, _Mapping]] = ..., create_schedule: _Optional[_Union[CreateSchedule, _Mapping]] = ..., update_schedule: _Optional[_Union[UpdateSchedule, _Mapping]] = ..., delete_schedule: _Optional[_Union[DeleteSchedule, _Mapping]] = ..., fire_schedule: _Optional[_Union[FireSchedule, _Mapping]] = ..., trigger_schedule: _Optional[_Union[TriggerSchedule, _Mapping]] = ..., advance_queues: _Optional[_Union[AdvanceQueues, _Mapping]] = ..., move_messages: _Optional[_Union[MoveMessages, _Mapping]] = ..., seek_group: _Optional[_Union[SeekGroup, _Mapping]] = ..., delete_group: _Optional[_Union[DeleteGroup, _Mapping]] = ..., transaction: _Optional[_Union[Transaction, _Mapping]] = ..., check_queue: _Optional[_Union[CheckQueue, _Mapping]] = ..., check_lock: _Optional[_Union[CheckLock, _Mapping]] = ..., acquire_lock: _Optional[_Union[AcquireLock, _Mapping]] = ..., release_lock: _Optional[_Union[ReleaseLock, _Mapping]] = ..., end_lock_claims: _Optional[_Union[EndLockClaims, _Mapping]] = ...) -> None: ...

class CreateQueue(_message.Message):
    __slots__ = ("queue",)
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    queue: _queue_pb2.Queue
    def __init__(self, queue: _Optional[_Union[_queue_pb2.Queue, _Mapping]] = ...) -> None: ...

class UpdateQueue(_message.Message):
    __slots__ = ("queue", "fields")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    queue: _queue_pb2.Queue
    fields: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, queue: _Optional[_Union[_queue_pb2.Queue, _Mapping]] = ..., fields: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteQueue(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class PurgeQueue(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Publish(_message.Message):
    __slots__ = ("queue", "producer_id", "producer_sequence", "count", "chunk", "marked", "allow_unroutable")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    MARKED_FIELD_NUMBER: _ClassVar[int]
    ALLOW_UNROUTABLE_FIELD_NUMBER: _ClassVar[int]
    queue: str
    producer_id: str
    producer_sequence: int
    count: int
    chunk: bytes
    marked: bool
    allow_unroutable: bool
    def __init__(self, queue: _Optional[str] = ..., producer_id: _Optional[str] = ..., producer_sequence: _Optional[int] = ..., count: _Optional[int] = ..., chunk: _Optional[bytes] = ..., marked: _Optional[bool] = ..., allow_unroutable: _Optional[bool] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[_queue_pb2.Message]
    def __init__(self, messages: _Optional[_Iterable[_Union[_queue_pb2.Message, _Mapping]]] = ...) -> None: ...

class BareChunk(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[BareMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[BareMessage, _Mapping]]] = ...) -> None: ...

class BareMessage(_message.Message):
    __slots__ = ("body",)
    BODY_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    def __init__(self, body: _Optional[bytes] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("queue", "ranges", "queue_uid", "group", "strict")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_UID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    queue: str
    ranges: _containers.RepeatedCompositeFieldContainer[_queue_pb2.SequenceRange]
    queue_uid: str
    group: str
    strict: bool
    def __init__(self, queue: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[_queue_pb2.SequenceRange, _Mapping]]] = ..., queue_uid: _Optional[str] = ..., group: _Optional[str] = ..., strict: _Optional[bool] = ...) -> None: ...

class Delivered(_message.Message):
    __slots__ = ("queue", "watermark", "redelivered", "queue_uid", "group", "priorities")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    REDELIVERED_FIELD_NUMBER: _ClassVar[int]
    QUEUE_UID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    PRIORITIES_FIELD_NUMBER: _ClassVar[int]
    queue: str
    watermark: int
    redelivered: _containers.RepeatedCompositeFieldContainer[Redelivered]
    queue_uid: str
    group: str
    priorities: _containers.RepeatedCompositeFieldContainer[PriorityMark]
    def __init__(self, queue: _Optional[str] = ..., watermark: _Optional[int] = ..., redelivered: _Optional[_Iterable[_Union[Redelivered, _Mapping]]] = ..., queue_uid: _Optional[str] = ..., group: _Optional[str] = ..., priorities: _Optional[_Iterable[_Union[PriorityMark, _Mapping]]] = ...) -> None: ...

class PriorityMark(_message.Message):
    __slots__ = ("priority", "watermark")
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    priority: int
    watermark: int
    def __init__(self, priority: _Optional[int] = ..., watermark: _Optional[int] = ...) -> None: ...

class Redelivered(_message.Message):
    __slots__ = ("range", "attempt")
    RANGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    range: _queue_pb2.SequenceRange
    attempt: int
    def __init__(self, range: _Optional[_Union[_queue_pb2.SequenceRange, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...

class SubmitTasks(_message.Message):
    __slots__ = ("tasks", "workflow")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[_task_pb2.Task]
    workflow: _task_pb2.Workflow
    def __init__(self, tasks: _Optional[_Iterable[_Union[_task_pb2.Task, _Mapping]]] = ..., workflow: _Optional[_Union[_task_pb2.Workflow, _Mapping]] = ...) -> None: ...

class LeaseTasks(_message.Message):
    __slots__ = ("worker_id", "instance_id", "numbers", "lane_ids", "names")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    LANE_IDS_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    instance_id: str
    numbers: _containers.RepeatedScalarFieldContainer[int]
    lane_ids: _containers.RepeatedScalarFieldContainer[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, worker_id: _Optional[str] = ..., instance_id: _Optional[str] = ..., numbers: _Optional[_Iterable[int]] = ..., lane_ids: _Optional[_Iterable[int]] = ..., names: _Optional[_Iterable[str]] = ...) -> None: ...

class SettleTasks(_message.Message):
    __slots__ = ("leases",)
    LEASES_FIELD_NUMBER: _ClassVar[int]
    leases: _containers.RepeatedCompositeFieldContainer[SettledLease]
    def __init__(self, leases: _Optional[_Iterable[_Union[SettledLease, _Mapping]]] = ...) -> None: ...

class SettledLease(_message.Message):
    __slots__ = ("number", "lease_id", "result", "failure", "lost")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    YIELD_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    number: int
    lease_id: int
    result: _task_pb2.TaskResult
    failure: _worker_pb2.TaskFailure
    lost: LostLease
    def __init__(self, number: _Optional[int] = ..., lease_id: _Optional[int] = ..., result: _Optional[_Union[_task_pb2.TaskResult, _Mapping]] = ..., failure: _Optional[_Union[_worker_pb2.TaskFailure, _Mapping]] = ..., lost: _Optional[_Union[LostLease, _Mapping]] = ..., **kwargs) -> None: ...

class LostLease(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class RecordProgress(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[RecordedProgress]
    def __init__(self, tasks: _Optional[_Iterable[_Union[RecordedProgress, _Mapping]]] = ...) -> None: ...

class RecordedProgress(_message.Message):
    __slots__ = ("number", "lease_id", "progress", "checkpoint")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    number: int
    lease_id: int
    progress: _task_pb2.TaskProgress
    checkpoint: bytes
    def __init__(self, number: _Optional[int] = ..., lease_id: _Optional[int] = ..., progress: _Optional[_Union[_task_pb2.TaskProgress, _Mapping]] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...

class AdvanceTasks(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class CancelTasks(_message.Message):
    __slots__ = ("names", "workflow", "queue", "reason", "limit")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    workflow: str
    queue: str
    reason: str
    limit: int
    def __init__(self, names: _Optional[_Iterable[str]] = ..., workflow: _Optional[str] = ..., queue: _Optional[str] = ..., reason: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class RetryTasks(_message.Message):
    __slots__ = ("names", "workflow", "queue", "all", "limit")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    workflow: str
    queue: str
    all: bool
    limit: int
    def __init__(self, names: _Optional[_Iterable[str]] = ..., workflow: _Optional[str] = ..., queue: _Optional[str] = ..., all: _Optional[bool] = ..., limit: _Optional[int] = ...) -> None: ...

class ReorderTasks(_message.Message):
    __slots__ = ("queue", "queue_uid", "limit")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_UID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    queue: str
    queue_uid: str
    limit: int
    def __init__(self, queue: _Optional[str] = ..., queue_uid: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class Demand(_message.Message):
    __slots__ = ("type", "resources", "worker_labels", "tenant", "limit_key", "preemptible")
    class ResourcesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class WorkerLabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TYPE_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    WORKER_LABELS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_KEY_FIELD_NUMBER: _ClassVar[int]
    PREEMPTIBLE_FIELD_NUMBER: _ClassVar[int]
    type: str
    resources: _containers.ScalarMap[str, float]
    worker_labels: _containers.ScalarMap[str, str]
    tenant: str
    limit_key: str
    preemptible: bool
    def __init__(self, type: _Optional[str] = ..., resources: _Optional[_Mapping[str, float]] = ..., worker_labels: _Optional[_Mapping[str, str]] = ..., tenant: _Optional[str] = ..., limit_key: _Optional[str] = ..., preemptible: _Optional[bool] = ...) -> None: ...

class CreateSchedule(_message.Message):
    __slots__ = ("schedule", "next_tick_ms")
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    NEXT_TICK_MS_FIELD_NUMBER: _ClassVar[int]
    schedule: _schedule_pb2.Schedule
    next_tick_ms: int
    def __init__(self, schedule: _Optional[_Union[_schedule_pb2.Schedule, _Mapping]] = ..., next_tick_ms: _Optional[int] = ...) -> None: ...

class UpdateSchedule(_message.Message):
    __slots__ = ("schedule", "fields", "next_tick_ms")
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TICK_MS_FIELD_NUMBER: _ClassVar[int]
    schedule: _schedule_pb2.Schedule
    fields: _containers.RepeatedScalarFieldContainer[str]
    next_tick_ms: int
    def __init__(self, schedule: _Optional[_Union[_schedule_pb2.Schedule, _Mapping]] = ..., fields: _Optional[_Iterable[str]] = ..., next_tick_ms: _Optional[int] = ...) -> None: ...

class DeleteSchedule(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class FireSchedule(_message.Message):
    __slots__ = ("name", "etag", "tick_ms", "missed", "count", "next_tick_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    TICK_MS_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_TICK_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    tick_ms: int
    missed: bool
    count: int
    next_tick_ms: int
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ..., tick_ms: _Optional[int] = ..., missed: _Optional[bool] = ..., count: _Optional[int] = ..., next_tick_ms: _Optional[int] = ...) -> None: ...

class TriggerSchedule(_message.Message):
    __slots__ = ("name", "task")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    name: str
    task: str
    def __init__(self, name: _Optional[str] = ..., task: _Optional[str] = ...) -> None: ...

class AdvanceQueues(_message.Message):
    __slots__ = ("limit", "spared")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    SPARED_FIELD_NUMBER: _ClassVar[int]
    limit: int
    spared: _containers.RepeatedCompositeFieldContainer[SparedMessages]
    def __init__(self, limit: _Optional[int] = ..., spared: _Optional[_Iterable[_Union[SparedMessages, _Mapping]]] = ...) -> None: ...

class SparedMessages(_message.Message):
    __slots__ = ("queue", "ranges")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    queue: str
    ranges: _containers.RepeatedCompositeFieldContainer[_queue_pb2.SequenceRange]
    def __init__(self, queue: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[_queue_pb2.SequenceRange, _Mapping]]] = ...) -> None: ...

class MoveMessages(_message.Message):
    __slots__ = ("queue", "queue_uid", "group", "messages", "reason", "target", "strict", "next_sequence")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_UID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    queue: str
    queue_uid: str
    group: str
    messages: _containers.RepeatedCompositeFieldContainer[MovedMessages]
    reason: _queue_pb2.DeadLetterReason
    target: str
    strict: bool
    next_sequence: int
    def __init__(self, queue: _Optional[str] = ..., queue_uid: _Optional[str] = ..., group: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[MovedMessages, _Mapping]]] = ..., reason: _Optional[_Union[_queue_pb2.DeadLetterReason, str]] = ..., target: _Optional[str] = ..., strict: _Optional[bool] = ..., next_sequence: _Optional[int] = ...) -> None: ...

class MovedMessages(_message.Message):
    __slots__ = ("range", "attempts")
    RANGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    range: _queue_pb2.SequenceRange
    attempts: int
    def __init__(self, range: _Optional[_Union[_queue_pb2.SequenceRange, _Mapping]] = ..., attempts: _Optional[int] = ...) -> None: ...

class SeekGroup(_message.Message):
    __slots__ = ("queue", "queue_uid", "group", "position", "create_only")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_UID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    CREATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    queue: str
    queue_uid: str
    group: str
    position: _queue_pb2.Position
    create_only: bool
    def __init__(self, queue: _Optional[str] = ..., queue_uid: _Optional[str] = ..., group: _Optional[str] = ..., position: _Optional[_Union[_queue_pb2.Position, _Mapping]] = ..., create_only: _Optional[bool] = ...) -> None: ...

class DeleteGroup(_message.Message):
    __slots__ = ("queue", "group")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    queue: str
    group: str
    def __init__(self, queue: _Optional[str] = ..., group: _Optional[str] = ...) -> None: ...

class Transaction(_message.Message):
    __slots__ = ("commands", "lost")
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    lost: bool
    def __init__(self, commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ..., lost: _Optional[bool] = ...) -> None: ...

class CheckQueue(_message.Message):
    __slots__ = ("queue", "etag")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    queue: str
    etag: str
    def __init__(self, queue: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class CheckLock(_message.Message):
    __slots__ = ("lock", "token")
    LOCK_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    lock: str
    token: int
    def __init__(self, lock: _Optional[str] = ..., token: _Optional[int] = ...) -> None: ...

class AcquireLock(_message.Message):
    __slots__ = ("name", "mode", "permits", "ttl_ms", "lock_delay_ms", "holder_id", "labels", "at_once")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    PERMITS_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    LOCK_DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    HOLDER_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    AT_ONCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    mode: _lock_pb2.LockMode
    permits: int
    ttl_ms: int
    lock_delay_ms: int
    holder_id: str
    labels: _containers.ScalarMap[str, str]
    at_once: bool
    def __init__(self, name: _Optional[str] = ..., mode: _Optional[_Union[_lock_pb2.LockMode, str]] = ..., permits: _Optional[int] = ..., ttl_ms: _Optional[int] = ..., lock_delay_ms: _Optional[int] = ..., holder_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., at_once: _Optional[bool] = ...) -> None: ...

class ReleaseLock(_message.Message):
    __slots__ = ("name", "token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    token: int
    def __init__(self, name: _Optional[str] = ..., token: _Optional[int] = ...) -> None: ...

class EndLockClaims(_message.Message):
    __slots__ = ("claims",)
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    claims: _containers.RepeatedCompositeFieldContainer[EndedLockClaim]
    def __init__(self, claims: _Optional[_Iterable[_Union[EndedLockClaim, _Mapping]]] = ...) -> None: ...

class EndedLockClaim(_message.Message):
    __slots__ = ("lock", "number", "ending")
    LOCK_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    lock: str
    number: int
    ending: LockEnding
    def __init__(self, lock: _Optional[str] = ..., number: _Optional[int] = ..., ending: _Optional[_Union[LockEnding, str]] = ...) -> None: ...
