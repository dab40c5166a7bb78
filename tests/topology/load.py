"""Publishing and handling that goes on while servers die: what was accepted, what arrived, and that both go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from eventbus import Event, EventBus, Unavailable
from eventbus.subscription import Options
from tests.conftest import wait_until

GROUP = "handlers"
RECOVERED_SECONDS = 40.0


class Load:
    """One bus that publishes numbers and handles them, until the end of `running`."""

    def __init__(self, bus: EventBus) -> None:
        self.accepted: list[int] = []
        self.handled: set[int] = set()
        self.heard: set[int] = set()
        self._bus = bus

    async def publish(self) -> None:
        """Number after number; one that is not confirmed is published again under its key, as its caller would."""
        number = 0
        while True:
            number += 1
            while True:
                with contextlib.suppress(Unavailable):
                    await self._bus.publish("custom.n", {"n": number}, idempotency_key=f"n-{number}")
                    break
                await asyncio.sleep(0.05)
            self.accepted.append(number)
            await asyncio.sleep(0.002)

    async def handle(self, event: Event[Any]) -> None:
        """The durable subscription."""
        self.handled.add(event.data["n"])

    async def hear(self, event: Event[Any]) -> None:
        """The live one."""
        self.heard.add(event.data["n"])

    async def goes_on(self, *, count: int = 50) -> None:
        """Return when that many more were accepted, and the last of them handled and heard live."""
        until = len(self.accepted) + count
        await wait_until(lambda: len(self.accepted) >= until, "publishing goes on", RECOVERED_SECONDS)
        last = self.accepted[-1]
        await wait_until(lambda: last in self.handled, "handling goes on", RECOVERED_SECONDS)
        await wait_until(lambda: max(self.heard) >= last, "the live feed goes on", RECOVERED_SECONDS)


@contextlib.asynccontextmanager
async def under_load(url: str) -> AsyncIterator[Load]:
    """A bus at work at this address."""
    times = {"lease": timedelta(seconds=3), "sweep_every": timedelta(seconds=0.5)}
    async with EventBus.open(url, namespace="load", publish_timeout=timedelta(seconds=2), **times) as bus:
        load = Load(bus)
        await bus.subscribe("custom.n", load.handle, group=GROUP, options=Options(concurrency=4))
        await bus.subscribe("custom.n", load.hear)
        tasks = [asyncio.create_task(bus.run()), asyncio.create_task(load.publish())]
        try:
            await load.goes_on()
            yield load
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
