"""Announcements of dead letters and gaps: each once, in order, whoever dies in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from eventbus import Conflict, Event, Payload, Unavailable
from eventbus.announcer import Announcer
from eventbus.audit import Gap
from eventbus.codec import encode
from eventbus.redis.connection import Connection
from eventbus.redis.history import PAGE, History
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Taken
from eventbus.topics.delivery import DeliveryDeadLettered, DeliveryFailing, DeliveryGapFound


@dataclass
class Audience:
    """Hears what is published, and fails as it is told to."""

    heard: list[tuple[Payload, str]] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    async def publish(self, notice: Payload, *, source: str, idempotency_key: str) -> None:
        assert source == "/eventbus"
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        self.heard.append((notice, idempotency_key))


class Desk:
    """The dead letters of group `g`, and who announces them."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.connection = connection
        self.keys = ShardKeys(namespace)
        self.audience = Audience()
        self.history = History(connection, self.keys)
        self.announcer = Announcer(self.history, self.audience.publish)

    async def bury(self, number: int, *, topic: str = "custom.n", wire: bytes | None = None) -> str:
        event: Event[Any] = Event(topic="custom.n", data={"n": number}, id=f"event-{number}")
        told: tuple[Any, ...] = ("entry", f"{number}-0", "reason", "rejected", "error", "no", "attempts", 3)
        body: tuple[Any, ...] = ("t", topic, "k", "", "s", number, "e", encode(event) if wire is None else wire)
        dead_id = await self.connection.do("XADD", self.keys.dead("g"), "*", *told, *body)
        return str(dead_id.decode())

    @property
    def told(self) -> list[str]:
        """The events whose end was announced."""
        return [notice.event_id for notice, _ in self.audience.heard if isinstance(notice, DeliveryDeadLettered)]


@pytest.fixture
async def desk(url: str, namespace: str) -> AsyncIterator[Desk]:
    connection = await Connection.open(url)
    yield Desk(connection, namespace)
    await connection.close()


async def test_each_dead_letter_is_announced_once_and_in_order(desk: Desk) -> None:
    for number in (1, 2):
        await desk.bury(number)
    await desk.announcer.dead("g")
    await desk.bury(3)
    await desk.announcer.dead("g")
    await desk.announcer.dead("g")
    assert desk.told == ["event-1", "event-2", "event-3"]
    assert desk.audience.heard[0][0] == DeliveryDeadLettered(
        group="g", event_id="event-1", event_topic="custom.n", reason="rejected", error="no", attempts=3
    )


async def test_more_than_a_page_is_announced_in_one_go(desk: Desk) -> None:
    for number in range(PAGE + 3):
        await desk.bury(number)
    await desk.announcer.dead("g")
    assert len(desk.told) == PAGE + 3


async def test_who_dies_on_the_way_is_followed_by_who_says_the_same_again(desk: Desk) -> None:
    """Said again under the same idempotency key, it is one event of the log."""
    for number in (1, 2):
        await desk.bury(number)
    desk.audience.failures = [None, SystemExit()]  # type: ignore[list-item]
    with pytest.raises(SystemExit):
        await desk.announcer.dead("g")
    await Announcer(desk.history, desk.audience.publish).dead("g")
    assert desk.told == ["event-1", "event-1", "event-2"]
    keys = [key for _, key in desk.audience.heard]
    assert keys[0] == keys[1] != keys[2]


async def test_what_can_not_be_said_now_is_said_next_time(desk: Desk) -> None:
    await desk.bury(1)
    desk.audience.failures = [Unavailable("away")]
    await desk.announcer.dead("g")
    assert desk.told == []
    await desk.announcer.dead("g")
    assert desk.told == ["event-1"]


async def test_what_was_said_before_in_other_words_is_not_said_for_ever(desk: Desk) -> None:
    for number in (1, 2):
        await desk.bury(number)
    desk.audience.failures = [Conflict("taken")]
    await desk.announcer.dead("g")
    assert desk.told == ["event-2"]
    assert await desk.history.untold("g") == []


@pytest.mark.parametrize("topic", ["delivery.dead_lettered", "integration.failed"])
async def test_a_dead_announcement_is_not_announced(desk: Desk, topic: str) -> None:
    await desk.bury(1, topic=topic)
    await desk.bury(2)
    await desk.announcer.dead("g")
    assert desk.told == ["event-2"]
    assert await desk.history.untold("g") == []


async def test_an_event_that_can_not_be_read_is_named_by_its_place(desk: Desk) -> None:
    await desk.bury(7, wire=b"not an event")
    await desk.announcer.dead("g")
    assert desk.told == ["7-0"]


async def test_a_gap_is_announced_with_its_range(desk: Desk) -> None:
    gap = Gap("deleted", None, 3, 5, 3)
    await desk.announcer.gap(gap)
    ((notice, _),) = desk.audience.heard
    assert notice == DeliveryGapFound(kind="deleted", group=None, first=3, last=5, count=3, text=gap.text)


async def test_two_workers_give_one_gap_one_key_and_another_gap_another(desk: Desk) -> None:
    """The range of a group's gap ends where the group is: it grows while two workers look at the same gap."""
    lost = Gap("unhandled", "g", 3, 12, 1)
    for gap in (lost, Gap("unhandled", "g", 3, 15, 1), Gap("unhandled", "g", 4, 20, 1), Gap("deleted", None, 3, 5, 1)):
        await desk.announcer.gap(gap)
    first, grown, later, other = [key for _, key in desk.audience.heard]
    assert first == grown
    assert len({first, later, other}) == 3, "after the first was accepted the next one is news"


@pytest.mark.parametrize("failure", [Unavailable("away"), Conflict("told before, of another time")])
async def test_a_failing_delivery_that_cannot_be_announced_goes_on(desk: Desk, failure: BaseException) -> None:
    wire = encode(Event(topic="custom.n", data={"n": 1}, id="event-1"))
    taken = Taken("1-0", 2, 4, False, "custom.n", "", 1, wire)
    desk.audience.failures = [failure]
    await desk.announcer.failing("g", taken, "closed", timedelta(seconds=8))
    assert desk.audience.heard == []
    await desk.announcer.failing("g", taken, "closed", timedelta(seconds=8))
    ((notice, key),) = desk.audience.heard
    assert isinstance(notice, DeliveryFailing)
    assert (notice.event_id, notice.error, key) == ("event-1", "closed", "failing:g:1-0")
