"""The HTTP port: real requests over loopback, and pages that Prometheus' own parser reads."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import uvloop
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from node.web import HttpServer, Metrics, QueueReading, Readings
from node.web.distribution import OTHER, QUEUES_MAX

IDLE = Readings(
    raft_term=7,
    raft_is_leader=True,
    raft_commit_lag_entries=2,
    log_bytes=1 << 26,
    disk_free_bytes=1 << 30,
    leases_active=5,
    grpc_streams_open=3,
    publish_inflight_bytes=100,
)


def samples(page: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    """Values by name and labels, as Prometheus reads them."""
    families = read_text(page.decode())
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


def page_of(metrics: Metrics, readings: Readings | None = None) -> dict[tuple[str, tuple[str, ...]], float]:
    return samples(metrics.page(readings, "")[0])


def test_the_page_holds_every_name_that_dashboards_rely_on() -> None:
    metrics = Metrics.create()
    metrics.rejects.labels("QUEUE_FULL").inc()

    found = page_of(metrics, replace(IDLE, queues=[QueueReading("orders", 10, 2, 1.5, 4, 3)]))

    assert found["taskraft_publish_total", ("stored",)] == 0
    assert found["taskraft_redeliveries_total", ("lease_expired",)] == 0
    assert found["taskraft_dead_letters_total", ("max_attempts",)] == 0
    assert found["taskraft_rejects_total", ("QUEUE_FULL",)] == 1
    assert found["taskraft_queue_depth", ("orders", "ready")] == 10
    assert found["taskraft_queue_depth", ("orders", "leased")] == 2
    assert found["taskraft_queue_depth", ("orders", "delayed")] == 4
    assert found["taskraft_queue_depth", ("orders", "parked")] == 3
    assert found["taskraft_oldest_age_seconds", ("orders",)] == 1.5
    gauges = {name: value for (name, labels), value in found.items() if not labels}
    for name, value in {
        "raft_term": 7,
        "raft_is_leader": 1,
        "raft_commit_lag_entries": 2,
        "log_bytes": 1 << 26,
        "disk_free_bytes": 1 << 30,
        "leases_active": 5,
        "grpc_streams_open": 3,
        "publish_inflight_bytes": 100,
        "deliveries_total": 0,
        "acks_total": 0,
        "elections_total": 0,
        "commit_seconds_count": 0,
        "wait_seconds_count": 0,
        "service_seconds_count": 0,
        "end_to_end_seconds_count": 0,
        "raft_fsync_seconds_count": 0,
        "snapshot_seconds_count": 0,
    }.items():
        assert gauges[f"taskraft_{name}"] == value
    assert gauges["process_resident_memory_bytes"] > 0


def test_a_page_without_readings_has_counters_and_no_gauges() -> None:
    found = page_of(Metrics.create())

    assert ("taskraft_acks_total", ()) in found
    assert ("taskraft_raft_term", ()) not in found


def test_nothing_on_the_page_is_not_ours_or_the_process() -> None:
    found = page_of(Metrics.create(), IDLE)

    assert {name.split("_")[0] for name, _ in found} == {"taskraft", "process"}
    assert not [name for name, _ in found if name.endswith("_created")]


def test_two_nodes_in_one_process_count_apart() -> None:
    one, other = Metrics.create(), Metrics.create()

    one.acks.inc(3)

    assert page_of(one)["taskraft_acks_total", ()] == 3
    assert page_of(other)["taskraft_acks_total", ()] == 0


def test_a_batch_is_one_observation_that_counts_for_all_its_messages() -> None:
    metrics = Metrics.create()

    metrics.wait_seconds.observe(0.005, count=500)
    metrics.wait_seconds.observe(0.0051)
    metrics.wait_seconds.observe(100_000.0, count=2)
    metrics.wait_seconds.observe(-1.0)

    found = page_of(metrics)
    assert found["taskraft_wait_seconds_count", ()] == 504
    assert found["taskraft_wait_seconds_sum", ()] == pytest.approx(200_002.5051)
    assert found["taskraft_wait_seconds_bucket", ("0.001",)] == 1
    assert found["taskraft_wait_seconds_bucket", ("0.005",)] == 501
    assert found["taskraft_wait_seconds_bucket", ("0.01",)] == 502
    assert found["taskraft_wait_seconds_bucket", ("43200.0",)] == 502
    assert found["taskraft_wait_seconds_bucket", ("+Inf",)] == 504


def test_queues_beyond_the_limit_share_one_label() -> None:
    queues = [QueueReading(f"q{i:05}", 1, 2, float(i), 5, 4) for i in range(QUEUES_MAX + 3)]

    found = page_of(Metrics.create(), replace(IDLE, queues=queues))

    ages = {
        labels[0]: value for (name, labels), value in found.items() if name == "taskraft_oldest_age_seconds"
    }
    assert len(ages) == QUEUES_MAX + 1
    assert ages[OTHER] == QUEUES_MAX + 2
    assert found["taskraft_queue_depth", (OTHER, "ready")] == 3
    assert found["taskraft_queue_depth", (OTHER, "leased")] == 6
    assert found["taskraft_queue_depth", (OTHER, "delayed")] == 15
    assert found["taskraft_queue_depth", (OTHER, "parked")] == 12


def test_openmetrics_is_spoken_to_those_who_ask_for_it() -> None:
    metrics = Metrics.create()
    metrics.raft_fsync_seconds.observe(0.002)

    page, content_type = metrics.page(IDLE, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")

    assert content_type.startswith("application/openmetrics-text")
    families = read_openmetrics(page.decode())  # type: ignore[no-untyped-call]  # the library left it out
    assert "taskraft_raft_fsync_seconds" in {family.name for family in families}


@asynccontextmanager
async def serving(
    *, ready: Callable[[], tuple[bool, str]], readings: Callable[[], Readings | None]
) -> AsyncIterator[tuple[HttpServer, aiohttp.ClientSession]]:
    """A server on a free port of loopback, and a client for it."""
    server = HttpServer("127.0.0.1", 0, metrics=Metrics.create(), readings=readings, ready=ready)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            yield server, session
    finally:
        await server.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    """On the loop that nodes use."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test)


def test_metrics_are_scraped_over_http_and_read_only_then() -> None:
    async def test() -> None:
        scrapes = []

        def readings() -> Readings:
            scrapes.append(1)
            return IDLE

        async with serving(ready=lambda: (True, "leader"), readings=readings) as (_, session):
            assert scrapes == []
            async with session.get("/metrics") as answer:
                assert answer.status == 200
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                assert samples(await answer.read())["taskraft_raft_term", ()] == 7
            assert scrapes == [1]

    run(test())


def test_readiness_follows_the_node_and_says_why_while_liveness_does_not() -> None:
    async def test() -> None:
        state = (False, "no leader is known")
        async with serving(ready=lambda: state, readings=lambda: None) as (_, session):
            async with session.get("/readyz") as answer:
                assert (answer.status, await answer.text()) == (503, "no leader is known\n")
            async with session.get("/healthz") as answer:
                assert answer.status == 200
            state = (True, "follows n2")
            async with session.get("/readyz") as answer:
                assert (answer.status, await answer.text()) == (200, "follows n2\n")

    run(test())


def test_other_paths_and_methods_are_refused() -> None:
    async def test() -> None:
        async with serving(ready=lambda: (True, ""), readings=lambda: None) as (_, session):
            async with session.get("/") as answer:
                assert answer.status == 404
            async with session.post("/metrics") as answer:
                assert answer.status == 405

    run(test())


def test_garbage_on_the_port_harms_nobody_else() -> None:
    async def test() -> None:
        async with serving(ready=lambda: (True, ""), readings=lambda: None) as (server, session):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"\x16\x03\x01" + bytes(range(256)) * 100)
            await asyncio.wait_for(reader.read(), timeout=5)
            writer.close()
            async with session.get("/healthz") as answer:
                assert answer.status == 200

    run(test())


def test_a_closed_server_gives_its_port_back() -> None:
    async def test() -> None:
        async with serving(ready=lambda: (True, ""), readings=lambda: None) as (server, session):
            port = server.port
            async with session.get("/healthz") as answer:
                assert answer.status == 200
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        again = HttpServer(
            "127.0.0.1", port, metrics=Metrics.create(), readings=lambda: None, ready=lambda: (True, "")
        )
        await again.start()
        await again.close()

    run(test())


def test_bytes_that_are_no_http_are_one_line_in_the_log_and_the_port_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        async with serving(ready=lambda: (True, "leads"), readings=lambda: None) as (server, session):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00")
            await reader.read()
            writer.close()

            async with session.get("/healthz") as answer:
                assert answer.status == 200

    run(story())

    assert [record.getMessage() for record in caplog.records] == ["bad_request"]
    assert caplog.records[0].exc_info is None
    assert "\n" not in caplog.records[0].fields["why"]  # type: ignore[attr-defined]
