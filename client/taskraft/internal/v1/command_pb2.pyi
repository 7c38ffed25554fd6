from taskraft.v1 import queue_pb2 as _queue_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Batch(_message.Message):
    __slots__ = ("time_ms", "commands")
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    time_ms: int
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    def __init__(self, time_ms: _Optional[int] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("request_id", "create_queue", "update_queue", "delete_queue", "purge_queue", "publish", "ack", "delivered")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_QUEUE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_QUEUE_FIELD_NUMBER: _ClassVar[int]
    DELETE_QUEUE_FIELD_NUMBER: _ClassVar[int]
    PURGE_QUEUE_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    create_queue: CreateQueue
    update_queue: UpdateQueue
    delete_queue: DeleteQueue
    purge_queue: PurgeQueue
    publish: Publish
    ack: Ack
    delivered: Delivered
    def __init__(self, request_id: _Optional[str] = ..., create_queue: _Optional[_Union[CreateQueue, _Mapping]] = ..., update_queue: _Optional[_Union[UpdateQueue, _Mapping]] = ..., delete_queue: _Optional[_Union[DeleteQueue, _Mapping]] = ..., purge_queue: _Optional[_Union[PurgeQueue, _Mapping]] = ..., publish: _Optional[_Union[Publish, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., delivered: _Optional[_Union[Delivered, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("queue", "producer_id", "producer_sequence", "count", "chunk")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    queue: str
    producer_id: str
    producer_sequence: int
    count: int
    chunk: bytes
    def __init__(self, queue: _Optional[str] = ..., producer_id: _Optional[str] = ..., producer_sequence: _Optional[int] = ..., count: _Optional[int] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[_queue_pb2.Message]
    def __init__(self, messages: _Optional[_Iterable[_Union[_queue_pb2.Message, _Mapping]]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("queue", "ranges", "queue_uid")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_UID_FIELD_NUMBER: _ClassVar[int]
    queue: str
    ranges: _containers.RepeatedCompositeFieldContainer[_queue_pb2.SequenceRange]
    queue_uid: str
    def __init__(self, queue: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[_queue_pb2.SequenceRange, _Mapping]]] = ..., queue_uid: _Optional[str] = ...) -> None: ...

class Delivered(_message.Message):
    __slots__ = ("queue", "watermark", "redelivered", "queue_uid")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    REDELIVERED_FIELD_NUMBER: _ClassVar[int]
    QUEUE_UID_FIELD_NUMBER: _ClassVar[int]
    queue: str
    watermark: int
    redelivered: _containers.RepeatedCompositeFieldContainer[Redelivered]
    queue_uid: str
    def __init__(self, queue: _Optional[str] = ..., watermark: _Optional[int] = ..., redelivered: _Optional[_Iterable[_Union[Redelivered, _Mapping]]] = ..., queue_uid: _Optional[str] = ...) -> None: ...

class Redelivered(_message.Message):
    __slots__ = ("range", "attempt")
    RANGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    range: _queue_pb2.SequenceRange
    attempt: int
    def __init__(self, range: _Optional[_Union[_queue_pb2.SequenceRange, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...
