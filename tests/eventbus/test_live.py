"""Live subscriptions on a line that breaks, with listeners that are slow, and handlers that fail."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from eventbus import Event, EventBus, Payload, Unavailable, catalog
from eventbus.live import PAGE, QUEUE
from eventbus.redis.connection import Connection
from eventbus.redis.history import History
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Shard
from tests.conftest import wait_until
from tests.proxy import Proxy


async def next_numbers(events: object, count: int) -> list[int]:
    assert hasattr(events, "__anext__")
    async with asyncio.timeout(5):
        return [(await events.__anext__()).data["n"] for _ in range(count)]


@pytest.fixture
def from_the_future() -> Iterator[type[Payload]]:
    class Ahead(Payload, topic="custom.ahead", version=2):
        n: int

    class Behind(Payload, topic="custom.ahead"):
        n: int

    yield Ahead
    catalog.remove(Ahead)
    catalog.remove(Behind)


async def test_a_gap_of_a_broken_line_is_filled_from_the_log(proxy: Proxy, redis_url: str, namespace: str) -> None:
    channel = ShardKeys(namespace).bell
    admin = await Connection.open(redis_url)

    async def is_listening() -> bool:
        return bool((await admin.do("PUBSUB", "NUMSUB", channel))[1])

    async with (
        contextlib.aclosing(_Closing(admin)),
        EventBus.open(redis_url, namespace=namespace) as near,
        EventBus.open(proxy.url, namespace=namespace) as far,
        far.listen("custom.n") as events,
    ):
        await near.publish("custom.n", {"n": 1})
        assert await next_numbers(events, 1) == [1]

        proxy.reset()

        async def is_away() -> bool:
            return not await is_listening()

        await wait_until(is_away, "the line is broken")
        for n in (2, 3, 4):
            await near.publish("custom.n", {"n": n})
        await near.publish("custom.other", {"n": 0})
        await wait_until(is_listening, "it listens again")
        await near.publish("custom.n", {"n": 5})

        assert await next_numbers(events, 4) == [2, 3, 4, 5]
        assert events.missed == 0


class _Closing:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def aclose(self) -> None:
        await self._connection.close()


async def test_more_than_a_page_is_heard_in_order_and_nothing_from_before(bus: EventBus) -> None:
    await bus.publish("custom.n", {"n": -1})
    async with bus.listen("custom.n") as events:
        await bus.publish_many(Event(topic="custom.n", data={"n": n}) for n in range(2 * PAGE + 5))

        assert await next_numbers(events, 2 * PAGE + 5) == list(range(2 * PAGE + 5))


async def test_a_copy_for_one_group_is_not_heard_by_all(bus: EventBus, url: str, namespace: str) -> None:
    connection = await Connection.open(url)
    history, shard = History(connection, ShardKeys(namespace)), Shard(connection, ShardKeys(namespace))
    await shard.declare("g", ["custom.n"], behind="0")
    async with contextlib.aclosing(_Closing(connection)), bus.listen("custom.n") as events:
        await bus.publish("custom.n", {"n": 1})
        batch = await shard.take("g", "a", 1, lease=timedelta(minutes=1), suspects=False, ordered=True)
        await shard.settle("g", "a", [(one.entry_id, one.fence, one.key) for one in batch.taken])
        assert (await history.replay("g", ("custom.n",), "token", 1, "-", "+")).copied == 1
        await bus.publish("custom.n", {"n": 2})

        assert await next_numbers(events, 2) == [1, 2]


async def test_who_does_not_keep_up_loses_the_oldest_and_is_told_how_many(bus: EventBus) -> None:
    async with bus.listen("custom.n") as slow, bus.listen("custom.last") as quick:
        await bus.publish_many(Event(topic="custom.n", data={"n": n}) for n in range(QUEUE + 5))
        await bus.publish("custom.last")
        async with asyncio.timeout(5):
            await anext(quick)  # all that came before it has been handed out

        assert slow.missed == 5
        assert await next_numbers(slow, 2) == [5, 6]


async def test_a_failing_live_handler_is_called_for_the_next_event_too(bus: EventBus) -> None:
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def handle(event: Event[Any]) -> None:
        seen.put_nowait(event.data["n"])
        raise ValueError("wrong")

    await bus.subscribe("custom.n", handle)
    for n in (1, 2):
        await bus.publish("custom.n", {"n": n})

    async with asyncio.timeout(5):
        assert [await seen.get(), await seen.get()] == [1, 2]


async def test_a_slow_live_handler_holds_up_nobody_else(bus: EventBus) -> None:
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def stuck(event: Event[Any]) -> None:
        await asyncio.Event().wait()

    async def handle(event: Event[Any]) -> None:
        seen.put_nowait(event.data["n"])

    await bus.subscribe("custom.n", stuck)
    await bus.subscribe("custom.n", handle)
    for n in (1, 2):
        await bus.publish("custom.n", {"n": n})

    async with asyncio.timeout(5):
        assert [await seen.get(), await seen.get()] == [1, 2]


async def test_an_event_that_can_not_be_read_is_left_out(bus: EventBus, from_the_future: type[Payload]) -> None:
    ahead = catalog.event(from_the_future.model_validate({"n": 1}))
    catalog.remove(from_the_future)

    async with bus.listen() as events:
        await bus.publish(ahead)
        await bus.publish("custom.n", {"n": 2})

        assert await next_numbers(events, 1) == [2]


async def test_an_unsubscribed_live_handler_is_not_called(bus: EventBus) -> None:
    seen: list[int] = []

    async def handle(event: Event[Any]) -> None:
        seen.append(event.data["n"])

    subscription = await bus.subscribe("custom.n", handle)
    await bus.publish("custom.n", {"n": 1})
    await wait_until(lambda: seen == [1], "the handler is called")
    await bus.unsubscribe(subscription)
    async with bus.listen("custom.n") as events:
        await bus.publish("custom.n", {"n": 2})
        await next_numbers(events, 1)

    assert seen == [1]


async def test_a_live_handler_is_called_once_however_often_the_bus_runs(bus: EventBus) -> None:
    subscribed: list[int] = []
    decorated: list[int] = []

    async def handle(event: Event[Any]) -> None:
        subscribed.append(event.data["n"])

    @bus.on("custom.n")
    async def show(event: Event[Any]) -> None:
        decorated.append(event.data["n"])

    await bus.subscribe("custom.n", handle)
    for n in (1, 2, 3):
        await bus.run_until_idle()
        await bus.publish("custom.n", {"n": n})
    await wait_until(lambda: len(subscribed) >= 3 and len(decorated) >= 3, "both are called")

    assert subscribed == decorated == [1, 2, 3]


async def test_listening_can_be_iterated_directly(bus: EventBus) -> None:
    async def first() -> int:
        async for event in bus.listen("custom.n"):
            return int(event.data["n"])
        raise AssertionError("it ended by itself")

    listening = asyncio.create_task(first())
    async with asyncio.timeout(5):
        while not listening.done():
            await bus.publish("custom.n", {"n": 7})
            await asyncio.sleep(0.01)

    assert await listening == 7


async def test_closing_the_bus_ends_a_listener(url: str, namespace: str) -> None:
    async with EventBus.open(url, namespace=namespace) as bus:
        listening = bus.listen("custom.n")
        events = await listening.__aenter__()
        await bus.publish("custom.n", {"n": 1})
        await next_numbers(events, 1)

    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_a_live_subscription_that_can_not_begin_now_begins_when_redis_is_there(
    proxy: Proxy, namespace: str
) -> None:
    seen: list[int] = []

    async def handle(event: Event[Any]) -> None:
        seen.append(event.data["n"])

    async with EventBus.open(proxy.url, namespace=namespace) as bus:
        proxy.freeze()
        beginning = asyncio.create_task(bus.subscribe("custom.n", handle))
        await asyncio.sleep(0)
        proxy.thaw()
        await beginning
        with contextlib.suppress(Unavailable):
            await bus.publish("custom.n", {"n": 1})
        await wait_until(lambda: seen == [1], "the handler is called")
