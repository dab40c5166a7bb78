"""Publishing over a network that fails: one entry for one event, in order, and never more said than is known."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus import Conflict, Event, EventBus, Full, InvalidEvent, OutcomeUnknown, SyncPublisher, Unavailable
from eventbus.redis.connection import Connection
from tests.proxy import Proxy

SOON = timedelta(seconds=0.4)


@pytest.fixture
async def far(proxy: Proxy, namespace: str) -> AsyncIterator[EventBus]:
    """A bus behind the proxy, its scripts known to Redis."""
    async with EventBus.open(proxy.url, namespace=namespace, publish_timeout=SOON) as opened:
        await opened.publish("custom.first")
        yield opened


def numbered(n: int) -> Event:
    return Event(topic="custom.n", data={"n": n})


async def test_publishes_under_way_at_the_same_time_share_a_round_trip(far: EventBus, proxy: Proxy) -> None:
    proxy.watch(b"EVALSHA")

    await asyncio.gather(*(far.publish(numbered(n)) for n in range(100)))

    assert 1 <= proxy.requests[b"EVALSHA"] <= 2


async def test_two_hundred_publishers_take_turns_by_halves(far: EventBus, proxy: Proxy) -> None:
    """While Redis works on one half, the other half makes its next events."""
    waiting = iter(range(2_000))

    async def one() -> list[int]:
        return [(await far.publish(numbered(n))).sequence for n in waiting]

    proxy.watch(b"EVALSHA")
    sequences = await asyncio.gather(*(one() for _ in range(200)))

    assert 20 <= proxy.requests[b"EVALSHA"] <= 24
    assert sorted(number for some in sequences for number in some) == list(range(2, 2_002))


async def test_one_round_trip_has_200_events_at_most(far: EventBus, proxy: Proxy) -> None:
    proxy.watch(b"EVALSHA")

    await far.publish_many(numbered(n) for n in range(401))

    assert proxy.requests[b"EVALSHA"] == 3


async def test_the_order_of_asking_is_the_order_in_the_log(bus: EventBus) -> None:
    receipts = await asyncio.gather(*(bus.publish(numbered(n)) for n in range(450)))

    assert [receipt.sequence for receipt in receipts] == list(range(1, 451))


@pytest.mark.parametrize("number", [1, 2])
async def test_an_event_whose_answer_is_lost_is_stored_once(far: EventBus, proxy: Proxy, number: int) -> None:
    proxy.lose_reply(b"EVALSHA", number)

    receipts = [await far.publish(numbered(n)) for n in range(3)]

    assert [receipt.sequence for receipt in receipts] == [2, 3, 4]
    assert [receipt.status for receipt in receipts].index("duplicate") == number - 1


async def test_many_whose_answer_is_lost_are_stored_once_and_in_order(far: EventBus, proxy: Proxy) -> None:
    proxy.lose_reply(b"EVALSHA", 2)

    receipts = await far.publish_many(numbered(n) for n in range(600))

    assert [receipt.sequence for receipt in receipts] == list(range(2, 602))
    assert {receipt.status for receipt in receipts[200:400]} == {"duplicate"}


async def test_a_script_whose_answer_is_lost_stores_once_too(far: EventBus, proxy: Proxy, namespace: str) -> None:
    proxy.lose_reply(b"EVALSHA")

    with SyncPublisher(proxy.url, namespace=namespace) as script:
        receipt = await asyncio.to_thread(script.publish, numbered(1))

    assert (receipt.status, receipt.sequence) == ("duplicate", 2)


async def test_without_an_answer_the_outcome_is_unknown_and_a_repeat_is_safe(far: EventBus, proxy: Proxy) -> None:
    event = numbered(1)
    proxy.freeze()

    with pytest.raises(OutcomeUnknown, match=r"no confirmation within 0\.4 s: .* publish the same event again"):
        await far.publish(event)
    proxy.thaw()

    assert (await far.publish(event)).sequence == 2
    assert (await far.publish(numbered(2))).sequence == 3  # and its answer is its own, not a late one


async def test_those_who_wait_longer_than_the_first_are_told_in_their_own_time(far: EventBus, proxy: Proxy) -> None:
    """A connection that is open and silent: nothing breaks, and each publish ends when its own time is up."""
    proxy.freeze()
    first = asyncio.create_task(far.publish(numbered(1)))
    second = asyncio.create_task(far.publish(numbered(2)))

    async with asyncio.timeout(2):
        told = await asyncio.gather(first, second, return_exceptions=True)
    proxy.thaw()

    assert [type(one) for one in told] == [OutcomeUnknown, OutcomeUnknown]
    await far.publish(numbered(3))


async def test_a_script_is_told_the_same_within_its_time(proxy: Proxy, namespace: str) -> None:
    proxy.freeze()
    with SyncPublisher(proxy.url, namespace=namespace, timeout=SOON) as script:
        async with asyncio.timeout(2):
            with pytest.raises(OutcomeUnknown, match="publish the same event again"):
                await asyncio.to_thread(script.publish, numbered(1))


async def test_where_nothing_listens_it_is_surely_not_stored() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{reserved.getsockname()[1]}/0"

        async with EventBus.open(url, publish_timeout=SOON) as bus:
            with pytest.raises(Unavailable, match=r"not stored within 0\.4 s: can't reach Redis") as caught:
                await bus.publish(numbered(1))
        with SyncPublisher(url, timeout=SOON) as script, pytest.raises(Unavailable, match="not stored within") as told:
            await asyncio.to_thread(script.publish, numbered(1))

    assert (type(caught.value), type(told.value)) == (Unavailable, Unavailable)


async def test_what_was_broken_before_does_not_matter(far: EventBus, proxy: Proxy) -> None:
    proxy.reset()

    assert (await far.publish(numbered(1))).sequence == 2


async def test_a_cancelled_publish_takes_nobody_with_it(far: EventBus) -> None:
    gone, stays = numbered(1), numbered(2)
    first = asyncio.create_task(far.publish(gone))
    second = asyncio.create_task(far.publish(stays))
    await asyncio.sleep(0)  # both wait for the round trip
    first.cancel()

    assert (await second).status == "stored"
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await far.publish(gone)).sequence <= 3  # stored once, whether that was before or now
    assert (await far.publish(numbered(3))).sequence == 4


async def test_what_its_caller_gave_up_before_it_left_is_not_sent(far: EventBus) -> None:
    """An outage with callers that lose patience leaves no queue behind."""
    under_way = asyncio.create_task(far.publish(numbered(1)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it has left
    given_up = [
        asyncio.create_task(far.publish(numbered(2))),
        asyncio.create_task(far.publish_many([numbered(3), numbered(4)])),
    ]
    await asyncio.sleep(0)
    for task in given_up:
        task.cancel()
    await asyncio.gather(*given_up, return_exceptions=True)

    first = await under_way
    assert (await far.publish(numbered(5))).sequence == first.sequence + 1


async def test_nothing_is_sent_when_one_of_many_is_malformed(bus: EventBus) -> None:
    with pytest.raises(InvalidEvent):
        await bus.publish_many([numbered(1), Event(topic="custom.n", data={"n": "\ud800"})])

    assert (await bus.publish(numbered(1))).sequence == 1


@pytest.mark.parametrize("clashes", [1, 2])
async def test_where_the_first_words_win_others_are_a_duplicate_of_them(bus: EventBus, clashes: int) -> None:
    first = [await bus.publish("custom.n", {"n": "first"}, idempotency_key=f"k{n}") for n in range(clashes)]
    events = [Event(topic="custom.n", data={"n": "other"}, idempotency_key=f"k{n}") for n in range(clashes)]

    *known, new = await bus.publish_many([*events, numbered(9)], first_wins=True)

    assert [(one.status, one.event_id) for one in known] == [("duplicate", one.event_id) for one in first]
    assert (new.status, new.sequence) == ("stored", clashes + 1)


@pytest.mark.parametrize("clashes", [1, 2])
async def test_a_conflict_among_many_is_told_after_the_rest_is_stored(bus: EventBus, clashes: int) -> None:
    for n in range(clashes):
        await bus.publish("custom.n", {"n": "first"}, idempotency_key=f"k{n}")
    events = [Event(topic="custom.n", data={"n": "other"}, idempotency_key=f"k{n}") for n in range(clashes)]

    with pytest.raises(Conflict):
        await bus.publish_many([*events, numbered(1)])

    assert (await bus.publish(numbered(2))).sequence == clashes + 2


async def test_of_nothing_there_are_no_receipts(bus: EventBus) -> None:
    assert await bus.publish_many([]) == []


async def test_a_key_is_free_again_when_it_is_forgotten(bus: EventBus) -> None:
    first = await bus.publish("custom.n", idempotency_key="k", remember=timedelta(milliseconds=1))
    async with asyncio.timeout(5):
        while (again := await bus.publish("custom.n", idempotency_key="k")).status == "duplicate":
            pass

    assert again.event_id != first.event_id


async def test_a_full_redis_refuses_events_at_once_and_lets_work_be_finished(own_admin: Connection) -> None:
    url = own_admin.address.url
    done: list[int] = []

    async def handle(event: Event[Any]) -> None:
        done.append(event.data["n"])

    async with EventBus.open(url) as bus:
        await bus.publish(numbered(1))
        await bus.subscribe("custom.n", handle, group="g")
        await own_admin.do("CONFIG", "SET", "maxmemory", "1")

        with pytest.raises(Full, match="no memory left for new events: raise maxmemory"):
            await bus.publish(numbered(2))
        with SyncPublisher(url) as script, pytest.raises(Full):
            await asyncio.to_thread(script.publish, numbered(2))
        await bus.run_until_idle(timeout=timedelta(seconds=5))

        await own_admin.do("CONFIG", "SET", "maxmemory", "0")
        assert (await bus.publish(numbered(2))).sequence == 2
    assert done == [1]


async def test_closing_sends_what_is_under_way(redis_url: str, namespace: str) -> None:
    async with EventBus.open(redis_url, namespace=namespace) as bus:
        under_way = asyncio.create_task(bus.publish(numbered(1)))
        await asyncio.sleep(0)

    assert (await under_way).status == "stored"


# -- later -------------------------------------------------------------------------------------------------------------


async def test_what_comes_later_keeps_its_place_among_what_comes_now(bus: EventBus) -> None:
    receipts = await asyncio.gather(
        bus.publish(numbered(1)), bus.publish(numbered(2), delay=timedelta(hours=1)), bus.publish(numbered(3))
    )

    assert [(receipt.status, receipt.sequence) for receipt in receipts] == [
        ("stored", 1),
        ("scheduled", 0),
        ("stored", 2),
    ]


async def test_an_event_for_later_is_scheduled_once(bus: EventBus) -> None:
    hour = timedelta(hours=1)
    first = await bus.publish("custom.n", {"n": 1}, idempotency_key="k", delay=hour)
    again = await bus.publish("custom.n", {"n": 1}, idempotency_key="k", at=datetime.now(UTC) + hour)
    at_once = await bus.publish("custom.n", {"n": 1}, idempotency_key="k")

    assert (first.status, first.sequence, first.entry_id) == ("scheduled", 0, "~")
    for receipt in (again, at_once):
        assert (receipt.status, receipt.event_id, receipt.entry_id) == ("duplicate", first.event_id, "~")
    with pytest.raises(Conflict):
        await bus.publish("custom.n", {"n": 2}, idempotency_key="k", delay=hour)
    assert (await bus.publish(numbered(3))).sequence == 1


async def test_an_event_for_later_whose_answer_is_lost_is_scheduled_once(far: EventBus, proxy: Proxy) -> None:
    proxy.lose_reply(b"EVALSHA", 2)
    await far.publish("custom.n", delay=timedelta(hours=1))  # its script is known to Redis from here on

    receipt = await far.publish("custom.n", idempotency_key="k", delay=timedelta(hours=1))

    assert receipt.status == "duplicate"


async def test_a_time_has_a_zone_and_is_given_once(bus: EventBus) -> None:
    with pytest.raises(TypeError, match="time zone"):
        await bus.publish("custom.n", at=datetime(2030, 1, 1))  # noqa: DTZ001
    with pytest.raises(TypeError, match="not both"):
        await bus.publish("custom.n", at=datetime.now(UTC), delay=timedelta(1))


async def test_a_script_may_publish_for_later_too(url: str, namespace: str) -> None:
    with SyncPublisher(url, namespace=namespace) as script:
        first = await asyncio.to_thread(script.publish, "custom.n", delay=timedelta(hours=1), idempotency_key="k")
        again = await asyncio.to_thread(script.publish, "custom.n", delay=timedelta(hours=1), idempotency_key="k")

    assert (first.status, again.status, again.event_id) == ("scheduled", "duplicate", first.event_id)


async def test_part_of_what_was_published_is_said_to_be_stored(own_admin: Connection) -> None:
    """Each 200 events are one step: what failed says how many were stored before it."""
    url = own_admin.address.url
    async with EventBus.open(url) as bus:
        await bus.publish("custom.first")
        used = int((await own_admin.do("INFO", "memory"))["used_memory"])
        await own_admin.do("CONFIG", "SET", "maxmemory", used + 3_000_000)
        big = "x" * 100_000
        with pytest.raises(Full, match=r"[1-9][\d,]* of 400 events are stored, then: .*no memory"):
            await bus.publish_many(Event(topic="custom.n", data={"n": n, "text": big}) for n in range(400))
