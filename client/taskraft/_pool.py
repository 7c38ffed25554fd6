"""Channels to the nodes, and who of them leads.

All requests go to the leader. Who that is comes from the nodes themselves: from the leader_endpoint of a NOT_LEADER
answer, or, when nothing is known, from asking all nodes at once and believing the one that says "I lead" in the
highest term. A dead node costs nothing: nobody waits for it longer than the others need.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import grpc

from taskraft import _failures, _limits, errors
from taskraft._retry import Deadline, is_transient
from taskraft.v1 import cluster_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.enable_retries", 0),  # we retry ourselves, with the same request_id
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", _limits.KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _limits.KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", _limits.RECEIVE_BYTES_MAX),
    ("grpc.max_send_message_length", _limits.RECEIVE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # how long one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
_REFUSED = "connection refused"
_HINT = (
    "Is a broker running there? `taskraft up` starts a cluster; TASKRAFT_ADDRESS or the addresses of App and Client say "
    "where one is"
)
_CONNECTING = re.compile(r"failed to connect to all addresses; last error: \w+: \S+ ")


class Pool:
    """One channel per node; created in a running event loop, used by its tasks only.

    `direct` is False where nodes can only be reached through a load balancer or a forwarded port: requests go to
    any node that knows a leader then, which passes them on, and announced addresses are not used.

    Invariant: `leader` is the address that said it leads in the highest term seen, until a call to it fails.
    """

    def __init__(
        self, addresses: Iterable[str], credentials: grpc.ChannelCredentials | None, *, direct: bool
    ) -> None:
        self.addresses = list(dict.fromkeys(addresses))
        self.direct = direct
        self.metadata = (("taskraft-direct", "1"),) if direct else ()
        assert self.addresses
        self._credentials = credentials
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._leader: str | None = None
        self._term = 0
        self._search: asyncio.Task[None] | None = None
        self._refresh: asyncio.TimerHandle | None = None
        self._moved = asyncio.Event()
        self._refused = False
        self.closed = False
        self.reached = False
        """True if any node ever answered; until then nothing that was asked for can have been done."""
        self.trouble: errors.TaskraftError | None = None
        """Why the last search found no leader; None if it found one."""

    @property
    def leader(self) -> str | None:
        return self._leader

    def channel(self, address: str) -> grpc.aio.Channel:
        if self.closed:
            raise errors.ClientClosed
        channel = self._channels.get(address)
        if channel is None:
            if self._credentials is None:
                channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
            else:
                channel = grpc.aio.secure_channel(address, self._credentials, options=_OPTIONS)
            self._channels[address] = channel
        return channel

    def suspect(self, address: str) -> None:
        """A call to this node failed: ask again who leads before the next call."""
        if self._leader == address:
            self._leader = None

    def follow(self, endpoint: str, term: int | None = None) -> None:
        """A node said that `endpoint` leads, in `term` if it said that."""
        if endpoint and self.direct and (term is None or term >= self._term):
            moved = endpoint != self._leader
            self._lead(endpoint, term or self._term)
            if moved and not self.closed:
                self._searching()  # a new leader may have members that are new to us

    def heed(self, error: errors.TaskraftError, address: str) -> None:
        """Draw from the failure of a call to `address` what it says about the leader."""
        if isinstance(error, errors.NotLeader):
            self.suspect(address)
            term = error.metadata.get("term", "")
            if error.leader_endpoint != address:
                self.follow(error.leader_endpoint, int(term) if term.isdecimal() else None)
        elif is_transient(error) and not isinstance(error, errors.Overloaded):
            self.suspect(address)

    async def find(self, deadline: Deadline) -> str:
        """The leader's address; searches until the deadline and raises NoLeader or Unavailable then.

        Unavailable after NOBODY_S if no node was ever reached and all of them refuse connections.
        """
        patience = Deadline(_limits.NOBODY_S)
        while self._leader is None:
            if self.closed:
                raise errors.ClientClosed
            left_s = deadline.left_s()
            nobody = self._refused and not self.reached and patience.left_s() <= 0
            if left_s <= 0 or nobody:
                raise _failures.copy(self.trouble or errors.NoLeader())
            try:
                async with asyncio.timeout(left_s):
                    await asyncio.shield(self._searching())
            except (TimeoutError, errors.Unavailable):
                pass  # a search that has ended left its trouble
            if self._leader is None:
                await asyncio.sleep(min(_limits.PROBE_PAUSE_S, max(0.0, left_s)))
        return self._leader

    async def moved_from(self, address: str) -> None:
        """Return as soon as another node than `address` is known to lead."""
        while self._leader is None or self._leader == address:
            await self._moved.wait()

    async def check(self) -> None:
        """Ask all nodes who leads, although a leader is known: it may be frozen or cut off."""
        try:
            await asyncio.shield(self._searching())
        except errors.TaskraftError:
            return

    async def survey(self, timeout_s: float) -> list[cluster_pb2.Cluster]:
        """What each node that can be reached says of the cluster; raises Unavailable if none answers."""
        answers = await asyncio.gather(*(self._ask(address, timeout_s) for address in self.addresses))
        if clusters := [answer for answer in answers if isinstance(answer, cluster_pb2.Cluster)]:
            return clusters
        raise _nobody(
            [f"{address}: {answer}" for address, answer in zip(self.addresses, answers, strict=False)]
        )

    def explain(self, what: str, timeout_s: float) -> errors.TaskraftError | None:
        """Why `what` in `timeout_s`, if no leader can be found at the moment."""
        if self._leader is not None or self.trouble is None:
            return None
        error = _failures.copy(self.trouble)
        error.message = f"{what} in {round(timeout_s, 1):g} s: {error.message}"
        error.args = (error.message,)
        return error

    def _searching(self) -> asyncio.Task[None]:
        """The search that is on, or a new one: however many calls wait, the nodes are asked once."""
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._race(), name="taskraft-find-leader")
            self._search.add_done_callback(_seen)
        return self._search

    async def _race(self) -> None:
        """Ask all nodes at once; end with the first that leads in a term not below the highest seen."""
        asking = {
            asyncio.create_task(self._ask(address, _limits.PROBE_S)): address for address in self.addresses
        }
        failures: list[str] = []
        claims: list[tuple[int, str]] = []
        try:
            while asking:
                done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    address, answer = asking.pop(task), task.result()
                    if not isinstance(answer, cluster_pb2.Cluster):
                        failures.append(f"{address}: {answer}")
                        continue
                    for newcomer in self._told(answer):
                        asking[asyncio.create_task(self._ask(newcomer, _limits.PROBE_S))] = newcomer
                    if not self._serves(answer):
                        continue
                    claims.append((answer.term, address))
                    if answer.term >= self._term:
                        self._lead(address, answer.term)
                        return
        finally:
            for task in asking:
                task.cancel()
        if len(failures) == len(self.addresses):
            self._refused = all(one.endswith(_REFUSED) for one in failures)
            self.trouble = _nobody(failures)
            raise self.trouble
        if claims and not failures:  # all agree on a lower term: this is another cluster than before
            self._term, address = max(claims)
            self._lead(address, self._term)
        else:
            self.trouble = errors.NoLeader()

    async def _ask(self, address: str, timeout_s: float) -> cluster_pb2.Cluster | str:
        """What a node says of the cluster, or why it says nothing."""
        ask = self.channel(address).unary_unary(
            "/taskraft.v1.ClusterService/GetCluster",
            request_serializer=cluster_pb2.GetClusterRequest.SerializeToString,
            response_deserializer=cluster_pb2.GetClusterResponse.FromString,
        )
        try:
            response = await ask(cluster_pb2.GetClusterRequest(), timeout=timeout_s, metadata=self.metadata)
        except grpc.aio.AioRpcError as error:
            return _why(error, timeout_s)
        self.reached = True
        return response.cluster

    def _told(self, cluster: cluster_pb2.Cluster) -> list[str]:
        """Addresses in this answer that were not known."""
        if not self.direct:
            return []
        return [m.grpc_address for m in cluster.members if m.grpc_address and self._learn(m.grpc_address)]

    def _serves(self, cluster: cluster_pb2.Cluster) -> bool:
        """True if requests may go to the node that says this."""
        return bool(cluster.leader_id) and (cluster.leader_id == cluster.node_id or not self.direct)

    def _learn(self, address: str) -> bool:
        if address in self.addresses:
            return False
        self.addresses.append(address)
        return True

    def _lead(self, address: str, term: int) -> None:
        self._term = max(self._term, term)
        self.trouble = None
        if self._leader != address:
            self._leader = address
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()
        self._refresh_later()

    def _refresh_later(self) -> None:
        """Ask again now and then: while the leader stays, members may come and go that we never hear of."""
        if self._refresh is not None:
            self._refresh.cancel()
        self._refresh = asyncio.get_running_loop().call_later(_limits.REFRESH_S, self._refresh_now)

    def _refresh_now(self) -> None:
        if not self.closed:
            self._searching()
            self._refresh_later()

    async def close(self) -> None:
        self.closed = True
        if self._refresh is not None:
            self._refresh.cancel()
        if self._search is not None:
            self._search.cancel()
            await asyncio.wait([self._search])
        for channel in self._channels.values():
            await channel.close()


def _why(error: grpc.aio.AioRpcError, timeout_s: float) -> str:
    """Why a node did not answer, in a few words."""
    details = _CONNECTING.sub("", error.details() or "")
    if _REFUSED in details.lower():
        return _REFUSED
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer in {timeout_s:g} s"
    return f"{error.code().name} {details}"


def _nobody(reasons: list[str]) -> errors.Unavailable:
    error = errors.Unavailable(f"no node answered ({'; '.join(sorted(reasons))})")
    error.hint = _HINT
    return error


def _seen(task: asyncio.Task[None]) -> None:
    """Take the exception of a search that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
