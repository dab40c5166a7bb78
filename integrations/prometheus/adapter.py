"""Prometheus as an integration: events are counted in the store, and whoever scrapes gets the numbers from there.

Nothing is sent anywhere. What an event measures says `config`, what is written and shown `render`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from eventbus.errors import EventBusError
from eventbus.event import Event
from integrations.base import (
    WHOLE,
    Artifact,
    Context,
    Delivery,
    DeliveryResult,
    Finding,
    Health,
    Integration,
    Manifest,
    Notification,
    Outcome,
    Preview,
    Target,
    What,
)
from integrations.measure import read, topics_of, unread
from integrations.prometheus import doctor, render
from integrations.prometheus.config import PrometheusConfig

LOG_SECONDS = 60.0
"""Between two lines about readings that find no room."""


class Prometheus(Integration[PrometheusConfig]):
    """One set of measures.

    `keyed`: the numbers stand in the same Redis as the keys that were counted, and change in one step with them.
    """

    manifest = Manifest(
        name="prometheus",
        title="Prometheus",
        config=PrometheusConfig,
        handles=("migration.*", "task.*", "vm.*", "integration.degraded", "integration.recovered"),
        effects="keyed",
        limits="None of its own; max_series bounds what is kept",
        tier="complete",
    )

    async def initialize(self, context: Context[PrometheusConfig]) -> None:
        await super().initialize(context)
        self._said_at = float("-inf")

    def targets(self) -> Sequence[Target]:
        """One, which takes what the measures ask for."""
        return (Target(WHOLE, topics_of(self.config.active)),)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Count what the event measures."""
        readings = read(self.config.active, event)
        missed = unread(self.config.active, event)
        if not readings:
            return DeliveryResult.skipped("; ".join(missed) or "no measure asks for it")
        config, changes = self.config, render.changes(readings, event.time)
        done = await self.context.store.tally(delivery.key, changes, most=config.max_series, idle=config.idle)
        if not done.is_new:
            return DeliveryResult(Outcome.DUPLICATE, detail="counted before")
        said = [*map(render.written, readings), *missed]
        if done.refused:
            said.insert(0, self._no_room(done.refused))
        return DeliveryResult.delivered(detail="; ".join(said))

    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        """What would be counted."""
        if isinstance(what, Notification | Artifact):
            return super().preview(what, delivery)
        lines = [render.written(reading) for reading in read(self.config.active, what)]
        return (Preview(f"count {'; '.join(lines)}", body="\n".join(lines)),) if lines else ()

    async def exposition(self) -> bytes:
        """What Prometheus scrapes."""
        tally = await self.context.store.tallied()
        return await asyncio.to_thread(render.exposition, tally, self.config.active, self.config.max_series)

    async def health(self) -> Health:
        """Whether the numbers can be read, and whether there is room."""
        began = time.monotonic()
        try:
            used = await self.context.store.tally_rows()
        except EventBusError as error:
            return Health("unhealthy", str(error))
        said = f"{used:,} of {self.config.max_series:,} series"
        latency = round((time.monotonic() - began) * 1000, 1)
        return Health("healthy" if used < self.config.max_series else "degraded", said, latency)

    async def examine(self) -> Sequence[Finding]:
        """How much room is left, and which label takes it."""
        return doctor.examine(await self.context.store.tallied(), self.config)

    def _no_room(self, refused: int) -> str:
        said = f"{refused} without room: {self.config.max_series:,} series are in use"
        if time.monotonic() - self._said_at > LOG_SECONDS:
            self._said_at = time.monotonic()
            self.context.log.warning("readings are dropped", detail=said, max_series=self.config.max_series)
        return said
