"""A publisher of a fault run: it sends numbered events through the public API and writes down what it is told.

    python -m tests.faults.publisher SETTINGS

What an event is follows from the seed and its number alone, so a publisher that was killed goes on where its history
ends. It sends batches with `publish_many`; some batches go as single, concurrent events without a key, and a few of
those are scheduled. A batch with a bad or unknown end is sent again under the same ids or, now and then, given up. It
publishes itself, with or without a spool, or through a gateway.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import httpx

from eventbus import Event, EventBus, OutcomeUnknown, Unavailable, catalog
from eventbus.codec import to_cloudevent
from eventbus.redis.confirm import Durability
from tests.faults.clock import true_time
from tests.faults.history import History, read

BATCH = 50
SINGLES = 0.1
"""The part of the batches that goes as single events."""

GIVES_UP = 0.1
TOPICS = ("faults.order", "faults.alert")
PLANS = {"do": 90.0, "later:300": 3.0, "fail": 3.0, "slow": 3.0, "refuse": 1.0}
"""What `worker` says of them, and how often each is chosen."""

PUBLISH_TIMEOUT = timedelta(seconds=1)
AWAY_SECONDS = 0.5
LONGEST_DELAY = 2.0
"""Seconds until a scheduled event is due, at most."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a publisher is started with. `rate` is in events per second; `keys` is how many ordering keys it uses.

    `url` is that of Redis or, with an `api_key`, that of a gateway. `spool` is a directory, or '' for none.
    """

    name: str
    url: str
    api_key: str
    spool: str
    durability: Durability
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


Told = tuple[str, int]
"""What became of an event: its status, and its number in the log."""


class Way(Protocol):
    """How events get into the bus. Errors are those of `EventBus.publish`."""

    async def many(self, events: Sequence[Event[Any]]) -> list[Told]:
        """Publish a batch."""

    async def one(self, event: Event[Any], at: datetime | None) -> Told:
        """Publish an event, now or later."""

    async def until_sent(self) -> None:
        """Wait until nothing is spooled."""


class Direct:
    """Through a bus of this process."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    async def many(self, events: Sequence[Event[Any]]) -> list[Told]:
        """`publish_many`."""
        return [(one.status, one.sequence) for one in await self._bus.publish_many(events)]

    async def one(self, event: Event[Any], at: datetime | None) -> Told:
        """`publish`."""
        receipt = await self._bus.publish(event, at=at)
        return receipt.status, receipt.sequence

    async def until_sent(self) -> None:
        """Its own spool, and those it took over."""
        while self._bus.spools is not None and not self._bus.spools.is_empty:  # noqa: ASYNC110  it has no event for it
            await asyncio.sleep(0.05)


class OverHttp:
    """Through a gateway. What is not answered with 2xx may be stored, unless nobody listened at all."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def many(self, events: Sequence[Event[Any]]) -> list[Told]:
        """A batch of CloudEvents."""
        found = await self._post([to_cloudevent(one) for one in events], {})
        return [(one["status"], one["sequence"]) for one in found]

    async def one(self, event: Event[Any], at: datetime | None) -> Told:
        """One event in the gateway's own form, under an Idempotency-Key."""
        body = {"topic": event.topic, "data": dict(event.data), "id": event.id, "at": at and at.isoformat()}
        found = await self._post(body, {"Idempotency-Key": event.id})
        return found["status"], found["sequence"]

    async def until_sent(self) -> None:
        """The gateway's spools."""
        while True:
            try:
                if "event_bus_spool_events 0.0" in (await self._http.get("/metrics")).text:
                    return
            except httpx.TransportError:
                pass  # it is being started again
            await asyncio.sleep(0.05)

    async def _post(self, body: Any, headers: dict[str, str]) -> Any:
        try:
            answer = await self._http.post("/api/v1/events", json=body, headers=headers)
        except httpx.ConnectError as error:
            await asyncio.sleep(AWAY_SECONDS)  # it takes a moment to start: not to be given up for that
            raise Unavailable(f"nobody listens: {error}") from error
        except httpx.TransportError as error:
            raise OutcomeUnknown(f"no answer: {type(error).__name__}: {error}") from error
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise OutcomeUnknown(answer.text)
        answer.raise_for_status()
        return answer.json()


@asynccontextmanager
async def open_way(settings: Settings) -> AsyncIterator[Way]:
    """As the settings say."""
    if settings.api_key:
        headers = {"Authorization": f"Bearer {settings.api_key}"}
        async with httpx.AsyncClient(base_url=settings.url, headers=headers, timeout=5, trust_env=False) as http:
            yield OverHttp(http)
        return
    spool = Path(settings.spool) if settings.spool else None
    async with EventBus.open(
        settings.url, publish_timeout=PUBLISH_TIMEOUT, spool=spool, durability=settings.durability
    ) as bus:
        yield Direct(bus)


class Program:
    """One life of a publisher."""

    def __init__(self, way: Way, settings: Settings, history: History) -> None:
        self._way = way
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
        await self._way.until_sent()

    def _many(self, planned: Sequence[Planned]) -> Callable[[], Awaitable[list[Told]]]:
        return lambda: self._way.many([one.event for one in planned])

    def _single(self, one: Planned) -> Callable[[], Awaitable[list[Told]]]:
        async def publish() -> list[Told]:
            # Not `delay`: that counts from this program's clock, which jumps here.
            at = true_time() + timedelta(seconds=one.delay) if one.delay else None
            return [await self._way.one(one.event, at)]

        return publish

    async def _insist(self, planned: Sequence[Planned], publish: Callable[[], Awaitable[list[Told]]]) -> None:
        while not await self._try(planned, publish):
            if self._chance.random() < GIVES_UP:
                return
            await asyncio.sleep(0.1)

    async def _try(self, planned: Sequence[Planned], publish: Callable[[], Awaitable[list[Told]]]) -> bool:
        self._calls += 1
        call = {"name": self._settings.name, "call": self._calls}
        self._history.note("publish", phase="invoke", **call, events=[one.row for one in planned])
        try:
            told = await publish()
        except OutcomeUnknown as error:
            self._history.note("publish", phase="info", **call, error=str(error)[:200])
            return False
        except Unavailable as error:
            self._history.note("publish", phase="fail", **call, error=f"{type(error).__name__}: {error}"[:200])
            return False
        receipts = [[one.event.id, *said] for one, said in zip(planned, told, strict=True)]
        self._history.note("publish", phase="ok", **call, receipts=receipts)
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
    async with open_way(settings) as way:
        await Program(way, settings, history).run(start)


if __name__ == "__main__":
    asyncio.run(main(Settings(**json.loads(sys.argv[1]))))
