"""An app's connection: opened by its first use, shared by all threads and event loops of the process."""

from __future__ import annotations

import atexit
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from taskraft._bridge import Bridge
from taskraft._client import Client
from taskraft._sync import SyncClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator

_T = TypeVar("_T")


class Link:
    """A client in the loop of a bridge. After `close` the next use opens another one.

    One client for threads and loops alike: what they submit and wait for at the same time travels together.
    """

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._opened: tuple[Bridge, Client] | None = None
        atexit.register(_close, weakref.ref(self))

    def _open(self) -> tuple[Bridge, Client]:
        opened = self._opened
        if opened is None:
            with self._lock:
                if self._opened is None:
                    self._opened = (Bridge(), self._connect())
                opened = self._opened
        return opened

    def run(self, work: Callable[[Client], Coroutine[Any, Any, _T]]) -> _T:
        """The result of `work`, for a thread that may wait."""
        bridge, client = self._open()
        return bridge.run(work(client))

    async def arun(self, work: Callable[[Client], Coroutine[Any, Any, _T]]) -> _T:
        """The result of `work`, for a coroutine of any loop."""
        bridge, client = self._open()
        return await bridge.arun(work(client))

    def start(self, work: Callable[[Client], Coroutine[Any, Any, _T]]) -> Callable[[], _T]:
        """Begin `work` without waiting; what is returned waits for its result."""
        bridge, client = self._open()
        future = bridge.start(work(client))
        return lambda: bridge.result(future)

    def iterate(self, work: Callable[[Client], AsyncGenerator[_T]]) -> Iterator[_T]:
        """What `work` yields, for a thread that may wait."""
        bridge, client = self._open()
        return bridge.iterate(work(client))

    @property
    def client(self) -> SyncClient:
        """The client, without `await`; closing it closes this link's connection."""
        bridge, client = self._open()
        return SyncClient.of(client, bridge)

    def close(self) -> None:
        """Settle what is on its way, then disconnect; takes up to 5 s."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None and not opened[0].stopped:
            bridge, client = opened
            try:
                bridge.run(client.close())
            finally:
                bridge.stop()


def _close(link: weakref.ref[Link]) -> None:
    """A connection that is open when the interpreter ends is closed, so that gRPC's threads end before it."""
    if (still := link()) is not None:
        still.close()
