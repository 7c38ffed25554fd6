"""The HTTP server: GET /metrics, /healthz and /readyz, on the event loop of the node.

/healthz answers 200 as long as the event loop turns; it never looks at the cluster, because a lost quorum is not
healed by restarting nodes. /readyz answers 200 when the node can serve and 503 with the reason when it cannot.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from node.web.metrics import Metrics, Readings

CLOSE_S = 1.0  # a scrape that is being answered may finish

_log = logging.getLogger(__name__)


def _in_one_line(record: logging.LogRecord) -> bool:
    """Bytes that are no HTTP are the sender's mistake: a fact for one line, without a traceback of the parser."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg, record.args, record.exc_info = "bad_request", (), None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.fields = {"why": str(error).partition("\n")[0]}
    return True


_log.addFilter(_in_one_line)


class HttpServer:
    """Serves one node's metrics and probes. `readings` and `ready` are called on the loop and must not block.

    `readings` answers None while there is nothing to read yet; `ready` answers whether the node can serve, and
    the reason, which is shown either way.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        metrics: Metrics,
        readings: Callable[[], Readings | None],
        ready: Callable[[], tuple[bool, str]],
    ) -> None:
        self._host, self._port = host, port
        self._metrics, self._readings, self._ready = metrics, readings, ready
        app = web.Application()
        app.router.add_get("/metrics", self._answer_metrics)
        app.router.add_get("/healthz", self._answer_healthz)
        app.router.add_get("/readyz", self._answer_readyz)
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, logger=_log, shutdown_timeout=CLOSE_S
        )

    async def start(self) -> None:
        """Listen. OSError if the address is taken or not ours."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    @property
    def port(self) -> int:
        """The port that is listened on, also when 0 was asked for."""
        port: int = self._runner.addresses[0][1]
        return port

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _answer_metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.page(self._readings(), request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _answer_healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _answer_readyz(self, request: web.Request) -> web.Response:
        ready, reason = self._ready()
        return web.Response(text=f"{reason}\n", status=200 if ready else 503)
