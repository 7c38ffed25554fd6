"""What is measured of the messages of one queue: the node's counters and distributions, and the queue's last minute."""

from __future__ import annotations

from collections.abc import Iterable

from node.clock import Clock
from node.dispatch.ledger import Again, Turn
from node.dispatch.spans import Span
from node.rates import RateWindow
from node.web.metrics import Metrics


class Meter:
    """Told of ranges of messages, never of single ones. `window` is of all that delivers messages of the queue."""

    def __init__(self, clock: Clock, metrics: Metrics, window: RateWindow) -> None:
        self._clock, self._metrics, self._window = clock, metrics, window

    def sent(self, messages: int) -> None:
        """Messages were delivered."""
        self._metrics.deliveries.inc(messages)
        self._window.started(self._clock.now_ms(), messages)

    def leased(self, messages: int, again: Iterable[Span[Again]], published_ms: int) -> None:
        """Messages went to somebody: those that came back before are named by `again`, the others are new."""
        for span in again:
            self._metrics.redeliveries.labels(span.value.reason).inc(span.messages)
        if not again:
            self._metrics.wait_seconds.observe((self._clock.wall_ms() - published_ms) / 1000, messages)

    def back(self, span: Span[Turn]) -> None:
        """Leases ended without an end of their messages."""
        if span.value.delivered_ms:
            now_ms = self._clock.now_ms()
            run_ms = now_ms - span.value.delivered_ms
            self._window.settled(now_ms, wait_ms=0, run_ms=run_ms, total_ms=0, count=span.messages)

    def done(self, settled: Iterable[Span[Turn]]) -> None:
        """Acknowledgements were committed."""
        now_ms, wall_ms = self._clock.now_ms(), self._clock.wall_ms()
        for span in settled:
            self._metrics.acks.inc(span.messages)
            if not span.value.delivered_ms:
                continue
            run_ms = now_ms - span.value.delivered_ms
            total_ms = max(1, run_ms, wall_ms - span.value.published_ms)
            self._metrics.service_seconds.observe(run_ms / 1000, span.messages)
            self._metrics.end_to_end_seconds.observe(total_ms / 1000, span.messages)
            self._window.settled(
                now_ms, wait_ms=total_ms - run_ms, run_ms=run_ms, total_ms=total_ms, count=span.messages
            )
