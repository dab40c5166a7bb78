"""The journal on each backend: order, bounds, and bytes that come back as they were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from eventbus import EventBus, Full
from eventbus.journal import START, Said
from eventbus.redis.connection import Connection
from eventbus.redis.embedded import EmbeddedRedis

HOSTILE = [
    b"",
    b"\x00\xff\r\n$3\r\nfoo",
    b'{"event": "{eventbus:main:0}:log"}',
    b"]] return redis.call('FLUSHALL')",
    b"x" * 8192,
]


async def test_the_newest_lines_stay_and_the_oldest_make_room(bus: EventBus) -> None:
    for start in (0, 10, 20):
        await bus.journal.append([Said(b"%d" % number) for number in range(start, start + 10)], keep=15)
    kept = await bus.journal.before(None, most=100)
    assert [one.line for one in kept] == [b"%d" % number for number in range(29, 14, -1)]


async def test_what_goes_well_does_not_push_out_what_went_wrong(bus: EventBus) -> None:
    await bus.journal.append([Said(b"wrong", is_warning=True), Said(b"well"), Said(b"bad", is_warning=True)], keep=10)
    (place, *_) = [one.place for one in await bus.journal.after(START, most=1)]
    await bus.journal.append([Said(b"well")] * 10, keep=10)
    assert {one.line for one in await bus.journal.before(None, most=100)} == {b"well"}
    warnings = await bus.journal.before(None, warnings=True, most=100)
    assert [one.line for one in warnings] == [b"bad", b"wrong"]
    assert [one.line for one in await bus.journal.after(place, warnings=True, most=100)] == [b"bad"]
    await bus.journal.append([Said(b"%d" % number, is_warning=True) for number in range(12)], keep=10)
    assert [one.line for one in await bus.journal.before(None, warnings=True, most=100)][-1] == b"2"


async def test_pages_follow_one_another_without_a_gap_in_either_direction(bus: EventBus) -> None:
    lines = [b"%d" % number for number in range(25)]
    await bus.journal.append([*map(Said, lines)], keep=100)
    back, place = [], None
    while page := await bus.journal.before(place, most=10):
        back += [one.line for one in page]
        assert len(back) <= len(lines), "it goes round in circles"
        place = page[-1].place
    assert back == lines[::-1]
    forth, place = [], START
    while page := await bus.journal.after(place, most=10):
        forth += [one.line for one in page]
        place = page[-1].place
    assert forth == lines


async def test_an_empty_journal_is_no_error(bus: EventBus) -> None:
    assert await bus.journal.before(None, most=10) == []
    assert await bus.journal.after(START, most=10) == []


async def test_a_line_is_bytes_that_come_back_as_they_were(bus: EventBus) -> None:
    await bus.journal.append([*map(Said, HOSTILE)], keep=100)
    assert [one.line for one in await bus.journal.after(START, most=100)] == HOSTILE
    assert await bus.groups() == {}


async def test_since_leaves_out_what_arrived_before(bus: EventBus) -> None:
    await bus.journal.append([Said(b"x")], keep=100)
    now = datetime.now(UTC)
    assert len(await bus.journal.before(None, since=now - timedelta(minutes=1), most=10)) == 1
    assert await bus.journal.before(None, since=now + timedelta(minutes=1), most=10) == []


async def test_all_programs_of_a_namespace_share_one_and_others_have_their_own(url: str, namespace: str) -> None:
    async with EventBus.open(url, namespace=namespace) as one, EventBus.open(url, namespace=namespace) as other:
        await one.journal.append([Said(b"one")], keep=10)
        await other.journal.append([Said(b"other")], keep=10)
        assert [kept.line for kept in await one.journal.before(None, most=10)] == [b"other", b"one"]
    async with EventBus.open(url, namespace=f"{namespace}-stranger") as stranger:
        assert await stranger.journal.before(None, most=10) == []


async def test_a_full_redis_takes_no_line_and_the_journal_stays_as_it_was(
    own_redis: EmbeddedRedis, own_admin: Connection
) -> None:
    async with EventBus.open(f"embedded://{own_redis.home}") as bus:
        await bus.journal.append([Said(b"before")], keep=10)
        await own_admin.do("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(Full):
            await bus.journal.append([Said(b"after")], keep=10)
        assert [kept.line for kept in await bus.journal.before(None, most=10)] == [b"before"]
