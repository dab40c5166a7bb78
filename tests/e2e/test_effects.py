"""Effects happen once. Workers die at every named place between two steps, and answers are lost by the hundred.

Each integration is held to its class: what can be searched, keyed or repeated exists exactly once in the end; what
nobody can find out exists at most once, and a person is asked about it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

import integrations.github.client
from eventbus import Backoff, DeadLetter, EventBus, Options
from eventbus.failpoint import PLACES
from eventbus.gate import Breaker
from integrations.testing.fake import FakeService
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry
from registry.unknown import REASON, resolve
from service.wiring import open_runtime, read_settings
from tests.conftest import wait_until
from tests.e2e.services import EMAIL, NO_LIMIT, SERVICES, Answers, Service, happened
from tests.e2e.victims import Victims
from tests.servers import Node

PATIENCE = 60.0
MS = timedelta(milliseconds=1)
NEVER = Breaker(row=NO_LIMIT, calls=NO_LIMIT)


def once(service: Service, effects: Sequence[int], events: int, parked: Sequence[int] = ()) -> None:
    """Fail unless every event has one effect; of a service that parks: one, or a person is asked, or both."""
    counts = Counter(effects)
    doubled = [number for number in range(events) if counts[number] > 1]
    missing = [number for number in range(events) if not counts[number] and number not in parked]
    assert not doubled, f"{service.name}: made twice: {doubled}"
    assert not missing, f"{service.name}: never made, and nobody asked: {missing}"
    assert service.parks or not parked, f"{service.name}: parked, though it can be known: {parked}"
    assert set(counts) <= set(range(events)), f"{service.name}: made of nothing: {counts}"


async def letters_of(bus: EventBus, reason: str) -> list[DeadLetter]:
    return [letter async for letter in bus.dead.find(reasons=[reason])]


async def told_of(bus: EventBus) -> list[str]:
    """The events whose dead letters were announced."""
    since = datetime.now(UTC) - timedelta(hours=1)
    return [one.data.event_id async for one in bus.past(since=since) if one.topic == "delivery.dead_lettered"]


async def _is_told(bus: EventBus) -> bool:
    return {letter.event_id async for letter in bus.dead.find()} <= set(await told_of(bus))


def number_of(letter: DeadLetter) -> int:
    return int(letter.event.data.task_id.removeprefix("task-"))


# -- kill -9 at every named place --------------------------------------------------------------------------------------

EVENTS = 3


@dataclass(frozen=True)
class Death:
    """How a worker is brought to a place and dies there: the nth time it comes by.

    answers  what the service does meanwhile: it serves, it breaks off the first call, or it is down and attempts are up
    """

    nth: int = 1
    answers: str = "served"


DEATHS: Mapping[str, Death] = {
    "delivery.after_take": Death(),
    "delivery.before_handle": Death(2),
    "effect.after_intent": Death(2),
    "effect.after_call": Death(2),
    "effect.before_done": Death(2),
    "effect.after_done": Death(2),
    "delivery.after_handle": Death(2),
    "delivery.before_settle": Death(),
    "delivery.after_settle": Death(),
    "delivery.before_retry": Death(answers="broken off"),
    "delivery.after_retry": Death(answers="broken off"),
    "delivery.before_bury": Death(2, "down"),
    "delivery.after_bury": Death(2, "down"),
    "publish.before_send": Death(2, "down"),  # what a worker publishes on the way of a delivery: a dead letter
    "publish.after_send": Death(2, "down"),
    "upkeep.before_sweep": Death(2),
    "upkeep.after_sweep": Death(2),
    "upkeep.before_promote": Death(2),
    "upkeep.after_promote": Death(2),
    "upkeep.before_trim": Death(),
    "upkeep.after_trim": Death(),
}
KILLED = 137
IN_DOUBT = {"effect.after_intent", "effect.after_call", "effect.before_done"}
"""Who dies here leaves an effect that may exist."""


@dataclass
class Case:
    """One service in front of a worker that is to die at a place."""

    service: Service
    death: Death
    place: str
    address: str
    folder: Path

    @asynccontextmanager
    async def staged(self) -> AsyncIterator[FakeService]:
        """The stand-in runs, and the settings are written."""
        fake, answers, service = self.service.fake(), Answers(), self.service
        answers.take_over(fake, service.write)
        async with fake:
            if self.death.answers == "down":
                fake.go_down()
            elif self.death.answers == "broken off" and service.parks:
                fake.fail(503)  # an outcome that nobody knows is parked, and this shall be retried
            elif self.death.answers == "broken off":
                answers.losing = 1
            self._configure(fake, attempts=1 if self.death.answers == "down" else 10)
            yield fake

    @property
    def config(self) -> Path:
        return self.folder / f"{self.service.name}.yaml"

    def _configure(self, fake: FakeService, attempts: int) -> None:
        account: dict[str, Any] = {"adapter": self.service.adapter.manifest.name, **self.service.settings(fake)}
        account |= {"topics": ["task.failed"], "start": "earliest", "paced": False, "breaker_seconds": 0.1}
        worker = {"lease_seconds": 1.0, "port": 0, "retry_base_seconds": 0.02, "retry_max_seconds": 0.1}
        worker |= {"max_attempts": attempts}
        settings = {"events": {"url": self.address}, "integrations": {self.service.name: account}, "worker": worker}
        self.config.write_text(yaml.safe_dump(settings))

    def victim(self) -> tuple[str, str, str]:
        log = self.folder / f"{self.service.name}.log"
        return str(self.config), f"{self.place}:{self.death.nth}:exit137", str(log)

    async def finish(self) -> None:
        """Another worker does what is left; where there are dead letters, it tells of them."""
        async with open_runtime(read_settings(self.config), serve=True) as runtime:
            await runtime.registry.start()
            await runtime.bus.run_until_idle(timeout=timedelta(seconds=PATIENCE))
            working = asyncio.create_task(runtime.bus.run())
            try:
                await wait_until(lambda: _is_told(runtime.bus), f"{self.service.name}: dead letters are told", PATIENCE)
            finally:
                runtime.bus.stop()
                await working

    async def check(self, fake: FakeService) -> None:
        async with EventBus.open(self.address) as bus:
            if self.death.answers == "down":
                await self._come_back(bus, fake)
            parked = [number_of(letter) for letter in await letters_of(bus, REASON)]
            backlog = await bus.backlog(self.service.group)
        once(self.service, self.service.effects(fake), EVENTS, parked)
        assert parked or not (self.service.parks and self.place in IN_DOUBT), "nobody was asked"
        assert backlog is not None
        assert (backlog.left, backlog.dead) == (0, len(parked)), f"{self.service.name}: {backlog}"

    async def _come_back(self, bus: EventBus, fake: FakeService) -> None:
        """Each was buried once and told of once. Sent again now that the service is back, it is made."""
        letters = [letter async for letter in bus.dead.find()]
        assert sorted(map(number_of, letters)) == list(range(EVENTS)), f"{self.service.name}: {letters}"
        assert sorted(await told_of(bus)) == sorted(letter.event_id for letter in letters)
        assert not self.service.effects(fake)
        fake.come_back()
        self._configure(fake, attempts=10)
        for letter in letters:
            assert await bus.dead.redrive(letter)
        await self.finish()


@pytest.mark.parametrize("place", DEATHS)
async def test_a_worker_killed_here_leaves_nothing_undone_and_nothing_done_twice(
    place: str, victims: Victims, redis: Node, tmp_path: Path
) -> None:
    """One worker for each integration dies; a second one finishes."""
    redis.ask("FLUSHALL")
    address = f"redis://127.0.0.1:{redis.port}/"
    cases = [Case(one, DEATHS[place], place, f"{address}{n}", tmp_path) for n, one in enumerate(SERVICES)]
    async with asyncio.timeout(3 * PATIENCE), _staged(cases) as fakes:
        for case in cases:
            async with EventBus.open(case.address) as bus:
                await bus.publish_many(map(happened, range(EVENTS)))
        codes = await victims.die([case.victim() for case in cases])
        assert codes == [KILLED] * len(cases), f"not everyone came by {place}: {codes}"
        await asyncio.gather(*(case.finish() for case in cases))
        for case, fake in zip(cases, fakes, strict=True):
            await case.check(fake)


@asynccontextmanager
async def _staged(cases: Sequence[Case]) -> AsyncIterator[list[FakeService]]:
    if not cases:
        yield []
        return
    async with cases[0].staged() as first, _staged(cases[1:]) as others:
        yield [first, *others]


def test_every_named_place_has_its_death() -> None:
    assert set(DEATHS) == set(PLACES)


# -- answers that are lost ---------------------------------------------------------------------------------------------

LOST = 500
SOON = timedelta(seconds=1)
"""When an adapter gives up that gets no answer. On a busy machine it gives up calls too that would be answered."""
LONGER = {"github": 20 * SOON, "email": 2 * SOON}
"""Calls of the one wait for a thread before they leave; half of the other's time is for its login."""


@asynccontextmanager
async def working(
    bus: EventBus, service: Service, fake: FakeService, *, concurrency: int = 32, **manner: Any
) -> AsyncIterator[None]:
    """A worker's registry with this account, as fast as it can be."""
    config = service.adapter.manifest.config.model_validate(service.settings(fake))
    options = Options(concurrency=concurrency, start="earliest", max_attempts=NO_LIMIT, backoff=Backoff(MS, 10 * MS))
    registry = Registry(bus, Metrics(), serve=True)
    manner |= {"topics": ("task.failed",), "options": options, "breaker": NEVER, "paced": False}
    registry.register(Account(service.name, service.adapter(), config, **manner))
    await registry.start()
    yield
    await registry.stop()


@pytest.mark.parametrize("carried_out", [True, False], ids=["commits", "commits-nothing"])
@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
async def test_five_hundred_lost_answers_leave_nothing_undone_and_nothing_done_twice(
    service: Service, carried_out: bool, redis_url: str, namespace: str
) -> None:
    """The first five hundred writes get no answer; half the classes could not tell a commit from none."""
    fake, answers = service.fake(), Answers(losing=LOST, carried_out=carried_out)
    answers.take_over(fake, service.write)
    async with fake, EventBus.open(redis_url, namespace=namespace) as bus, working(bus, service, fake):
        await bus.publish_many(map(happened, range(LOST)))
        await bus.run_until_idle(timeout=timedelta(seconds=10 * PATIENCE))
        letters = await letters_of(bus, REASON)
        once(service, service.effects(fake), LOST, [number_of(letter) for letter in letters])
        assert answers.lost == LOST
        if service.parks:
            assert len(letters) == LOST, "what nobody can know was taken for known"
            await _decided(bus, service, fake)
            once(service, service.effects(fake), LOST)


@pytest.mark.parametrize(
    ("carried_out", "stalled"), [(True, LOST), (False, LOST // 5)], ids=["commits", "commits-nothing"]
)
@pytest.mark.parametrize(
    "service", [*(one for one in SERVICES if not one.parks), EMAIL], ids=lambda service: service.name
)
async def test_answers_that_time_out_leave_nothing_undone_and_nothing_done_twice(
    service: Service,
    carried_out: bool,
    stalled: int,
    redis_url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service commits, and says nothing until the adapter gives up: five hundred times. Or it does not commit."""
    monkeypatch.setattr(integrations.github.client, "TIMEOUT_SECONDS", SOON.seconds)
    monkeypatch.setattr(integrations.github.client, "THREADS", 64)  # each waits for an answer alone
    fake, answers = service.fake(), Answers(losing=stalled, carried_out=carried_out, stalled=True)
    answers.take_over(fake, service.write)
    manner: dict[str, Any] = {"timeout": LONGER.get(service.name, SOON), "concurrency": 64}
    async with fake, EventBus.open(redis_url, namespace=namespace) as bus, working(bus, service, fake, **manner):
        await bus.publish_many(map(happened, range(stalled)))
        await bus.run_until_idle(timeout=timedelta(seconds=10 * PATIENCE))
        letters = await letters_of(bus, REASON)
        once(service, service.effects(fake), stalled, [number_of(letter) for letter in letters])
        assert answers.lost == stalled
        if service.parks:
            assert len(letters) == stalled, "what nobody can know was taken for known"
        if service.parks and not carried_out:
            await _decided(bus, service, fake)
            once(service, service.effects(fake), stalled)


async def _decided(bus: EventBus, service: Service, fake: FakeService) -> None:
    """A person looks at the service, and again where an answer to what is sent anew is lost as well."""
    while letters := await letters_of(bus, REASON):
        made = set(service.effects(fake))
        for letter in letters:
            assert await resolve(bus, letter, "done" if number_of(letter) in made else "resend")
        await bus.run_until_idle(timeout=timedelta(seconds=10 * PATIENCE))
    assert not [letter async for letter in bus.dead.find()]
