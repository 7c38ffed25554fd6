"""What a leader knows of tasks from events alone, to be compared with what the state says."""

from collections.abc import Sequence
from typing import Any

from node.state.listener import Silence
from node.state.machine import Machine
from node.state.task_rows import Leased, ReadyTask, Settled, TaskRow


class Mirror(Silence):
    """Waiting and leased tasks as the events tell; `told` are all of them, in their order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.ready: dict[tuple[int, int], dict[int, ReadyTask]] = {}
        self.leased: dict[int, Leased] = {}
        self.settled: list[Settled] = []
        self.states: dict[int, int] = {}

    def tasks_ready(self, queue_id: int, lane_id: int, tasks: Sequence[ReadyTask]) -> None:
        self.told.append(("ready", lane_id, [task.number for task in tasks]))
        lane = self.ready.setdefault((queue_id, lane_id), {})
        for task in tasks:
            assert task.number not in lane, "told twice"
            lane[task.number] = task

    def tasks_unready(self, queue_id: int, lane_id: int, tasks: Sequence[tuple[int, int]]) -> None:
        self.told.append(("unready", lane_id, [number for _, number in tasks]))
        for key, number in tasks:
            assert self.ready[queue_id, lane_id].pop(number).key == key

    def tasks_purged(self, queue_id: int) -> None:
        self.told.append(("purged", queue_id))
        self._drop_waiting(queue_id)

    def tasks_leased(self, leases: Sequence[Leased]) -> None:
        self.told.append(("leased", [lease.number for lease in leases]))
        for lease in leases:
            del self.ready[lease.queue_id, lease.lane_id][lease.number]
            self.leased[lease.lease_id] = lease

    def tasks_settled(self, queue_id: int, settled: Sequence[Settled]) -> None:
        self.told.append(("settled", [one.number for one in settled]))
        for one in settled:
            lease = self.leased.pop(one.lease_id)
            assert (lease.number, lease.lane_id, lease.queue_id) == (one.number, one.lane_id, queue_id)
        self.settled += settled

    def tasks_changed(self, rows: Sequence[TaskRow]) -> None:
        numbers = [row.number for row in rows]
        self.told.append(("changed", numbers))
        assert len(set(numbers)) == len(numbers), "told twice"
        self.states.update((row.number, row.state) for row in rows)

    def queue_deleted(self, queue_id: int) -> None:
        self.told.append(("deleted", queue_id))
        self._drop_waiting(queue_id)
        self.leased = {
            lease_id: lease for lease_id, lease in self.leased.items() if lease.queue_id != queue_id
        }

    def lane_gone(self, queue_id: int, lane_id: int) -> None:
        self.told.append(("gone", lane_id))
        assert not self.ready.pop((queue_id, lane_id), None), "tasks wait in it"

    def _drop_waiting(self, queue_id: int) -> None:
        self.ready = {place: tasks for place, tasks in self.ready.items() if place[0] != queue_id}

    def compare(self, machine: Machine) -> None:
        """The state says the same."""
        waiting = {
            (row.id, lane.id): {task.number: task for task in machine.ready(lane.id, None, -1)}
            for row in machine.queues()
            for lane in machine.lanes(row.id)
        }
        assert {place: tasks for place, tasks in self.ready.items() if tasks} == waiting
        assert {lease_id: as_leased(lease) for lease_id, lease in self.leased.items()} == {
            lease.lease_id: as_leased(lease) for lease in machine.leased_tasks()
        }


def as_leased(lease: Leased) -> Leased:
    """The lease without what may come while it lasts."""
    return lease._replace(has_checkpoint=False)
