"""Prometheus keeps what of the contract concerns an adapter that sends nothing: `pytest --integration prometheus`."""

from __future__ import annotations

from typing import Any, ClassVar

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import TaskFailed
from integrations.base import Delivery, DeliveryResult
from integrations.prometheus.adapter import Prometheus
from integrations.prometheus.fake import FakePrometheus
from integrations.testing.contract import AdapterContract


class Scraper(FakePrometheus):
    """Scrapes whatever `Scraped` is at work."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        Scraped.scraper = self


class Scraped(Prometheus):
    """Is asked after each event, as Prometheus asks every few seconds."""

    scraper: ClassVar[FakePrometheus]

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        result = await super().handle_event(event, delivery)
        await self.scraper.scrape(self)
        return result


class TestPrometheus(AdapterContract):
    """What it counts stands in the store; nothing is reached outside."""

    adapter = Scraped
    fake = Scraper
    event = catalog.event(TaskFailed(task_id="task-42", error="2 of 310 tests failed"))
    has_service = False
