import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from node.tasks.explain import Case, obstacles
from node.tasks.limits import Concurrency, Rates
from node.tasks.reasons import Reason
from node.tasks.reservations import Reservations
from taskraft.internal.v1.command_pb2 import Demand
from taskraft.v1 import task_pb2
from taskraft.v1.queue_pb2 import RateLimit, Scheduling
from tests.node.toy_workers import ToyWorker, worker

NOON_MS = 1_800_000_000_000 + 43_200_000  # 2027-01-15T20:00:00Z
QUEUE = 1


class Desk:
    """A queue without limits, for one task; a test puts things in its way."""

    def __init__(self) -> None:
        self.demand = Demand(type="render", limit_key="k")
        self.concurrency, self.rates, self.reservations = (
            Concurrency(0, 0),
            Rates(Scheduling()),
            Reservations(),
        )
        self.workers: list[ToyWorker] = []

    def asks(self, **resources: float) -> "Desk":
        self.demand.resources.update(resources)
        return self

    def labelled(self, **labels: str) -> "Desk":
        self.demand.worker_labels.update(labels)
        return self

    def at(self, *workers: ToyWorker) -> "Desk":
        self.workers += workers
        return self

    def explain(
        self,
        state: int = task_pb2.TASK_STATE_QUEUED,
        *,
        paused: bool = False,
        attempt: int = 0,
        due_ms: int = 0,
        waits_for: Sequence[str] = (),
        tasks_open: int = 0,
        ahead: int = 0,
    ) -> list[task_pb2.Obstacle]:
        case = Case(
            state=state,
            number=7,
            queue_id=QUEUE,
            demand=self.demand,
            limit_key=self.demand.limit_key,
            size_ms=1_000,
            attempt=attempt,
            due_ms=due_ms,
            open_tasks=tasks_open,
            open_names=waits_for,
            tasks_ahead=ahead,
            paused=paused,
            workers=self.workers,
        )
        return obstacles(
            case,
            concurrency=self.concurrency,
            rates=self.rates,
            reservations=self.reservations,
            now_ms=500,
            wall_ms=NOON_MS,
        )


def only(found: list[task_pb2.Obstacle], reason: Reason) -> tuple[str, dict[str, str]]:
    assert [one.reason for one in found] == [reason]
    return found[0].message, dict(found[0].metadata)


def reasons(found: list[task_pb2.Obstacle]) -> list[str]:
    return [one.reason for one in found]


# Not ready ------------------------------------------------------------------------------------------------------------


def test_a_blocked_task_names_what_it_waits_for() -> None:
    found = (
        Desk()
        .at(worker())
        .explain(task_pb2.TASK_STATE_BLOCKED, waits_for=["tasks/a", "tasks/b"], tasks_open=5)
    )

    message, metadata = only(found, Reason.DEPENDENCY)
    assert message == "it waits for tasks/a, tasks/b and 3 more tasks"
    assert metadata == {"task": "tasks/a", "tasks": "5"}


def test_a_blocked_task_may_have_to_wait_for_its_time_too() -> None:
    found = Desk().at(worker()).explain(task_pb2.TASK_STATE_BLOCKED, tasks_open=1, due_ms=NOON_MS + 1)

    assert reasons(found) == ["DEPENDENCY", "NOT_BEFORE"]
    assert found[0].message == "it waits for 1 task"


def test_a_delayed_task_says_until_when() -> None:
    found = Desk().at(worker()).explain(task_pb2.TASK_STATE_DELAYED, due_ms=NOON_MS + 90_500)

    message, metadata = only(found, Reason.NOT_BEFORE)
    assert metadata == {"time": "2027-01-15T20:01:30.500Z"}
    assert metadata["time"] in message


def test_a_task_between_two_attempts_says_which() -> None:
    found = Desk().at(worker()).explain(task_pb2.TASK_STATE_DELAYED, due_ms=NOON_MS + 1_000, attempt=2)

    message, metadata = only(found, Reason.BACKOFF)
    assert message == "attempt 2 failed, and the next one is due at 2027-01-15T20:00:01.000Z"
    assert metadata == {"attempt": "2", "time": "2027-01-15T20:00:01.000Z"}


@pytest.mark.parametrize(
    "state", [task_pb2.TASK_STATE_LEASED, task_pb2.TASK_STATE_RUNNING, task_pb2.TASK_STATE_SUCCEEDED]
)
def test_a_task_that_runs_or_has_ended_has_no_obstacles(state: int) -> None:
    assert Desk().explain(state, paused=True, ahead=3) == []


def test_a_task_that_is_about_to_start_has_none_either() -> None:
    assert Desk().at(worker()).explain() == []


# No worker for it -----------------------------------------------------------------------------------------------------


def test_nobody_is_there() -> None:
    only(Desk().explain(), Reason.NO_WORKER)


def test_nobody_runs_its_type() -> None:
    other = worker()
    other.types = frozenset({"encode"})

    assert only(Desk().at(other).explain(), Reason.NO_WORKER_FOR_TYPE)[1] == {"type": "render"}


def test_the_labels_that_the_nearest_worker_lacks_are_named() -> None:
    far, near, other_type = worker(), worker(), worker()
    near.labels = {"zone": "a", "disk": "hdd"}
    other_type.types = frozenset({"encode"})

    found = Desk().labelled(zone="a", disk="ssd").at(far, near, other_type).explain()

    assert only(found, Reason.WORKER_LABELS)[1] == {"label": "disk=ssd"}


def test_the_resource_that_nobody_has_is_named_with_the_most_there_is() -> None:
    found = Desk().asks(gpu=4.0, cpu=1.0).at(worker(gpu=1.0, cpu=8.0), worker(gpu=2.5, cpu=8.0)).explain()

    message, metadata = only(found, Reason.RESOURCES)
    assert message == "it takes 4 gpu, and no worker for it has more than 2.5"
    assert metadata == {"resource": "gpu", "asked": "4", "most": "2.5"}


def test_resources_may_be_there_but_not_together() -> None:
    found = Desk().asks(gpu=1.0, cpu=4.0).at(worker(gpu=1.0), worker(cpu=8.0)).explain()

    assert "at once" in only(found, Reason.RESOURCES)[0]


def test_what_no_worker_can_run_is_told_before_it_is_ready_too() -> None:
    found = Desk().explain(task_pb2.TASK_STATE_BLOCKED, tasks_open=1, paused=True)

    assert reasons(found) == ["DEPENDENCY", "QUEUE_PAUSED", "NO_WORKER"]


def test_what_changes_with_every_task_is_not_told_before_it_is_ready() -> None:
    busy = worker(slots=1)
    busy.start(1, {})
    desk = Desk().at(busy)
    desk.concurrency = Concurrency(1, 0)
    desk.concurrency.started("k")

    assert reasons(desk.explain(task_pb2.TASK_STATE_BLOCKED, tasks_open=1, ahead=3)) == ["DEPENDENCY"]


# Limits ---------------------------------------------------------------------------------------------------------------


def test_a_limit_of_the_queue_or_of_the_key_is_named() -> None:
    desk = Desk().at(worker())
    desk.concurrency = Concurrency(0, 1)
    desk.concurrency.started("k")
    assert only(desk.explain(), Reason.CONCURRENCY_LIMIT_KEY)[1] == {"limit": "1", "key": "k"}

    desk.concurrency = Concurrency(1, 1)
    desk.concurrency.started("other")
    assert only(desk.explain(), Reason.CONCURRENCY_LIMIT)[1] == {"limit": "1"}


def test_rates_say_when_the_next_task_may_start() -> None:
    desk = Desk().at(worker())
    limit = RateLimit(per_second=2)
    desk.rates = Rates(Scheduling(rate=limit, rate_per_key=limit))
    desk.rates.take("k", 400)

    found = desk.explain()

    assert reasons(found) == ["RATE_LIMIT", "RATE_LIMIT_KEY"]
    assert dict(found[0].metadata) == {"time": "2027-01-15T20:00:00.400Z"}
    assert dict(found[1].metadata) == {"time": "2027-01-15T20:00:00.400Z", "key": "k"}


# Busy workers ---------------------------------------------------------------------------------------------------------


def test_all_workers_have_as_much_as_they_want() -> None:
    busy = worker(slots=1)
    busy.start(1, {})

    assert only(Desk().at(busy).explain(), Reason.WORKERS_BUSY)[1] == {"workers": "1"}


def test_the_resource_that_is_taken_is_named_with_what_is_free() -> None:
    one, two = worker(gpu=4.0), worker(gpu=2.0)
    one.start(1, {"gpu": 3.0})
    two.start(2, {"gpu": 0.5})

    message, metadata = only(Desk().asks(gpu=2.0).at(one, two).explain(), Reason.RESOURCES_BUSY)

    assert message == "it takes 2 gpu, and no worker for it has more than 1.5 free"
    assert metadata == {"resource": "gpu", "asked": "2", "free": "1.5"}


def test_resources_may_be_free_but_not_together() -> None:
    one, two = worker(gpu=1.0, cpu=4.0), worker(gpu=1.0, cpu=4.0)
    one.start(1, {"gpu": 1.0})
    two.start(2, {"cpu": 1.0})

    assert "at once" in only(Desk().asks(gpu=1.0, cpu=4.0).at(one, two).explain(), Reason.RESOURCES_BUSY)[0]


def test_some_want_no_more_and_others_have_too_little_free() -> None:
    full, short = worker(slots=1, gpu=2.0), worker(gpu=2.0)
    full.start(1, {})
    short.start(2, {"gpu": 1.0})

    assert reasons(Desk().asks(gpu=2.0).at(full, short).explain()) == ["RESOURCES_BUSY", "WORKERS_BUSY"]


def test_a_worker_with_room_that_is_kept_for_another_task_is_named() -> None:
    one = worker("w1", cpu=4.0)
    one.start(1, {"cpu": 2.0}, end_ms=900)
    desk = Desk().asks(cpu=2.0).at(one)
    desk.reservations.reserve(QUEUE, 3, {"cpu": 4.0}, [(one, one.taken())], 500)

    assert only(desk.explain(), Reason.RESERVED)[1] == {"worker": "w1"}
    assert desk.at(worker("w2", cpu=2.0)).explain() == []


def test_a_task_behind_others_says_behind_how_many() -> None:
    found = Desk().at(worker()).explain(ahead=12)

    assert only(found, Reason.BEHIND_OTHERS) == ("12 tasks of its queue come first", {"tasks": "12"})


def test_what_people_must_change_comes_before_what_time_will() -> None:
    desk = Desk().at(worker())
    desk.concurrency = Concurrency(1, 0)
    desk.concurrency.started("k")

    assert reasons(desk.explain(ahead=1, paused=True)) == [
        "QUEUE_PAUSED",
        "CONCURRENCY_LIMIT",
        "BEHIND_OTHERS",
    ]


def test_reasons_are_those_of_the_contract() -> None:
    contract = Path(__file__).parents[2].joinpath("proto/taskraft/v1/task.proto").read_text()
    listed = contract.split("message Obstacle {")[1].split("string reason")[0]

    assert set(re.findall(r"[A-Z]+(?:_[A-Z]+)*(?=[,.])", listed)) == set(Reason)
