"""What the doctor says of the numbers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from eventbus import Event
from eventbus.catalog import catalog
from eventbus.topics import MigrationCompleted
from integrations.base import DeliveryResult
from integrations.prometheus import Prometheus

Connect = Callable[..., Awaitable[Prometheus]]
Bring = Callable[..., Awaitable[list[DeliveryResult]]]

SECONDS = "confiture_migration_duration_seconds"


def completed(migration: str = "add_email", **more: Any) -> Event[Any]:
    data = {"migration": migration, "environment": "production", "duration_ms": 2310} | more
    return catalog.event(MigrationCompleted.model_validate(data))


async def test_the_doctor_names_the_label_that_takes_the_room(connect: Connect, bring: Bring) -> None:
    prometheus = await connect(max_series=120)
    levels = [finding.level for finding in await prometheus.examine()]
    assert levels == ["ok", "ok"]
    await bring(prometheus, *(completed(f"number_{n}") for n in range(130)))
    found = {finding.about: finding for finding in await prometheus.examine()}
    assert (found["series"].level, found["series"].what) == ("fail", "120 of 120 in use")
    assert (found["readings"].level, found["readings"].what) == ("warn", "11 were dropped so far, for want of room")
    assert found["labels"].what == f"migration_name of {SECONDS} has 119 values"
    assert all(finding.fix for finding in found.values())
