"""Many who scrape at once cost as much as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from eventbus import EventBus, Unavailable
from integrations.base import Exposes
from integrations.prometheus import Prometheus
from registry import scrapes
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry
from tests.conftest import wait_until


class Slow(Prometheus):
    """Takes its time with each text, and numbers them."""

    def __init__(self) -> None:
        self.made = 0
        self.at_once = 0
        self.go = asyncio.Event()
        self.failure: Exception | None = None

    async def exposition(self) -> bytes:
        self.at_once += 1
        assert self.at_once == 1
        await self.go.wait()
        self.at_once -= 1
        if self.failure is not None:
            raise self.failure
        self.made += 1
        return str(self.made).encode()


@pytest.fixture
async def asked(bus: EventBus) -> AsyncIterator[tuple[Registry, Slow]]:
    registry, adapter = Registry(bus, Metrics(), serve=False), Slow()
    assert isinstance(adapter, Exposes)
    registry.register(Account("prometheus", adapter, Prometheus.manifest.config()))
    await registry.start()
    yield registry, adapter
    await registry.stop()


async def test_who_asks_while_a_text_is_made_gets_the_same_one(asked: tuple[Registry, Slow]) -> None:
    registry, adapter = asked
    asking = [asyncio.create_task(registry.exposition("prometheus")) for _ in range(10)]
    await wait_until(lambda: adapter.at_once, "the text is being made")
    adapter.go.set()
    assert await asyncio.gather(*asking) == [b"1"] * 10
    assert await registry.exposition("prometheus") == b"1", "it is kept for a moment"


async def test_a_text_is_kept_for_its_time_only(asked: tuple[Registry, Slow], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrapes, "KEPT_SECONDS", 0.02)
    registry, adapter = asked
    adapter.go.set()
    assert await registry.exposition("prometheus") == b"1"

    async def is_new() -> bool:
        return await registry.exposition("prometheus") == b"2"

    await wait_until(is_new, "the text is made again")


async def test_a_failure_is_told_and_not_kept(asked: tuple[Registry, Slow]) -> None:
    registry, adapter = asked
    adapter.go.set()
    adapter.failure = Unavailable("redis://localhost does not answer")
    with pytest.raises(Unavailable):
        await registry.exposition("prometheus")
    adapter.failure = None
    assert await registry.exposition("prometheus") == b"1"
