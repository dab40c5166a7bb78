"""A publisher of a fault run: it sends numbered events through the public API and writes down what it is told.

    python -m tests.faults.publisher SETTINGS

What an event is follows from the seed and its number alone, so a publisher that was killed goes on where its history
ends. It sends batches with `publish_many`; some batches go as single, concurrent events without a key, and a few of
those are scheduled. A batch with a bad or unknown end is sent again or, now and then, given up.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from eventbus import Event, EventBus, OutcomeUnknown, Receipt, Unavailable, catalog
from tests.faults.history import History, read

BATCH = 50
SINGLES = 0.1
"""The part of the batches that goes as single events."""

GIVES_UP = 0.1
TOPICS = ("faults.order", "faults.alert")
PLANS = {"do": 90.0, "later:300": 3.0, "fail": 3.0, "slow": 3.0, "refuse": 1.0}
"""What `worker` says of them, and how often each is chosen."""

PUBLISH_TIMEOUT = timedelta(seconds=1)
LONGEST_DELAY = 2.0
"""Seconds until a scheduled event is due, at most."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a publisher is started with. `rate` is in events per second; `keys` is how many ordering keys it uses."""

    name: str
    url: str
    history: str
    seed: int
    events: int
    rate: float
    keys: int

    def text(self) -> str:
        """As it stands on the command line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Planned:
    """An event, and the seconds until it is due (0: at once)."""

    event: Event[Any]
    delay: float

    @property
    def row(self) -> list[Any]:
        """As it stands in the history."""
        return [self.event.id, self.event.key or "", self.event.topic, self.event.data["plan"], self.delay]


def batch(settings: Settings, index: int) -> tuple[bool, list[Planned]]:
    """The batch of this number, and whether it goes as single events."""
    chance = random.Random(f"{settings.seed} {settings.name} {index}")
    single = chance.random() < SINGLES
    count = min(BATCH, settings.events - index * BATCH)
    planned = []
    for number in range(count):
        topic = TOPICS[chance.random() < 0.1]
        plan = chance.choices(list(PLANS), list(PLANS.values()))[0]
        key = None if single else f"{settings.name}-{chance.randrange(settings.keys)}"
        delay = chance.uniform(0.2, LONGEST_DELAY) if single and chance.random() < 0.1 else 0.0
        event = catalog.event(topic, {"plan": plan}, id=f"{settings.name}-{index * BATCH + number}", key=key)
        planned.append(Planned(event, delay))
    return single, planned


class Program:
    """One life of a publisher."""

    def __init__(self, bus: EventBus, settings: Settings, history: History) -> None:
        self._bus = bus
        self._settings = settings
        self._history = history
        self._calls = 0
        self._chance = random.Random()  # a second life decides anew

    async def run(self, start: int) -> None:
        """Send from this batch to the last, at the rate asked for."""
        began = time.monotonic()
        for done, index in enumerate(range(start, -(-self._settings.events // BATCH))):
            await asyncio.sleep(began + done * BATCH / self._settings.rate - time.monotonic())
            single, planned = batch(self._settings, index)
            if single:
                await asyncio.gather(*(self._insist([one], self._single(one)) for one in planned))
            else:
                await self._insist(planned, self._many(planned))

    def _many(self, planned: Sequence[Planned]) -> Callable[[], Awaitable[Sequence[Receipt]]]:
        return lambda: self._bus.publish_many([one.event for one in planned])

    def _single(self, one: Planned) -> Callable[[], Awaitable[Sequence[Receipt]]]:
        delay = timedelta(seconds=one.delay) if one.delay else None

        async def publish() -> Sequence[Receipt]:
            return [await self._bus.publish(one.event, delay=delay)]

        return publish

    async def _insist(self, planned: Sequence[Planned], publish: Callable[[], Awaitable[Sequence[Receipt]]]) -> None:
        while not await self._try(planned, publish):
            if self._chance.random() < GIVES_UP:
                return
            await asyncio.sleep(0.1)

    async def _try(self, planned: Sequence[Planned], publish: Callable[[], Awaitable[Sequence[Receipt]]]) -> bool:
        self._calls += 1
        call = {"name": self._settings.name, "call": self._calls}
        self._history.note("publish", phase="invoke", **call, events=[one.row for one in planned])
        try:
            receipts = await publish()
        except OutcomeUnknown as error:
            self._history.note("publish", phase="info", **call, error=str(error)[:200])
            return False
        except Unavailable as error:
            self._history.note("publish", phase="fail", **call, error=f"{type(error).__name__}: {error}"[:200])
            return False
        told = [[planned.event.id, one.status, one.sequence] for planned, one in zip(planned, receipts, strict=True)]
        self._history.note("publish", phase="ok", **call, receipts=told)
        return True


def next_batch(path: Path, chance: random.Random) -> int:
    """Where a killed publisher goes on. The batch it was killed in it sends again, or now and then gives up."""
    last, confirmed = -1, True
    for line in read(path) if path.exists() else ():
        if line["op"] == "publish":
            last = int(line["events"][0][0].rpartition("-")[2]) // BATCH if line["phase"] == "invoke" else last
            confirmed = line["phase"] == "ok"
    return last + 1 if confirmed or chance.random() < GIVES_UP else last


async def main(settings: Settings) -> None:
    """Send what is left to send."""
    path = Path(settings.history)
    start = next_batch(path, random.Random())
    history = History(path)
    history.up()
    async with EventBus.open(settings.url, publish_timeout=PUBLISH_TIMEOUT) as bus:
        await Program(bus, settings, history).run(start)


if __name__ == "__main__":
    asyncio.run(main(Settings(**json.loads(sys.argv[1]))))
