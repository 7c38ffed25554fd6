"""The HTTP port of a node: metrics for Prometheus, liveness and readiness for Kubernetes.

It runs on the node's own event loop. What it shows is read when somebody asks, so a node that nobody watches pays
nothing. Read `metrics.py` (what is measured), then `server.py` (how it is served).
"""

from node.web.metrics import Metrics, QueueReading, Readings
from node.web.server import HttpServer

__all__ = ["HttpServer", "Metrics", "QueueReading", "Readings"]
