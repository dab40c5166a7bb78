"""Publishing while Redis goes away or fills up under it: what is said is what is known, in time and in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from eventbus import Event, EventBus, Full, OutcomeUnknown, SyncPublisher, Unavailable
from eventbus.publisher import BATCH
from eventbus.redis.connection import Connection
from eventbus.redis.embedded import EmbeddedRedis
from tests.conftest import wait_until
from tests.proxy import Proxy, open_proxy

SCRIPT = b"EVALSHA"
SOON = timedelta(seconds=0.5)
LATER = timedelta(seconds=10)
LATE_ANSWERS = 0.5


def numbered(n: int) -> Event[Any]:
    return Event(topic="custom.n", data={"n": n})


@pytest.fixture
async def own_proxy(own_redis: EmbeddedRedis) -> AsyncIterator[Proxy]:
    """A way that can fail to a server that may be filled."""
    async with open_proxy(own_redis.socket_path) as opened:
        yield opened


@pytest.fixture
async def far(own_proxy: Proxy) -> AsyncIterator[EventBus]:
    """A bus behind it, whose script Redis knows: one event is stored."""
    async with EventBus.open(own_proxy.url, publish_timeout=LATER) as opened:
        await opened.publish("custom.first")
        yield opened


async def fill_before_it_arrives(proxy: Proxy, admin: Connection) -> None:
    """Redis has no room any more when the held request arrives."""
    async with asyncio.timeout(10):
        await proxy.held.wait()
    await admin.do("CONFIG", "SET", "maxmemory", "1")
    proxy.deliver()


# -- full after a lost answer ----------------------------------------------------------------------------------------


async def test_full_after_a_lost_answer_is_not_said_of_what_may_be_stored(
    far: EventBus, own_proxy: Proxy, own_admin: Connection
) -> None:
    own_proxy.lose_reply(SCRIPT, 1)
    own_proxy.hold(SCRIPT, 2)
    publishing = asyncio.create_task(far.publish(numbered(1)))
    await fill_before_it_arrives(own_proxy, own_admin)

    with pytest.raises(OutcomeUnknown, match=r"no memory left .* publish the same event again, it is stored once"):
        await publishing
    assert await own_admin.do("XLEN", far._shard.keys.log) == 2


async def test_so_it_is_for_those_who_waited_in_line(far: EventBus, own_proxy: Proxy, own_admin: Connection) -> None:
    own_proxy.lose_reply(SCRIPT, 2)
    own_proxy.hold(SCRIPT, 3)
    publishing = [asyncio.create_task(far.publish(numbered(n))) for n in range(20)]
    await fill_before_it_arrives(own_proxy, own_admin)
    ends = await asyncio.gather(*publishing, return_exceptions=True)

    assert not isinstance(ends[0], BaseException)  # it went alone, before the others
    assert {type(end) for end in ends[1:]} == {OutcomeUnknown}
    assert await own_admin.do("XLEN", far._shard.keys.log) == 21


async def test_a_script_is_told_the_same_of_full_after_a_lost_answer(
    far: EventBus, own_proxy: Proxy, own_admin: Connection
) -> None:
    own_proxy.lose_reply(SCRIPT, 1)
    own_proxy.hold(SCRIPT, 2)
    with SyncPublisher(own_proxy.url, timeout=LATER) as script:
        publishing = asyncio.create_task(asyncio.to_thread(script.publish, numbered(1)))
        await fill_before_it_arrives(own_proxy, own_admin)

        with pytest.raises(OutcomeUnknown, match="publish the same event again"):
            await publishing
    assert await own_admin.do("XLEN", far._shard.keys.log) == 2


# -- many ------------------------------------------------------------------------------------------------------------


async def test_many_that_fail_in_the_middle_say_how_many_are_stored_and_send_nothing_later(
    far: EventBus, own_proxy: Proxy, own_admin: Connection
) -> None:
    own_proxy.hold(SCRIPT, 2)
    publishing = asyncio.create_task(far.publish_many(numbered(n) for n in range(3 * BATCH)))
    await fill_before_it_arrives(own_proxy, own_admin)

    with pytest.raises(Full, match=r"^200 of 600 events are stored, then: .* no memory left"):
        await publishing
    await own_admin.do("CONFIG", "SET", "maxmemory", "0")
    assert (await far.publish(numbered(0))).sequence == 1 + BATCH + 1


async def test_many_whose_answers_end_in_the_middle_send_nothing_later(proxy: Proxy, namespace: str) -> None:
    async with EventBus.open(proxy.url, namespace=namespace, publish_timeout=SOON) as bus:
        await bus.publish("custom.first")
        proxy.hold(SCRIPT, 2)
        with pytest.raises(OutcomeUnknown, match=r"^200 of 600 events are stored, then: no confirmation within 0\.5 s"):
            await bus.publish_many(numbered(n) for n in range(3 * BATCH))
        proxy.deliver()

        assert (await bus.publish(numbered(0))).sequence in (1 + BATCH + 1, 1 + 2 * BATCH + 1)


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_the_order_of_asking_outlives_a_lost_answer(proxy: Proxy, namespace: str, lost: int) -> None:
    async with EventBus.open(proxy.url, namespace=namespace, publish_timeout=LATER) as bus:
        await bus.publish("custom.first")
        proxy.lose_reply(SCRIPT, lost)
        async with asyncio.TaskGroup() as asking:
            first = [asking.create_task(bus.publish(numbered(n))) for n in range(150)]
            many = asking.create_task(bus.publish_many(numbered(n) for n in range(300)))
            last = [asking.create_task(bus.publish(numbered(n))) for n in range(150)]

    before = [task.result().sequence for task in first]
    within = [one.sequence for one in many.result()]
    after = [task.result().sequence for task in last]
    assert before == list(range(2, 152))
    assert after == sorted(after)
    assert within == sorted(within)
    assert sorted([*before, *after, *within]) == list(range(2, 602))


async def test_the_order_of_asking_outlives_those_whose_time_is_up(proxy: Proxy, namespace: str) -> None:
    """Who asked later has time left when the batch fails, and goes first of all in the next one."""
    async with EventBus.open(proxy.url, namespace=namespace, publish_timeout=10 * SOON) as bus:
        await bus.publish("custom.first")
        proxy.freeze()
        half_time = time.monotonic() + 5 * SOON.total_seconds()
        early = [asyncio.create_task(bus.publish(numbered(n))) for n in range(BATCH // 2)]
        await wait_until(lambda: time.monotonic() > half_time, "half of their time is over")
        late = [asyncio.create_task(bus.publish(numbered(n))) for n in range(BATCH)]
        told = await asyncio.gather(*early, return_exceptions=True)
        proxy.thaw()
        receipts = await asyncio.gather(*late)

    assert {type(one) for one in told} == {OutcomeUnknown}
    sequences = [receipt.sequence for receipt in receipts]
    assert sequences == sorted(sequences)


# -- in time ---------------------------------------------------------------------------------------------------------


async def test_the_time_out_bounds_each_of_a_thousand_publishes_while_redis_is_away(
    proxy: Proxy, namespace: str
) -> None:
    async with EventBus.open(proxy.url, namespace=namespace, publish_timeout=SOON) as bus:
        await bus.publish("custom.first")
        proxy.freeze()
        began = time.monotonic()

        async def took(n: int) -> float:
            with pytest.raises(Unavailable):
                await bus.publish(numbered(n))
            return time.monotonic() - began

        times = await asyncio.gather(*(took(n) for n in range(1000)))
        proxy.thaw()

    assert max(times) < 3 * SOON.total_seconds()


async def test_a_script_waits_no_longer_than_its_time_out_however_many_answers_are_late(
    proxy: Proxy, namespace: str
) -> None:
    """Each answer comes in time; connecting and running the script takes several."""
    proxy.latency = LATE_ANSWERS
    timeout = timedelta(seconds=1.2)
    event = numbered(1)
    with SyncPublisher(proxy.url.replace("/0", "/1"), namespace=namespace, timeout=timeout) as script:
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown, match=r"no confirmation within 1\.2 s"):
            await asyncio.to_thread(script.publish, event)
        assert time.monotonic() - began < timeout.total_seconds() * 1.3

        proxy.latency = 0.0
        assert (await asyncio.to_thread(script.publish, event)).sequence == 1


async def test_full_is_said_at_once_to_all_who_publish_at_a_time(
    far: EventBus, own_proxy: Proxy, own_admin: Connection
) -> None:
    await own_admin.do("CONFIG", "SET", "maxmemory", "1")
    own_proxy.watch(SCRIPT)
    before = own_proxy.requests[SCRIPT]
    async with asyncio.timeout(5):
        ends = await asyncio.gather(*(far.publish(numbered(n)) for n in range(50)), return_exceptions=True)

    assert {type(end) for end in ends} == {Full}
    assert own_proxy.requests[SCRIPT] - before == 2


async def test_a_scheduled_event_in_the_spool_is_not_cancelled_and_the_caller_is_told(
    proxy: Proxy, namespace: str, tmp_path: Path
) -> None:
    async with EventBus.open(proxy.url, namespace=namespace, spool=tmp_path, publish_timeout=SOON) as bus:
        proxy.freeze()
        hour = timedelta(hours=1)
        receipt = await bus.publish("custom.n", {"n": 1}, delay=hour, idempotency_key="k")
        assert receipt.status == "spooled"
        with pytest.raises(Unavailable, match=r"'k' waits on this machine's disk .*nothing was cancelled"):
            await bus.cancel("k")
        proxy.thaw()
        await wait_until(lambda: bus.spools is not None and bus.spools.is_empty, "it is sent")
        assert await bus.cancel("k")
        assert await bus.scheduled() == []


async def test_the_spool_takes_no_more_than_it_was_given(proxy: Proxy, namespace: str, tmp_path: Path) -> None:
    options = {"namespace": namespace, "spool": tmp_path, "spool_bytes": 2000, "publish_timeout": SOON}
    async with EventBus.open(proxy.url, **options) as bus:
        proxy.freeze()
        with pytest.raises(Unavailable, match="2,000 is the limit"):  # noqa: PT012  which one is refused does not matter
            for n in range(10):
                assert (await bus.publish(numbered(n))).status == "spooled"
        assert bus.spools is not None
        assert 0 < bus.spools.bytes <= 2000
        proxy.thaw()
