"""A node put together: the state machine and the replicated log it is given, and all that serves them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from node import disk as disks
from node.api.cluster import Cluster
from node.api.forward import Forwarder
from node.api.groups import Groups
from node.api.locks import Locks
from node.api.peeking import Peeking
from node.api.publishing import Publishing
from node.api.queues import Queues
from node.api.redriving import Redriving
from node.api.schedules import Schedules
from node.api.server import LEADER, READY, WRITABLE, GrpcServer, Service, methods
from node.api.streams import Streams
from node.api.task_streams import TaskStreams
from node.api.task_views import Views
from node.api.tasks import Tasks
from node.api.transactions import Transactions
from node.api.work import Work
from node.api.workers import Workers
from node.broker import Broker
from node.clock import Clock
from node.disk import Disk
from node.dispatch.dispatcher import Dispatcher
from node.dispatch.upkeep import Upkeep
from node.leadership import Leadership
from node.locking import Locking
from node.replication import Replicated
from node.settings import Settings
from node.state.machine import Machine
from node.state.rows import QueueRow
from node.tasking import Tasking
from node.tasks.pump import Pump
from node.web.metrics import Metrics, QueueReading, Readings
from node.web.task_metrics import TaskQueueReading
from raft.errors import RaftError
from taskraft.v1 import queue_pb2

_log = logging.getLogger(__name__)

SETTLE_S = 2.0  # how long a stopping leader waits for what is on its way to a commit
HAND_OVER_S = 2.0
POLL_S = 0.01


class Voice:
    """Lets the state machine tell of every task while this node leads: on others nobody listens."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        machine.silent = True

    def lead(self, term: int) -> None:
        self._machine.silent = False

    def follow(self) -> None:
        self._machine.silent = True


class Node:
    """Everything of one node but its disk, its log and its state, which it is given open.

    `stopping` is set by `stop`; `failed` gets the exception of a mistake of ours after which the node must end.
    """

    def __init__(
        self,
        settings: Settings,
        machine: Machine,
        replica: Replicated,
        *,
        disk: Disk,
        clock: Clock,
        metrics: Metrics,
        server_class: type[GrpcServer] = GrpcServer,
    ) -> None:
        self.stopping = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.machine, self.replica, self.metrics = machine, replica, metrics
        self.disk = disk
        self._elections = 0
        self.leadership = Leadership(replica)
        self.broker = Broker(
            replica, clock=clock, inflight_bytes_max=settings.publish_inflight_bytes_max, fail=self._fail
        )
        self.dispatcher = Dispatcher(
            machine,
            clock=clock,
            metrics=metrics,
            wake=self.broker.wake,
            not_leader=self.leadership.not_leader,
            fail=self._fail,
        )
        self.broker.draw_from(self.dispatcher.commands)
        self.leadership.tell(Voice(machine), self.dispatcher)
        machine.listeners = [self.dispatcher]
        machine.on_fault = _log_fault
        self.tasking = Tasking(
            machine,
            clock=clock,
            broker=self.broker,
            leadership=self.leadership,
            metrics=metrics,
            fail=self._fail,
        )
        self.locking = Locking(
            machine,
            clock=clock,
            broker=self.broker,
            replica=replica,
            leadership=self.leadership,
            fail=self._fail,
        )
        pump = Pump(clock=clock, fail=self._fail)
        self.upkeep = Upkeep(
            machine, clock=clock, spared=self.dispatcher.spared, touch=pump.touch, wake=self.broker.wake
        )
        pump.drive(self.upkeep.pump)
        self.broker.draw_from(self.upkeep.commands)
        self.leadership.tell(self.upkeep)
        machine.listeners.append(self.upkeep)
        self._clock = clock
        self._forwarder = Forwarder(settings.node_id)
        self.grpc = server_class(
            settings.grpc_listen,
            methods(*self._services(settings)),
            leadership=self.leadership,
            forwarder=self._forwarder,
            metrics=metrics,
        )

    def _services(self, settings: Settings) -> Iterator[Service]:
        """All that answers calls."""
        machine, tasking, leadership, replica = self.machine, self.tasking, self.leadership, self.replica
        disk_low = self.disk.is_low
        queues = Queues(
            rows=machine,
            broker=self.broker,
            dispatcher=self.dispatcher,
            replica=replica,
            clock=self._clock,
            message_bytes_max=settings.message_bytes_max,
            disk_low=disk_low,
            describe=tasking.describe,
        )
        yield queues
        publishing = Publishing(queues, machine, self.metrics, settings.message_bytes_max)
        yield publishing
        yield Peeking(queues, machine)
        yield Redriving(queues, machine)
        groups = Groups(rows=machine, queues=queues, replica=replica)
        yield groups
        yield Streams(publishing, groups, leadership, self.stopping)
        yield Cluster(replica, leadership, name=settings.cluster, stopping=self.stopping)
        views = Views(machine, tasking.scheduler.received)
        tasks = Tasks(
            state=machine,
            views=views,
            chooser=tasking,
            broker=self.broker,
            replica=replica,
            disk_low=disk_low,
        )
        yield tasks
        yield Transactions(publishing, tasks, task=machine.task, replica=replica, metrics=self.metrics)
        yield TaskStreams(state=machine, views=views, watchers=tasking.watchers, replica=replica)
        yield Schedules(
            state=machine, broker=self.broker, replica=replica, clock=self._clock, disk_low=disk_low
        )
        yield Locks(
            state=machine, locking=self.locking, broker=self.broker, replica=replica, disk_low=disk_low
        )
        yield Workers(tasking, replica)
        yield Work(tasking.scheduler, leadership)

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def start(self) -> None:
        """Serve. OSError if the port is taken."""
        await self.grpc.start()

    async def stop(self, grace_s: float) -> None:
        """Stop serving: let what is on its way be committed, hand leadership over, tell streams where to go on."""
        self.stopping.set()
        self.broker.stop()
        self.dispatcher.stop()
        self.tasking.stop()
        self.locking.stop()
        await self._settled()
        if self.leadership.term is not None and len(self.replica.status.members) > 1:
            try:
                leader = await self.replica.transfer_leadership(None, HAND_OVER_S)
                _log.info("leadership_handed_over", extra={"fields": {"to": leader}})
            except (RaftError, TimeoutError) as error:
                _log.warning("leadership_not_handed_over", extra={"fields": {"why": str(error)}})
        self.leadership.announce()
        await self.grpc.stop(grace_s)
        await self._forwarder.close()

    async def _settled(self) -> None:
        """Wait until all acknowledgements and publishes are answered, but not long."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + SETTLE_S
        while (self.dispatcher.busy or self.tasking.busy or not self.broker.idle) and loop.time() < until_s:
            if self.leadership.term is None:
                return
            await asyncio.sleep(POLL_S)

    # Background ---------------------------------------------------------------------------------------------------

    async def watch_disk(self) -> None:
        await disks.watch(
            self.disk,
            leadership=self.leadership,
            replica=self.replica,
            writable=WRITABLE,
            say=self.grpc.say,
        )

    async def tell_health(self) -> None:
        """Keep the standard health service true."""
        told: tuple[bool, bool] | None = None
        while True:
            now = (self.ready()[0], self.leadership.term is not None)
            if now != told:
                told = now
                await self.grpc.say(READY, now[0])
                await self.grpc.say(LEADER, now[1])
            await self.leadership.changed(disks.LOOK_S)

    # What others ask ----------------------------------------------------------------------------------------------

    def ready(self) -> tuple[bool, str]:
        """Whether this node can serve, and why not."""
        if self.stopping.is_set():
            return False, "stopping"
        if self.leadership.term is not None:
            return True, "leads"
        if self.leadership.leader_endpoint:
            return True, "follows"
        return False, "no leader is known"

    def readings(self) -> Readings:
        """What the metrics page shows of this moment."""
        status = self.replica.status
        self.metrics.elections.inc(self.replica.elections - self._elections)
        self._elections = self.replica.elections
        return Readings(
            raft_term=status.term,
            raft_is_leader=self.leadership.term is not None,
            raft_commit_lag_entries=max(0, status.commit - status.applied),
            log_bytes=status.log_bytes,
            disk_free_bytes=self.disk.free_bytes,
            leases_active=self.dispatcher.leases,
            grpc_streams_open=self.grpc.router.streams_open,
            publish_inflight_bytes=self.broker.inflight_bytes,
            queues=self._queue_readings(),
            task_queues=self._task_queue_readings(),
        )

    def _queue_readings(self) -> Iterator[QueueReading]:
        now_ms = self._clock.wall_ms()
        for row in self.machine.queues():
            if row.config.kind == queue_pb2.QUEUE_KIND_TASK:
                continue
            leased, (put_off, parked) = self.dispatcher.leased(row.id), self.dispatcher.waiting(row.id)
            yield QueueReading(
                row.name,
                max(0, row.messages - leased - put_off - parked),
                leased,
                self._oldest_age_s(row, now_ms),
                put_off + row.extra.delayed_messages,
                parked,
            )

    def _task_queue_readings(self) -> Iterator[TaskQueueReading]:
        for row in self.machine.queues():
            if row.config.kind == queue_pb2.QUEUE_KIND_TASK:
                yield self.tasking.reading(row)

    def _oldest_age_s(self, row: QueueRow, now_ms: int) -> float:
        oldest_ms = self.machine.oldest_ms(row.id)
        return max(0, now_ms - oldest_ms) / 1000 if oldest_ms is not None else 0.0


def _log_fault(index: int, ordinal: int, error: Exception) -> None:
    _log.error("command_failed", extra={"fields": {"index": index, "ordinal": ordinal}}, exc_info=error)
