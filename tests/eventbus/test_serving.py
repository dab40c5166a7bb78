"""The serving side under attack: what an outage, a blocked loop, an impatient end or a late request must not do.

The question is always the same: is every delivery still handled, in order, by one handler at a time?
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from eventbus import Attempt, Event, EventBus, Misconfigured, Options, TryLater
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import script
from eventbus.redis.shard import Backlog
from tests.conftest import wait_until
from tests.proxy import Proxy

SHORT = timedelta(milliseconds=50)
LEASE = timedelta(seconds=0.5)
FOR_EVER = timedelta(hours=1)
PROMPT = 5.0

ONE_AT_A_TIME = Options(concurrency=1)


@contextlib.asynccontextmanager
async def running(*buses: EventBus) -> AsyncIterator[None]:
    """The buses serve inside the block."""
    tasks = [asyncio.create_task(bus.run(grace=SHORT), name="run") for bus in buses]
    try:
        yield
    finally:
        for bus in buses:
            bus.stop()
        await asyncio.gather(*tasks)


async def backlog_of(bus: EventBus, group: str = "g") -> Backlog:
    found = await bus.backlog(group)
    assert found is not None
    return found


def numbered(n: int, key: str | None = "lane") -> Event[Any]:
    return Event(topic="custom.n", data={"n": n}, key=key)


async def nothing(event: Event[Any]) -> None: ...


class Handler:
    """Notes the numbers of the events it began; each call ends when the gate is open."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.began: list[int] = []
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()

    async def __call__(self, event: Event[Any]) -> None:
        self.began.append(event.data["n"])
        await self.gate.wait()


# -- unsubscribing ---------------------------------------------------------------------------------------------------


async def test_what_was_in_hand_when_it_unsubscribed_in_an_outage_is_taken_over(
    proxy: Proxy, redis_url: str, namespace: str
) -> None:
    """Also while the rest of the process lives on: its other groups' beats must not keep what nobody runs."""
    options: dict[str, Any] = {"namespace": namespace, "lease": LEASE, "sweep_every": SHORT}
    stuck, beside, other = Handler(), Handler(is_open=True), Handler(is_open=True)
    async with EventBus.open(proxy.url, **options) as leaving, EventBus.open(redis_url, **options) as staying:
        await leaving.subscribe("custom.beside", beside, group="beside")
        subscription = await leaving.subscribe("custom.n", stuck, group="g", options=ONE_AT_A_TIME)
        await staying.subscribe("custom.n", other, group="g")
        await staying.publish_many([numbered(0), numbered(1), numbered(2, key="other")])
        async with running(leaving):
            await wait_until(lambda: stuck.began == [0], "the first has it")
            proxy.freeze()
            await leaving.unsubscribe(subscription, grace=SHORT)
            proxy.reset()  # what it had to say is lost
            proxy.thaw()
            await staying.publish("custom.beside", {"n": 9})
            await wait_until(lambda: beside.began == [9], "the rest of its process is back")
            async with running(staying):
                await wait_until(lambda: sorted(other.began) == [0, 1, 2], "all are taken over", PROMPT)
            assert other.began.index(0) < other.began.index(1)


async def test_unsubscribing_without_grace_strands_nothing(bus: EventBus) -> None:
    seen: set[int] = set()
    options = Options(concurrency=4, poison_limit=1)  # nor is anybody's death blamed for it

    async def handle(event: Event[Any]) -> None:
        await asyncio.sleep(0.001)  # work
        seen.add(event.data["n"])

    async with running(bus):
        for turn in range(20):
            subscription = await bus.subscribe("custom.n", handle, group="g", options=options)
            await bus.publish_many(numbered(n, key=f"k{n % 9}") for n in range(turn * 20, turn * 20 + 20))
            for _ in range(turn):  # at another moment each time
                await asyncio.sleep(0)
            await bus.unsubscribe(subscription, grace=timedelta())
        await bus.subscribe("custom.n", handle, group="g", options=options)
        await wait_until(lambda: len(seen) == 400, "all are handled")

        async def is_done() -> bool:
            return (await backlog_of(bus)).is_empty

        await wait_until(is_done, "all are settled")


async def test_leaving_without_grace_gives_everything_back_and_says_good_bye(bus: EventBus, namespace: str) -> None:
    """Else it would wait for the lease, and be taken for what a dead process held."""
    handler = Handler()
    subscription = await bus.subscribe("custom.n", handler, group="g", options=ONE_AT_A_TIME)
    await bus.publish_many(numbered(n, key=None) for n in range(9))
    async with running(bus):
        await wait_until(lambda: bus._serving.holds == 2 and handler.began, "it has one in hand and one that waits")
        await bus.unsubscribe(subscription, grace=timedelta())
        left = await backlog_of(bus)

        assert (left.running, left.ready, left.unread) == (0, 2, 7)
        assert await bus._connection.do("ZCARD", ShardKeys(namespace).alive) == 0


async def test_a_group_has_its_handler_until_the_last_delivery_is_finished(bus: EventBus) -> None:
    old, new = Handler(), Handler(is_open=True)
    subscription = await bus.subscribe("custom.n", old, group="g", options=ONE_AT_A_TIME)
    await bus.publish_many(numbered(n) for n in range(3))
    async with running(bus):
        await wait_until(lambda: old.began == [0], "the old one has the first")
        leaving = asyncio.create_task(bus.unsubscribe(subscription))
        await asyncio.sleep(0)
        with pytest.raises(Misconfigured, match="one handler per group"):
            await bus.subscribe("custom.n", new, group="g")
        old.gate.set()
        await leaving

        await bus.subscribe("custom.n", new, group="g")
        await wait_until(lambda: new.began == [1, 2], "the new one goes on")
    assert old.began == [0]


async def test_a_handler_can_not_wait_for_its_own_end(bus: EventBus) -> None:
    said: list[str] = []

    async def handle(event: Event[Any]) -> None:
        with pytest.raises(Misconfigured) as caught:
            await bus.unsubscribe(subscription)
        said.append(str(caught.value))

    subscription = await bus.subscribe("custom.n", handle, group="g")
    await bus.publish(numbered(0))
    await bus.run_until_idle(timeout=timedelta(seconds=PROMPT))

    assert said == ["a handler can't unsubscribe itself: let a task of its own do it, or stop the bus"]
    await bus.unsubscribe(subscription)  # still there, and somebody else may


# -- a process that sleeps, and requests that arrive late ------------------------------------------------------------


async def test_a_process_whose_loop_was_blocked_does_not_take_over_from_itself(proxy: Proxy, namespace: str) -> None:
    beat, sweep = script("beat").sha.encode(), script("sweep").sha.encode()
    for known in (beat, sweep):
        proxy.watch(known)
    began: list[int] = []

    async def handle(event: Event[Any]) -> None:
        began.append(event.data["n"])
        if began != [0]:
            return
        beats = proxy.requests[beat]
        await wait_until(lambda: proxy.requests[beat] > beats, "a beat: the next one comes after the next sweep")
        time.sleep(LEASE.total_seconds() * 1.1)  # noqa: ASYNC251  the loop is blocked: that is what this is about
        sweeps = proxy.requests[sweep]
        await wait_until(lambda: proxy.requests[sweep] > sweeps + 2, "it sweeps")

    first_death = Options(poison_limit=1)
    sweep_often = timedelta(milliseconds=5)
    async with EventBus.open(proxy.url, namespace=namespace, lease=LEASE, sweep_every=sweep_often) as bus:
        await bus.subscribe("custom.n", handle, group="g", options=first_death)
        await bus.publish_many(numbered(n) for n in range(3))
        await bus.run_until_idle(timeout=timedelta(seconds=10))

        assert began == [0, 1, 2]
        assert (await backlog_of(bus)).dead == 0


async def test_what_a_late_request_took_is_found(proxy: Proxy, redis_url: str, namespace: str) -> None:
    """A network may deliver a request whose connection is long given up: nobody hears what it took."""
    take = script("take").sha.encode()
    proxy.watch(take)
    handler = Handler()
    async with (
        EventBus.open(proxy.url, namespace=namespace, lease=LEASE, sweep_every=SHORT) as bus,
        EventBus.open(redis_url, namespace=namespace) as observing,
    ):
        await bus.subscribe("custom.n", handler, group="g", options=ONE_AT_A_TIME)
        async with running(bus):
            await wait_until(lambda: proxy.requests[take] >= 1, "it serves")
            proxy.hold(take)
            await observing._connection.do("PUBLISH", ShardKeys(namespace).bell, "g")
            await wait_until(proxy.held.is_set, "a request is on its way")
            await observing.publish_many(numbered(n, key=None) for n in range(8))
            proxy.reset()
            await wait_until(lambda: handler.began == [0], "it has connected anew and taken what it has room for")
            proxy.deliver()

            async def is_stray() -> bool:
                return (await backlog_of(observing)).running == 4

            await wait_until(is_stray, "the late request took two more")
            handler.gate.set()
            await wait_until(lambda: len(handler.began) == 8, "all are handled", PROMPT)
    assert sorted(handler.began) == list(range(8))


async def test_a_thousand_deliveries_of_a_dead_worker_are_taken_over_at_once(redis_url: str, namespace: str) -> None:
    seen: list[int] = []

    async def handle(event: Event[Any]) -> None:
        seen.append(event.data["n"])

    async with EventBus.open(redis_url, namespace=namespace, sweep_every=timedelta(seconds=1)) as bus:
        await bus.subscribe("custom.n", handle, group="g")
        await bus.publish_many(numbered(n, key=None) for n in range(1000))
        for _ in range(4):
            await bus._shard.take("g", "dead", 250, lease=LEASE, suspects=False, ordered=True)
        await bus._shard.beat(["dead"], timedelta())
        async with running(bus):
            await wait_until(lambda: len(seen) == 1000, "all are handled after one sweep", seconds=3)
    assert sorted(seen) == list(range(1000))


async def test_one_step_of_trimming_forgets_everything_that_is_finished(redis_url: str, namespace: str) -> None:
    """Thirty thousand: three times what one call of the script forgets."""
    keep = {"retention": timedelta(), "retention_events": 0}
    async with EventBus.open(redis_url, namespace=namespace, **keep) as bus:
        for _ in range(15):
            await bus.publish_many(numbered(n, key=None) for n in range(2000))

        async def is_short() -> bool:
            books = await bus.books()
            return books.length < 200 and books.length + books.trimmed == 30_000  # the last node of the stream stays

        async with running(bus):
            await wait_until(is_short, "the log is empty but for its last node", PROMPT)


# -- stopping --------------------------------------------------------------------------------------------------------


async def test_what_runs_in_a_thread_is_not_handed_back_while_it_runs(redis_url: str, namespace: str) -> None:
    began, gate = threading.Event(), threading.Event()

    def endless(event: Event[Any]) -> None:
        began.set()
        gate.wait(10 * PROMPT)

    other = Handler(is_open=True)
    try:
        async with EventBus.open(redis_url, namespace=namespace, lease=FOR_EVER) as observing:
            async with EventBus.open(redis_url, namespace=namespace, lease=FOR_EVER) as bus:
                await bus.subscribe("custom.n", endless, group="g")
                await bus.publish_many(numbered(n) for n in range(2))
                async with running(bus):
                    await wait_until(began.is_set, "the thread has begun")
            left = await backlog_of(observing)
            assert (left.running, left.ready, left.waiting) == (1, 0, 1)

            await observing.subscribe("custom.n", other, group="g")
            async with running(observing):
                await observing.publish(numbered(9, key="other"))
                await wait_until(lambda: other.began == [9], "another worker does what is free, and only that")
    finally:
        gate.set()


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{reserved.getsockname()[1]}/0"


async def test_stopping_ends_a_run_that_still_waits_for_redis(nowhere: str) -> None:
    async with EventBus.open(nowhere) as bus:
        bus.on("custom.n", group="g")(nothing)
        run = asyncio.create_task(bus.run())
        await wait_until(lambda: bus._serving.is_on, "it has begun")
        bus.stop()
        async with asyncio.timeout(PROMPT):
            await run


async def test_stopping_ends_a_run_before_its_first_step_and_no_later_one(bus: EventBus) -> None:
    handler = Handler(is_open=True)
    await bus.subscribe("custom.n", handler, group="g")
    run = asyncio.create_task(bus.run())
    bus.stop()
    async with asyncio.timeout(PROMPT):
        await run

    async with running(bus):
        await bus.publish(numbered(1))
        await wait_until(lambda: handler.began == [1], "the next run serves")


@pytest.mark.parametrize("when", ["at once", "while it ends"])
async def test_a_run_that_is_cancelled_twice_still_hands_everything_back(
    redis_url: str, namespace: str, when: str
) -> None:
    handler = Handler()
    async with EventBus.open(redis_url, namespace=namespace) as observing:
        async with EventBus.open(redis_url, namespace=namespace, lease=FOR_EVER) as bus:
            await bus.subscribe("custom.n", handler, group="g")
            await bus.publish_many(numbered(n) for n in range(3))
            run = asyncio.create_task(bus.run(grace=SHORT))
            await wait_until(lambda: handler.began == [0], "it has the first")
            run.cancel()
            if when == "while it ends":
                await wait_until(lambda: bus._serving._ending is not None, "it is about to end")
            else:
                await asyncio.sleep(0)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            await bus.close(grace=SHORT)
            assert not [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        left = await backlog_of(observing)

    assert (left.running, left.ready, left.waiting) == (0, 1, 2)


# -- until idle ------------------------------------------------------------------------------------------------------


async def test_it_is_not_idle_while_groups_feed_each_other_however_late_answers_are(
    proxy: Proxy, redis_url: str, namespace: str
) -> None:
    """Between the looks at two groups, the second may give work to the first, which was looked at already."""
    calls: list[int] = []

    async def handle(event: Event[Any], attempt: Attempt) -> None:
        calls.append(attempt.number)
        if attempt.number == 1:
            raise TryLater("busy", after=timedelta(seconds=0.5))

    async with (
        EventBus.open(proxy.url, namespace=namespace) as bus,
        EventBus.open(redis_url, namespace=namespace) as other,
    ):
        for one in (bus, other):

            async def feed(event: Event[Any], by: EventBus = one) -> None:
                await by.publish("custom.fed")

            await one.subscribe("custom.fed", handle, group="first")
            await one.subscribe("custom.n", feed, group="second")
        await bus.backlog("first")  # Redis knows the script
        proxy.hold(script("backlog").sha.encode(), 2)
        idle = asyncio.create_task(bus.run_until_idle(timeout=timedelta(seconds=10)))
        await wait_until(proxy.held.is_set, "it has looked at the first group and looks at the second")
        async with running(other):
            await other.publish(numbered(1))

            async def is_due() -> bool:
                return (await backlog_of(other, "first")).due == 1

            await wait_until(is_due, "the second has fed the first")
        proxy.deliver()
        await idle

    assert calls == [1, 2]


# -- pauses ----------------------------------------------------------------------------------------------------------


async def test_a_pause_stops_what_was_fetched_before_it(bus: EventBus) -> None:
    """Also what a handler that ends at the same moment would go on with."""
    calls: list[int] = []
    both, end = asyncio.Event(), asyncio.Event()

    async def limited(event: Event[Any]) -> None:
        calls.append(event.data["n"])
        if len(calls) == 1:
            await both.wait()
            end.set()
            raise TryLater("429", after=FOR_EVER, counts=False, pause=True)
        both.set()
        await end.wait()

    await bus.subscribe("custom.n", limited, group="g", options=Options(concurrency=2))
    await bus.publish_many(numbered(n, key=None) for n in range(20))

    async def is_waiting() -> bool:
        left = await backlog_of(bus)
        return left.paused_ms > 0 and left.running == 0

    async with running(bus):
        await wait_until(is_waiting, "everything is given back")
        assert len(calls) == 2


async def test_a_pause_stops_what_another_process_has_fetched(url: str, namespace: str) -> None:
    async def limited(event: Event[Any]) -> None:
        raise TryLater("429", after=FOR_EVER, counts=False, pause=True)

    elsewhere = Handler()
    async with EventBus.open(url, namespace=namespace) as here, EventBus.open(url, namespace=namespace) as there:
        await there.subscribe("custom.n", elsewhere, group="g", options=ONE_AT_A_TIME)
        await here.subscribe("custom.n", limited, group="g", options=ONE_AT_A_TIME)
        await here.publish_many(numbered(n, key=None) for n in range(2))
        async with running(there):
            await wait_until(lambda: there._serving.holds == 2, "it has two")
            await wait_until(lambda: len(elsewhere.began) == 1, "it has begun one of them")
            async with running(here):
                await here.publish(numbered(2, key=None))
                await wait_until(lambda: there._serving.holds == 1, "what it has not begun goes back")
            elsewhere.gate.set()
            await wait_until(lambda: there._serving.holds == 0, "the one in hand is finished")
            left = await backlog_of(there)

    assert len(elsewhere.began) == 1
    assert (left.ready, left.due, left.running) == (1, 1, 0)
    assert left.paused_ms > 0


# -- what this process publishes itself --------------------------------------------------------------------------------


async def test_what_this_process_publishes_is_taken_without_waiting_for_the_bell(
    redis_url: str, namespace: str
) -> None:
    """A consumer that no bell rings looks every two seconds: five events one after another would take ten."""
    handler = Handler(is_open=True)
    async with EventBus.open(redis_url, namespace=namespace) as bus:
        await bus.subscribe("custom.n", handler, group="g")
        async with running(bus):
            await bus.publish(numbered(0))
            await wait_until(lambda: handler.began == [0], "it serves")
            await bus._serving._bell.stop()
            async with asyncio.timeout(PROMPT):
                for n in range(1, 6):
                    await bus.publish(numbered(n))
                    await wait_until(lambda: handler.began[-1] == n, "it is handled")  # noqa: B023  at once
