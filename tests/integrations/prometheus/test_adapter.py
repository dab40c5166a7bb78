"""Events in, the text that Prometheus scrapes out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from eventbus import Event, Unavailable
from eventbus.catalog import catalog
from eventbus.tally import Tally
from eventbus.topics import MigrationCompleted, MigrationFailed, MigrationStarted, TaskCompleted, TaskStarted, VmCreated
from integrations.base import Artifact, Delivery, DeliveryResult, Notification, Outcome
from integrations.errors import Rejected
from integrations.prometheus import Prometheus
from integrations.prometheus.fake import FakePrometheus
from integrations.testing.context import MemoryStore

Connect = Callable[..., Awaitable[Prometheus]]
Bring = Callable[..., Awaitable[list[DeliveryResult]]]

SECONDS = "confiture_migration_duration_seconds"


def completed(migration: str = "add_email", ms: float | None = 2310, **more: Any) -> Event[Any]:
    data = {"migration": migration, "environment": "production", "duration_ms": ms} | more
    return catalog.event(MigrationCompleted.model_validate(data))


def failed() -> Event[Any]:
    return catalog.event(MigrationFailed(migration="add_email", environment="production", error="lock timeout"))


# -- migrations --------------------------------------------------------------------------------------------------------


async def test_migrations_are_counted_by_environment_and_status(
    fake: FakePrometheus, prometheus: Prometheus, bring: Bring
) -> None:
    results = await bring(prometheus, completed(), completed(), failed())
    assert fake.value("tb_confiture_total", environment="production", status="success") == 2
    assert fake.value("tb_confiture_total", environment="production", status="failure") == 1
    assert results[2].outcome is Outcome.DELIVERED
    assert results[2].detail.startswith('tb_confiture_total{environment="production",status="failure"} +1.0; ')


async def test_the_first_failure_is_counted_from_0_and_not_from_nowhere(
    fake: FakePrometheus, prometheus: Prometheus, bring: Bring
) -> None:
    """rate() and increase() do not see how a series came to be."""
    await bring(prometheus, completed())
    assert fake.value("tb_confiture_total", environment="production", status="failure") == 0


async def test_how_long_migrations_ran_falls_into_buckets(
    fake: FakePrometheus, prometheus: Prometheus, bring: Bring
) -> None:
    await bring(prometheus, *(completed(ms=ms) for ms in (100, 101, 2310, 300_000, 300_001)))
    name = {"migration_name": "add_email"}
    found = [fake.value(f"{SECONDS}_bucket", le=le, **name) for le in ("0.1", "0.5", "1.0", "5.0", "300.0", "+Inf")]
    assert found == [1, 2, 2, 3, 4, 5]
    assert fake.value(f"{SECONDS}_count", **name) == 5
    assert fake.value(f"{SECONDS}_sum", **name) == pytest.approx(602.512)


async def test_pending_migrations_are_what_the_newest_event_says(
    fake: FakePrometheus, prometheus: Prometheus, bring: Bring
) -> None:
    def pending(number: int, seconds: float) -> Event[Any]:
        what = MigrationStarted(migration="add_email", environment="production", pending=number)
        return catalog.event(what, time=datetime.now(UTC) - timedelta(seconds=seconds))

    await bring(prometheus, pending(3, 30), pending(1, 10), pending(2, 20))
    assert fake.value("confiture_pending_migrations", environment="production") == 1
    await bring(prometheus, completed(pending=0))
    assert fake.value("confiture_pending_migrations", environment="production") == 0


# -- other topics ------------------------------------------------------------------------------------------------------


async def test_tasks_and_machines_are_counted(fake: FakePrometheus, prometheus: Prometheus, bring: Bring) -> None:
    await bring(prometheus, catalog.event(TaskCompleted(task_id="1", environment="staging", duration_ms=400)))
    await bring(prometheus, catalog.event(VmCreated(vm_id="vm-1")))
    where = {"environment": "staging", "status": "success"}
    assert fake.value("event_bus_tasks_total", **where) == 1
    assert fake.value("event_bus_task_duration_seconds_sum", **where) == pytest.approx(0.4)
    assert fake.value("event_bus_vm_events_total", event="created") == 1


async def test_measures_of_ones_own_are_subscribed_to_and_counted(
    fake: FakePrometheus, connect: Connect, bring: Bring
) -> None:
    """The measures of the monitoring guide, which names the label `cache` in one place and `type` in another."""
    rates = [
        {
            "name": "pg_migration_cache_hit_rate",
            "type": "gauge",
            "topics": ["operation.ended"],
            "value": f"data.metrics.cache.{cache}.hitRate",
            "labels": {"cache": f"={cache}"},
        }
        for cache in ("ast", "validation")
    ]
    total = {"name": "pg_migration_operations_total", "type": "counter", "topics": ["operation.ended"]}
    prometheus = await connect(measures=[*rates, total], defaults=False)
    assert prometheus.targets()[0].topics == ("operation.ended",)
    cache = {"ast": {"hitRate": 0.9}, "validation": {"hitRate": 0.5}}
    await bring(prometheus, catalog.event("operation.ended", {"metrics": {"cache": cache}}))
    assert fake.value("pg_migration_cache_hit_rate", cache="ast") == 0.9
    assert fake.value("pg_migration_cache_hit_rate", cache="validation") == 0.5
    assert fake.value("pg_migration_operations_total") == 1
    assert fake.text.count("# TYPE pg_migration_cache_hit_rate gauge") == 1


async def test_an_event_that_measures_nothing_is_skipped(prometheus: Prometheus, bring: Bring) -> None:
    (result,) = await bring(prometheus, catalog.event(TaskStarted(task_id="1")))
    assert (result.outcome, result.detail) == (Outcome.SKIPPED, "no measure asks for it")
    (result,) = await bring(prometheus, catalog.event(MigrationStarted(migration="a")))
    assert result.detail == "confiture_pending_migrations: no number at data.pending"


async def test_a_missing_number_is_told_and_the_others_count(
    fake: FakePrometheus, prometheus: Prometheus, bring: Bring
) -> None:
    (result,) = await bring(prometheus, completed(ms=None))
    assert f"{SECONDS}: no number at data.duration_ms" in result.detail
    assert fake.value("tb_confiture_total", environment="production", status="success") == 1
    assert fake.value(f"{SECONDS}_count", migration_name="add_email") is None


async def test_an_absurd_number_is_told_and_spoils_no_sum(
    fake: FakePrometheus, prometheus: Prometheus, bring: Bring
) -> None:
    results = await bring(prometheus, completed(ms=1e308), completed(ms=2000))
    assert ["can't be added up: a histogram takes 0 to" in one.detail for one in results] == [True, False]
    assert fake.value(f"{SECONDS}_sum", migration_name="add_email") == 2
    assert fake.value("tb_confiture_total", environment="production", status="success") == 2


# -- once in effect ----------------------------------------------------------------------------------------------------


async def test_a_key_counts_once(fake: FakePrometheus, prometheus: Prometheus) -> None:
    event = completed()
    results = await asyncio.gather(*(prometheus.handle_event(event, Delivery("one")) for _ in range(5)))
    await fake.scrape(prometheus)
    assert sorted(result.outcome for result in results) == ["delivered", *["duplicate"] * 4]
    assert fake.value("tb_confiture_total", environment="production", status="success") == 1
    assert fake.value(f"{SECONDS}_count", migration_name="add_email") == 1


async def test_what_one_process_counted_another_shows(fake: FakePrometheus, connect: Connect, bring: Bring) -> None:
    worker, gateway = await connect(), await connect()
    gateway.context = worker.context  # the store of one account is the same everywhere
    await bring(worker, completed())
    assert await gateway.exposition() == await worker.exposition()


# -- bounds ------------------------------------------------------------------------------------------------------------


async def test_beyond_the_most_series_readings_are_dropped_counted_and_told(
    fake: FakePrometheus, connect: Connect, bring: Bring
) -> None:
    prometheus = await connect(max_series=3)
    with capture_logs() as logs:
        results = await bring(prometheus, *(completed(f"number_{n}") for n in range(5)))
    assert fake.value("tb_confiture_total", environment="production", status="success") == 5, "known series go on"
    assert len([sample for sample in fake.samples if sample[0] == f"{SECONDS}_count"]) == 2
    assert fake.value("event_bus_readings_dropped_total") == 3
    assert fake.value("event_bus_measured_series") == fake.value("event_bus_measured_series_max") == 3
    assert results[4].detail.startswith("1 without room: 3 series are in use; ")
    assert [line["event"] for line in logs] == ["readings are dropped"], "once a minute, not for each"
    health = await prometheus.health()
    assert (health.state, health.detail) == ("degraded", "3 of 3 series")


# -- shown, asked, examined --------------------------------------------------------------------------------------------


async def test_a_preview_shows_what_would_be_counted_and_counts_nothing(
    fake: FakePrometheus, prometheus: Prometheus
) -> None:
    (shown,) = prometheus.preview(completed(), Delivery("x"))
    assert shown.body.splitlines() == [
        'tb_confiture_total{environment="production",status="success"} +1.0',
        f'{SECONDS}{{migration_name="add_email"}} <- 2.31',
    ]
    assert prometheus.preview(catalog.event(TaskStarted(task_id="1")), Delivery("x")) == ()
    await fake.scrape(prometheus)
    assert fake.value("event_bus_measured_series") == 0


async def test_it_neither_tells_people_nor_makes_things(prometheus: Prometheus) -> None:
    with pytest.raises(Rejected, match="sends no notifications"):
        await prometheus.send_notification(Notification(message="x"), Delivery("x"))
    with pytest.raises(Rejected, match="makes no artifact"):
        await prometheus.create_artifact(Artifact(type="issue", content={}), Delivery("x"))
    with pytest.raises(Rejected, match="no preview"):
        prometheus.preview(Notification(message="x"), Delivery("x"))


class AwayStore(MemoryStore):
    """A Redis that is away."""

    async def tally_rows(self) -> int:
        raise Unavailable("redis://localhost does not answer")


class LargeStore(MemoryStore):
    """A store of so many rows that nobody should ask for all of them just to count them."""

    async def tallied(self) -> Tally:
        raise AssertionError

    async def tally_rows(self) -> int:
        return 9_999


async def test_health_counts_the_series_without_reading_them(prometheus: Prometheus) -> None:
    prometheus.context = replace(prometheus.context, store=LargeStore())
    health = await prometheus.health()
    assert (health.state, health.detail) == ("healthy", "9,999 of 10,000 series")


async def test_without_redis_it_is_unhealthy_and_says_why(prometheus: Prometheus) -> None:
    assert (await prometheus.health()).state == "healthy"
    prometheus.context = replace(prometheus.context, store=AwayStore())
    health = await prometheus.health()
    assert (health.state, health.detail) == ("unhealthy", "redis://localhost does not answer")
