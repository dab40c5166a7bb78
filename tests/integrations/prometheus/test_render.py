"""The text that Prometheus scrapes, and how rows of numbers become it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from eventbus import Event
from eventbus.catalog import catalog
from eventbus.topics import MigrationCompleted
from integrations.base import Delivery, DeliveryResult
from integrations.prometheus import Prometheus
from integrations.prometheus.fake import FakePrometheus

Connect = Callable[..., Awaitable[Prometheus]]
Bring = Callable[..., Awaitable[list[DeliveryResult]]]

SECONDS = "confiture_migration_duration_seconds"


def completed(migration: str = "add_email", **more: Any) -> Event[Any]:
    data = {"migration": migration, "environment": "production", "duration_ms": 2310} | more
    return catalog.event(MigrationCompleted.model_validate(data))


async def test_labels_of_strangers_can_not_forge_a_line(
    fake: FakePrometheus, prometheus: Prometheus, bring: Bring
) -> None:
    evil = 'x"} 1\ntb_confiture_total{environment="forged",status="success"} 99\n# "\\'
    await bring(prometheus, completed(environment=evil))
    environments = {dict(labels)["environment"] for name, labels in fake.samples if name == "tb_confiture_total"}
    assert environments == {evil.replace("\n", " ")}


async def test_the_text_is_what_prometheus_documents(
    fake: FakePrometheus, prometheus: Prometheus, bring: Bring
) -> None:
    await bring(prometheus, completed())
    lines = fake.text.splitlines()
    at = lines.index("# HELP tb_confiture_total Migrations that ended")
    assert lines[at : at + 4] == [
        "# HELP tb_confiture_total Migrations that ended",
        "# TYPE tb_confiture_total counter",
        'tb_confiture_total{environment="production",status="failure"} 0.0',
        'tb_confiture_total{environment="production",status="success"} 1.0',
    ]
    assert f'{SECONDS}_bucket{{le="+Inf",migration_name="add_email"}} 1.0' in lines


async def test_of_metrics_that_nobody_measures_any_more_nothing_is_shown(
    fake: FakePrometheus, connect: Connect, bring: Bring
) -> None:
    before = await connect()
    await bring(before, completed())
    total = {"name": "tb_confiture_total", "type": "counter", "topics": ["migration.completed"], "labels": {"all": "="}}
    after = await connect(measures=[total], defaults=False)
    after.context = replace(after.context, store=before.context.store)
    await after.handle_event(completed(), Delivery("after"))
    fake.samples.clear()
    await fake.scrape(after)
    assert {name for name, _ in fake.samples} == {
        "tb_confiture_total",
        "event_bus_measured_series",
        "event_bus_measured_series_max",
        "event_bus_readings_dropped_total",
    }
    assert fake.value("tb_confiture_total", all="") == 1, "series with other labels are another metric"
    (orphans,) = [finding for finding in await after.examine() if "nobody" in finding.what]
    assert orphans.what.startswith("1 are of metrics that nobody measures any more")


async def test_buckets_may_be_changed_and_nothing_counted_is_lost(
    fake: FakePrometheus, connect: Connect, bring: Bring
) -> None:
    def order(*buckets: float) -> dict[str, Any]:
        own = {"name": "order_seconds", "type": "histogram", "topics": ["shop.*"], "value": "data.s"}
        return {"measures": [own | {"buckets": buckets}], "defaults": False}

    before, after = await connect(**order(1, 2, 3)), await connect(**order(1, 2.5))
    await bring(before, *(catalog.event("shop.paid", {"s": s}) for s in (1, 2, 3, 4)))
    after.context = replace(after.context, store=before.context.store)
    fake.samples.clear()
    await bring(after, catalog.event("shop.paid", {"s": 2.2}))
    found = [fake.value("order_seconds_bucket", le=le) for le in ("1.0", "2.5", "+Inf")]
    assert found == [1, 3, 5]
