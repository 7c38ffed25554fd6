from __future__ import annotations

from taskraft.v1 import task_pb2, worker_pb2
from taskraft.worker import outbox, outcomes
from taskraft.worker.outbox import Outbox


def success(lease_id: int, data: bytes = b"") -> worker_pb2.Outcome:
    return worker_pb2.Outcome(lease_id=lease_id, result=task_pb2.TaskResult(data=data))


def written(box: Outbox) -> list[str]:
    return [frame.WhichOneof("request") or "" for frame in box.frames()]


def test_everything_of_a_kind_goes_in_one_frame() -> None:
    box = Outbox()
    box.received += [1, 2, 3]
    for lease_id in (1, 2, 3):
        box.outcome(success(lease_id))
    box.credit += 5

    frames = list(box.frames())

    assert [frame.WhichOneof("request") for frame in frames] == ["received", "outcomes", "credit"]
    assert list(frames[0].received.lease_ids) == [1, 2, 3]
    assert [one.lease_id for one in frames[1].outcomes.outcomes] == [1, 2, 3]
    assert not box


def test_a_heartbeat_goes_before_all_that_waits() -> None:
    box = Outbox()
    box.outcome(success(1))
    box.heartbeat = worker_pb2.Heartbeat(sequence=7)

    assert written(box) == ["heartbeat", "outcomes"]


def test_an_outcome_is_kept_until_it_is_acknowledged() -> None:
    box = Outbox()
    box.outcome(success(1))
    box.outcome(success(2))
    written(box)
    assert not box.settled

    box.acked([1])
    box.broken()

    [frame] = box.frames()
    assert [one.lease_id for one in frame.outcomes.outcomes] == [2]
    box.acked([2])
    assert box.settled


def test_outcomes_of_a_broken_stream_go_before_newer_ones() -> None:
    box = Outbox()
    box.outcome(success(1))
    written(box)
    box.outcome(success(2))

    box.broken()

    [frame] = box.frames()
    assert [one.lease_id for one in frame.outcomes.outcomes] == [1, 2]


def test_nothing_is_said_of_a_lost_lease() -> None:
    box = Outbox()
    box.received += [1, 2]
    box.outcome(success(1))
    box.report(worker_pb2.LeaseProgress(lease_id=1, checkpoint=b"x"))
    box.outcome(success(2))

    box.forget([1])

    received, sent = box.frames()
    assert list(received.received.lease_ids) == [2]
    assert [one.lease_id for one in sent.outcomes.outcomes] == [2]


def test_a_large_outcome_has_a_frame_for_itself() -> None:
    box = Outbox()
    large = bytes(outbox.FRAME_BYTES_SOFT)
    for lease_id, data in enumerate([b"", large, large, b""]):
        box.outcome(success(lease_id, data))

    frames = list(box.frames())

    assert [[one.lease_id for one in frame.outcomes.outcomes] for frame in frames] == [[0], [1], [2], [3]]


def test_frames_keep_the_limits_of_the_broker() -> None:
    box = Outbox()
    count = outbox.OUTCOMES_MAX + 1
    box.received += range(count)
    for lease_id in range(count):
        box.outcome(success(lease_id))
        box.progress[lease_id] = worker_pb2.LeaseProgress(lease_id=lease_id)
    box.credit = outbox.CREDIT_MAX + 1

    frames = list(box.frames())

    assert [len(f.received.lease_ids) for f in frames if f.HasField("received")] == [count - 1, 1]
    assert [len(f.outcomes.outcomes) for f in frames if f.HasField("outcomes")] == [count - 1, 1]
    assert {len(f.progress.tasks) for f in frames if f.HasField("progress")} == {outbox.PROGRESS_MAX, 1}
    assert [f.credit.tasks for f in frames if f.HasField("credit")] == [outbox.CREDIT_MAX, 1]


def test_of_several_reports_the_newest_goes_and_no_checkpoint_is_forgotten() -> None:
    box = Outbox()
    box.report(worker_pb2.LeaseProgress(lease_id=1, fraction=0.1, checkpoint=b"first"))
    box.report(worker_pb2.LeaseProgress(lease_id=1, fraction=0.2))

    [frame] = box.frames()

    [progress] = frame.progress.tasks
    assert (progress.fraction, progress.checkpoint) == (0.2, b"first")


def test_a_checkpoint_goes_before_the_failure_of_its_task_and_not_before_its_success() -> None:
    box = Outbox()
    for lease_id in (1, 2):
        box.report(worker_pb2.LeaseProgress(lease_id=lease_id, checkpoint=b"x"))

    box.outcome(success(1))
    box.outcome(outcomes.failed(2, "ValueError", "no"))

    progress, _ = box.frames()
    assert [one.lease_id for one in progress.progress.tasks] == [2]


def test_a_drain_is_said_once_to_each_stream() -> None:
    box = Outbox()
    box.drain_within_s = 1.5
    assert not box.settled
    [frame] = box.frames()
    assert frame.drain.within.ToMilliseconds() == 1500
    assert (box.settled, written(box)) == (True, [])

    box.broken()

    assert written(box) == ["drain"]
