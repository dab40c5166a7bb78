"""The life of a bus: serving, stopping, changing subscriptions meanwhile, and a server it can or can't work with."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta
from typing import Any

import pytest

from eventbus import Event, EventBus, Misconfigured, Options, Unavailable
from eventbus.observer import Observer
from eventbus.redis.connection import Connection
from tests.conftest import wait_until
from tests.proxy import Proxy

SHORT = timedelta(milliseconds=100)


async def nothing(event: Event[Any]) -> None: ...


async def test_running_until_idle_ends_with_a_timeout_when_work_remains(bus: EventBus) -> None:
    @bus.on("custom.n", group="g")
    async def stuck(event: Event[Any]) -> None:
        await asyncio.sleep(0.5)

    await bus.publish("custom.n")

    with pytest.raises(TimeoutError):
        await bus.run_until_idle(timeout=SHORT)
    await bus.run_until_idle()


async def test_a_retry_that_is_still_due_is_work(bus: EventBus) -> None:
    @bus.on("custom.n", group="g")  # the default back-off: half a second at least
    async def fails(event: Event[Any]) -> None:
        raise ValueError("wrong")

    await bus.publish("custom.n")

    with pytest.raises(TimeoutError):
        await bus.run_until_idle(timeout=SHORT)


async def test_running_until_idle_without_a_subscription_ends_at_once(bus: EventBus) -> None:
    await bus.publish("custom.n")

    await bus.run_until_idle(timeout=timedelta(seconds=2))


async def test_a_cancelled_run_hands_back_what_it_has(bus: EventBus) -> None:
    started = asyncio.Event()

    @bus.on("custom.n", group="g")
    async def stuck(event: Event[Any]) -> None:
        started.set()
        await asyncio.Event().wait()

    await bus.publish("custom.n")
    run = asyncio.create_task(bus.run(grace=SHORT))
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    backlog = await bus.backlog("g")
    assert backlog is not None
    assert (backlog.running, backlog.ready) == (0, 1)


async def test_subscriptions_come_and_go_while_the_bus_runs(bus: EventBus) -> None:
    seen: list[int] = []

    async def handle(event: Event[Any]) -> None:
        seen.append(event.data["n"])

    run = asyncio.create_task(bus.run())
    await bus.publish("custom.n", {"n": 1})
    first = await bus.subscribe("custom.n", handle, group="g")
    await wait_until(lambda: seen == [1], "it is served")

    await bus.unsubscribe(first)
    await bus.publish("custom.n", {"n": 2})
    await bus.subscribe("custom.n", handle, group="g")
    await wait_until(lambda: seen == [1, 2], "it goes on where it was")
    bus.stop()
    await run


async def test_unsubscribing_waits_for_what_is_in_hand(bus: EventBus) -> None:
    started = asyncio.Event()
    finished: list[int] = []

    async def handle(event: Event[Any]) -> None:
        started.set()
        await asyncio.sleep(0.05)
        finished.append(event.data["n"])

    run = asyncio.create_task(bus.run())
    subscription = await bus.subscribe("custom.n", handle, group="g")
    await bus.publish("custom.n", {"n": 1})
    await started.wait()
    await bus.unsubscribe(subscription)

    assert finished == [1]
    bus.stop()
    await run


async def test_an_id_that_is_no_subscription_is_a_key_error(bus: EventBus) -> None:
    with pytest.raises(KeyError, match="nobody"):
        await bus.unsubscribe("nobody")


async def test_a_second_handler_for_a_group_is_refused_and_the_first_stays(bus: EventBus) -> None:
    bus.on("custom.a", group="g")(nothing)

    with pytest.raises(Misconfigured, match="group g has a handler in this process already"):
        bus.on("custom.b", group="g")(nothing)
    await bus.run_until_idle()

    assert await bus.groups() == {"g": ["custom.a"]}


async def test_a_known_group_takes_new_patterns_and_keeps_its_place(bus: EventBus) -> None:
    await bus.declare("g", ("custom.a",))
    await bus.publish("custom.b")
    await bus.declare("g", ("custom.a", "custom.b"), start="now")

    backlog = await bus.backlog("g")
    assert backlog is not None
    assert backlog.unread == 1
    assert await bus.groups() == {"g": ["custom.a", "custom.b"]}


async def test_a_group_nobody_declared_has_no_backlog(bus: EventBus) -> None:
    assert await bus.backlog("nobody") is None
    assert await bus.groups() == {}


async def test_two_buses_share_the_work_of_a_group(bus: EventBus, url: str, namespace: str) -> None:
    at_work: set[str] = set()
    both = asyncio.Event()

    async with EventBus.open(url, namespace=namespace) as other:
        for name, one in (("bus", bus), ("other", other)):

            async def handle(event: Event[Any], name: str = name) -> None:
                at_work.add(name)
                if len(at_work) == 2:
                    both.set()
                await both.wait()

            await one.subscribe("custom.n", handle, group="g", options=Options(concurrency=1))
        runs = [asyncio.create_task(one.run()) for one in (bus, other)]
        await bus.publish_many([Event(topic="custom.n", data={"n": n}) for n in range(20)])

        async def is_done() -> bool:
            backlog = await bus.backlog("g")
            return backlog is not None and backlog.is_empty

        await wait_until(is_done, "all is handled, by both")
        for one in (bus, other):
            one.stop()
        await asyncio.gather(*runs)


async def test_namespaces_do_not_meet(bus: EventBus, url: str, namespace: str) -> None:
    async with EventBus.open(url, namespace=f"{namespace}-other") as other:
        await bus.publish("custom.n")
        assert (await other.publish("custom.n")).sequence == 1


async def test_a_fault_in_the_bus_ends_run_and_is_raised(url: str, namespace: str) -> None:
    class Broken(Observer):
        def handled(self, group: str, topic: str, outcome: str, seconds: float) -> None:
            raise ZeroDivisionError("a bug in the metrics")

    async with EventBus.open(url, namespace=namespace, observer=Broken()) as bus:
        bus.on("custom.n", group="g")(nothing)
        await bus.publish("custom.n")

        async with asyncio.timeout(10):
            with pytest.raises(ZeroDivisionError, match="a bug in the metrics"):
                await bus.run(grace=SHORT)


async def test_a_redis_that_comes_later_is_waited_for(proxy: Proxy, namespace: str) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    seen: list[int] = []

    async with EventBus.open(f"redis://127.0.0.1:{port}/0", namespace=namespace) as bus:

        @bus.on("custom.n", group="g")
        async def handle(event: Event[Any]) -> None:
            seen.append(event.data["n"])

        declared = asyncio.create_task(bus.declare("other", ("custom.n",)))
        run = asyncio.create_task(bus.run())
        publish = asyncio.create_task(bus.publish("custom.n", {"n": 1}))
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in (declared, run, publish))

        async with await asyncio.start_server(proxy.serve, "127.0.0.1", port):
            await asyncio.gather(declared, publish)
            await wait_until(lambda: seen == [1], "it is handled")
            bus.stop()
            await run
            proxy.reset()


async def test_a_good_server_passes_the_check(bus: EventBus) -> None:
    assert await bus.check_server() > 0


async def test_a_server_that_may_delete_events_is_refused_with_the_command_that_mends_it(own_admin: Connection) -> None:
    await own_admin.do("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")

    async with EventBus.open(own_admin.address.url) as bus:
        with pytest.raises(Misconfigured, match="CONFIG SET maxmemory-policy noeviction"):
            await bus.check_server()


async def test_a_server_that_is_away_is_told_from_one_that_is_wrong() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        async with EventBus.open(f"redis://:hunter2@127.0.0.1:{reserved.getsockname()[1]}/0") as bus:
            with pytest.raises(Unavailable, match="Is it running"):
                await bus.check_server()
            assert "hunter2" not in bus.address
