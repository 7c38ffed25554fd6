"""Settings, queues and tasks that change while leases and outcomes are on their way into the log."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from node.commands import Command, plain
from taskraft.internal.v1 import command_pb2 as internal
from taskraft.v1 import queue_pb2, worker_pb2
from tests.node.scheduling import House, SimpleWorker, cancelled, changed, house, retried, submitted

FAIR = queue_pb2.SCHEDULING_POLICY_FAIR_SHARE


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as found:
        yield found


@pytest.mark.parametrize(
    ("before", "after"), [({"policy": FAIR}, {"tenant_weights": {"t": 2.0}}), ({}, {"policy": FAIR})]
)
def test_settings_may_change_while_an_outcome_is_on_its_way(
    home: House, before: dict[str, Any], after: dict[str, Any]
) -> None:
    home.queue(**before)
    worker = home.worker(credit=2)
    home.submit("a", tenant="t")
    worker.receive()
    worker.send_results()
    proposed = home.propose()

    home.apply(changed(**after))
    home.commit(proposed)
    home.submit("b", tenant="t")

    assert home.state("a") == "SUCCEEDED"
    assert home.state("b") == "LEASED"


def test_a_task_that_is_cancelled_and_retried_while_its_lease_is_on_its_way_waits_again(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    home.apply(submitted("a"))
    proposed = home.propose()

    home.apply(cancelled("a"))
    home.commit(proposed, then=[retried("a")])

    assert worker.receive() == ["a"]


def test_a_task_that_is_replaced_while_its_lease_is_on_its_way_goes_to_whoever_can_run_it(
    home: House,
) -> None:
    home.queue()
    worker = home.worker("w1", credit=1, types=["job"])
    home.apply(submitted("a"))
    proposed = home.propose()

    home.apply(submitted("a", kind="other", priority=1))
    home.commit(proposed)
    other = home.worker("w2", credit=1, types=["other"])
    home.submit("b")

    assert other.receive() == ["a"]
    assert worker.receive() == ["b"]


def test_a_task_whose_queue_changes_while_its_lease_is_on_its_way_is_leased_once(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    home.apply(submitted("a"))
    proposed = home.propose()
    home.apply(changed(backoff=Duration(seconds=7)))

    home.scheduler.pump()
    home.commit(proposed)
    worker.receive()
    worker.say(credit=worker_pb2.WorkCredit(tasks=1))
    assert home.propose() == []
    (lease_id,) = worker.held
    worker.give_up(lease_id, worker_pb2.REVOKE_REASON_UNSPECIFIED)

    assert worker.receive() == ["a"]


def test_a_queue_that_is_deleted_and_made_again_has_its_workers_again(home: House) -> None:
    home.queue()
    worker = home.worker(credit=1)
    home.command(delete_queue=internal.DeleteQueue(name="queues/work"))

    home.queue()
    home.submit("a")

    assert worker.receive() == ["a"]


def test_what_is_purged_uses_up_no_rate(home: House) -> None:
    home.queue(rate=queue_pb2.RateLimit(per_second=1, burst=1))
    worker = home.worker(credit=2)
    home.submit(*(f"old{place}" for place in range(50)))
    assert worker.receive() == ["old0"]
    home.command(purge_queue=internal.PurgeQueue(name="queues/work"))
    worker.succeed()

    home.submit("new")
    home.tick(1_100)

    assert worker.receive() == ["new"]


def test_nothing_is_remembered_of_tenants_that_are_gone(home: House) -> None:
    home.queue(policy=FAIR)
    worker = home.worker(credit=100)
    for place in range(100):
        home.apply(submitted(f"a{place}", tenant=f"t{place}"))
    home.settle()
    worker.receive()
    worker.succeed()

    home.tick(70_000)

    (queue,) = home.scheduler.queues.values()
    assert not list(queue.lanes)
    assert not queue.lanes._by_tenant


# Workers that are kept for a task -------------------------------------------------------------------------------------


@pytest.fixture
def keeping(home: House) -> SimpleWorker:
    """A worker that is kept for `huge`, which needs all of it, while `long` runs there and `small` has to wait."""
    home.queue("big")
    home.queue("small")
    worker = home.worker(credit=10, queues=("big", "small"), capacity={"cpu": 4})
    home.submit("long", queue="small", resources={"cpu": 2}, size=Duration(seconds=3_600))
    worker.receive()
    home.submit("huge", queue="big", resources={"cpu": 4})
    home.tick(1_500)
    worker.credit(1)
    home.submit("small", queue="small", resources={"cpu": 1}, size=Duration(seconds=7_200))
    assert home.state("small") == "QUEUED"
    return worker


@pytest.mark.parametrize(
    "command",
    [
        changed("big", paused=True),
        cancelled("huge"),
        plain(internal.Command(purge_queue=internal.PurgeQueue(name="queues/big"))),
        plain(internal.Command(delete_queue=internal.DeleteQueue(name="queues/big"))),
    ],
    ids=["paused", "cancelled", "purged", "deleted"],
)
def test_no_worker_is_kept_for_what_will_not_start(
    home: House, keeping: SimpleWorker, command: Command
) -> None:
    home.apply(command)
    home.settle()

    assert keeping.receive() == ["long", "small"]


def test_a_task_that_a_worker_is_kept_for_starts_at_another_one_that_comes(
    home: House, keeping: SimpleWorker
) -> None:
    other = home.worker("w2", credit=1, queues=("big",), capacity={"cpu": 4})

    assert other.receive() == ["huge"]
    assert keeping.receive() == ["long", "small"]
