"""From settings to running objects. Read it to learn what depends on what.

The only place where the environment is read and where the parts of a process are put together.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from eventbus import Backoff, Event, EventBus, Options
from eventbus.bus import PUBLISH_TIMEOUT
from eventbus.gate import Breaker
from integrations.base import Context, Delivery, DeliveryResult, Health, Integration, Manifest
from integrations.errors import Misconfigured
from registry.account import Account
from registry.discovery import Adapter, discover
from registry.judgement import describe
from registry.metrics import Metrics
from registry.registry import Registry
from registry.settings import (
    Events,
    Fault,
    IntegrationSettings,
    Settings,
    default_settings,
    load,
    load_with_warnings,
)

SPOOL_AFTER = {"memory": timedelta(seconds=1), "replica": timedelta(seconds=1), "aof": timedelta(seconds=2.3)}


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a program works with."""

    settings: Settings
    bus: EventBus
    registry: Registry
    metrics: Metrics


def read_settings(path: Path | None) -> Settings:
    """The settings of a file, or the defaults without one. Raises ConfigError with every fault."""
    adapters = discover().adapters
    return default_settings(adapters) if path is None else load(path, adapters, os.environ)


def read_settings_with_warnings(path: Path) -> tuple[Settings, Sequence[Fault]]:
    """The settings of a file and what is odd about it. Raises ConfigError with every fault."""
    return load_with_warnings(path, discover().adapters, os.environ)


def keeping(events: Events, *, patient: bool) -> dict[str, Any]:
    """The options of a bus that say how safely it keeps what is published.

    Who is not `patient`, such as a sender of webhooks, does not wait long: what Redis does not take in this time is
    spooled. A confirmation by its disk may take a second by itself (appendfsync everysec).
    """
    spools = events.spool is not None and not patient
    return {
        "durability": events.durability,
        "replicas": events.replicas,
        "accept_unsafe": events.accept_unsafe,
        "spool": events.spool,
        "spool_bytes": events.spool_bytes,
        "publish_timeout": SPOOL_AFTER[events.durability] if spools else PUBLISH_TIMEOUT,
    }


@asynccontextmanager
async def open_runtime(settings: Settings, *, serve: bool) -> AsyncIterator[Runtime]:
    """Open the bus and make the accounts. `serve`: this process is a worker and takes their events.

    The accounts are initialised by `registry.start`, which the caller awaits when it is ready to.
    """
    metrics = Metrics()
    worker = settings.worker
    async with EventBus.open(
        settings.events.url.get_secret_value(),
        lease=timedelta(seconds=worker.lease_seconds),
        sweep_every=timedelta(seconds=min(5.0, worker.lease_seconds / 3)),
        retention=timedelta(hours=settings.retention.hours),
        retention_events=settings.retention.events,
        ledger_keep=timedelta(days=settings.retention.ledger_days),
        observer=metrics,
        **keeping(settings.events, patient=serve),
    ) as bus:
        if bus.spools is not None:
            metrics.watch_spool(bus.spools)
        registry = Registry(bus, metrics, serve=serve, routing=settings.routing)
        adapters = discover().adapters
        for name, section in settings.integrations.items():
            if section.enabled:
                registry.register(_account(name, section, adapters[section.adapter], settings))
        try:
            yield Runtime(settings, bus, registry, metrics)
        finally:
            await registry.stop()


class _Unusable(Integration[BaseModel]):
    """In the place of an adapter that can't even be made: not ready, with the reason, while the others work."""

    def __init__(self, manifest: Manifest, reason: str) -> None:
        self.manifest = manifest  # type: ignore[misc]  # one class for every adapter, so not a class variable
        self._reason = reason

    async def initialize(self, context: Context[BaseModel]) -> None:
        raise Misconfigured(self._reason)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        raise Misconfigured(self._reason)

    async def health(self) -> Health:
        return Health("unhealthy", self._reason)


def _made(adapter: type[Integration[Any]]) -> Integration[Any]:
    try:
        return adapter()
    except Exception as error:  # noqa: BLE001  an adapter may raise anything; it must not stop the others
        return _Unusable(adapter.manifest, f"{adapter.__name__}() failed: {describe(error)}")


def _account(name: str, section: IntegrationSettings, adapter: Adapter, settings: Settings) -> Account:
    if adapter.integration is None or section.config is None:
        raise TypeError(f"{name} was not checked: {adapter.reason}")
    worker = settings.worker
    return Account(
        name=name,
        adapter=_made(adapter.integration),
        config=section.config,
        topics=section.topics,
        timeout=timedelta(seconds=section.timeout),
        dry_run=section.dry_run,
        paced=section.paced,
        cap=section.max_effects_per_minute,
        resend=section.when_unknown == "resend",
        breaker=Breaker(first=timedelta(seconds=section.breaker_seconds)),
        options=Options(
            concurrency=worker.concurrency,
            max_attempts=worker.max_attempts,
            backoff=Backoff(timedelta(seconds=worker.retry_base_seconds), timedelta(seconds=worker.retry_max_seconds)),
            poison_limit=worker.poison_limit,
            start=section.start,
        ),
    )
