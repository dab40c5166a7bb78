"""Serving a durable subscription: every way a handler can end, and every way the ground can give way under it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from eventbus import Attempt, Backoff, Event, EventBus, Options, Payload, Refused, TryLater, catalog
from eventbus.observer import Observer
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.scripts import script
from eventbus.topics import DeliveryDeadLettered, DeliveryFailing, VmCreated
from tests.conftest import wait_until
from tests.proxy import Proxy

SOON = Backoff(base=timedelta(milliseconds=10))
SHORT = timedelta(seconds=0.5)


NO_UTF8 = os.fsdecode(b"\xff.txt")  # a file name as `open` has it in its errors: UTF-8 can't write it


class Wordless(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError("a fault in the text of a fault")


class Outcomes(Observer):
    """What the bus told about attempts."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.fences = 0

    def handled(self, group: str, topic: str, outcome: str, seconds: float) -> None:
        self.seen.append(outcome)

    def fenced(self, group: str) -> None:
        self.fences += 1


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


@contextlib.asynccontextmanager
async def running(bus: EventBus, grace: timedelta = timedelta(seconds=5)) -> AsyncIterator[None]:
    """The bus serves inside the block."""
    task = asyncio.create_task(bus.run(grace=grace), name="run")
    try:
        yield
    finally:
        bus.stop()
        await task


async def dead_of(bus: EventBus) -> list[DeliveryDeadLettered]:
    """Serve until idle and return the announced dead letters."""
    heard: list[DeliveryDeadLettered] = []

    async def note(event: Event[DeliveryDeadLettered]) -> None:
        heard.append(event.data)

    await bus.subscribe("delivery.dead_lettered", note, group="pager")
    await bus.run_until_idle(timeout=timedelta(seconds=10))
    return heard


async def failing_of(bus: EventBus) -> list[DeliveryFailing]:
    """Serve until idle and return what was announced as failing."""
    heard: list[DeliveryFailing] = []

    async def note(event: Event[DeliveryFailing]) -> None:
        heard.append(event.data)

    await bus.subscribe("delivery.failing", note, group="pager")
    await bus.run_until_idle(timeout=timedelta(seconds=10))
    return heard


# -- how a handler ends ----------------------------------------------------------------------------------------------


class Flaky:
    """A handler that is an object: it raises on the first call, and notes the attempts."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.attempts: list[int] = []

    async def __call__(self, event: Event[Any], attempt: Attempt) -> None:
        self.attempts.append(attempt.number)
        if len(self.attempts) == 1:
            raise self.error


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ValueError("wrong"), [1, 2]),
        (TimeoutError(), [1, 2]),
        (asyncio.CancelledError("its own"), [1, 2]),
        (FileNotFoundError(NO_UTF8), [1, 2]),
        (Wordless(), [1, 2]),
        (TryLater("limit"), [1, 2]),
        (TryLater("limit", after=timedelta(milliseconds=10)), [1, 2]),
        (TryLater("limit", after=timedelta(milliseconds=10), counts=False), [1, 1]),
        (TryLater("limit", after=timedelta(milliseconds=10), counts=False, pause=True), [1, 1]),
    ],
    ids=[
        *("exception", "timeout", "cancelled", "no UTF-8", "wordless"),
        *("later", "later, after", "later, uncounted", "later, paused"),
    ],
)
async def test_what_is_not_done_is_tried_again(bus: EventBus, error: BaseException, attempts: list[int]) -> None:
    handler = Flaky(error)
    await bus.subscribe("custom.n", handler, group="g", options=Options(backoff=SOON))
    await bus.publish("custom.n", key="lane")

    await bus.run_until_idle(timeout=timedelta(seconds=5))

    assert handler.attempts == attempts


@pytest.mark.parametrize(
    ("error", "reason", "text"),
    [
        (ValueError("wrong"), "exhausted", "ValueError: wrong"),
        (TimeoutError("slow host"), "exhausted", "TimeoutError: slow host"),
        (asyncio.CancelledError("its own"), "exhausted", "RuntimeError: the handler was cancelled: its own"),
        (TryLater("limit"), "exhausted", "limit"),
        (Refused("no such channel"), "rejected", "no such channel"),
        (ValueError("x" * 5000), "exhausted", "ValueError: " + "x" * 988),
        (FileNotFoundError(NO_UTF8), "exhausted", r"FileNotFoundError: \udcff.txt"),
        (Refused(NO_UTF8), "rejected", r"\udcff.txt"),
        (Wordless(), "exhausted", "Wordless: (it can't be shown)"),
    ],
    ids=[
        "exception",
        "timeout",
        "cancelled",
        "later",
        "refused",
        "long text",
        "no text",
        "refused, no text",
        "wordless",
    ],
)
async def test_the_last_attempt_decides_the_dead_letters_reason(
    bus: EventBus, error: BaseException, reason: str, text: str
) -> None:
    options = Options(max_attempts=1, timeout=timedelta(seconds=5))
    await bus.subscribe("custom.n", Flaky(error), group="g", options=options)
    receipt = await bus.publish("custom.n")

    (dead,) = await dead_of(bus)

    assert (dead.group, dead.event_id, dead.event_topic) == ("g", receipt.event_id, "custom.n")
    assert (dead.reason, dead.error, dead.attempts) == (reason, text, 1)


async def test_a_delivery_that_fails_the_fourth_time_is_announced_once(bus: EventBus) -> None:
    async def handle(event: Event[Any]) -> None:
        raise ValueError("closed")

    await bus.subscribe(("custom.n", "delivery.odd"), handle, group="g", options=Options(backoff=SOON, max_attempts=6))
    receipt = await bus.publish("custom.n")
    await bus.publish("delivery.odd")

    (failing,) = await failing_of(bus)

    assert (failing.group, failing.event_id, failing.event_topic) == ("g", receipt.event_id, "custom.n")
    assert (failing.error, failing.attempts) == ("ValueError: closed", 4)
    assert failing.next_attempt <= datetime.now(UTC)


@pytest.mark.parametrize(("attempts", "counts"), [(4, True), (9, False)], ids=["given up", "waits"])
async def test_what_is_given_up_or_only_waited_is_not_announced_as_failing(
    bus: EventBus, attempts: int, counts: bool
) -> None:
    calls = 0

    async def handle(event: Event[Any]) -> None:
        nonlocal calls
        calls += 1
        if calls < 9:
            raise TryLater("not yet", after=timedelta(milliseconds=5), counts=counts or calls < 4)

    await bus.subscribe("custom.n", handle, group="g", options=Options(backoff=SOON, max_attempts=4))
    await bus.publish("custom.n")

    assert await failing_of(bus) == []
    assert calls == attempts


async def test_an_attempt_that_takes_too_long_is_cancelled(bus: EventBus) -> None:
    cancelled = asyncio.Event()

    @bus.on("custom.n", group="g", options=Options(max_attempts=1, timeout=timedelta(milliseconds=30)))
    async def handle(event: Event[Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await bus.publish("custom.n")
    (dead,) = await dead_of(bus)

    assert cancelled.is_set()
    assert (dead.reason, dead.error) == ("exhausted", "TimeoutError: no end after 0.03 s")


async def test_an_uncounted_attempt_never_uses_up_the_last_one(bus: EventBus) -> None:
    calls = 0

    @bus.on("custom.n", group="g", options=Options(max_attempts=1))
    async def handle(event: Event[Any]) -> None:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise TryLater("limit", after=timedelta(milliseconds=5), counts=False)

    await bus.publish("custom.n")

    assert await dead_of(bus) == []
    assert calls == 4


async def test_lines_about_failed_attempts_and_dead_letters_name_the_event(bus: EventBus) -> None:
    @bus.on("custom.n", group="g", options=Options(max_attempts=2, backoff=SOON))
    async def handle(event: Event[Any]) -> None:
        raise ZeroDivisionError

    with structlog.testing.capture_logs() as lines:
        receipt = await bus.publish("custom.n")
        await dead_of(bus)

    found = [(line["event"], line["event_id"]) for line in lines if line["event"] in ("attempt failed", "dead letter")]
    assert found == [("attempt failed", receipt.event_id), ("dead letter", receipt.event_id)]


@pytest.mark.parametrize(
    ("error", "level"), [(TryLater("limit", counts=False), "info"), (ValueError("broken"), "warning")]
)
async def test_a_handler_that_says_when_to_try_again_is_no_warning(bus: EventBus, error: Exception, level: str) -> None:
    failures = [error]

    @bus.on("custom.n", group="g", options=Options(backoff=SOON))
    async def handle(event: Event[Any]) -> None:
        if failures:
            raise failures.pop()

    with structlog.testing.capture_logs() as lines:
        await bus.publish("custom.n")
        await dead_of(bus)

    assert [line["log_level"] for line in lines if line["event"] == "attempt failed"] == [level]


async def test_a_pause_holds_the_whole_group_and_only_it(bus: EventBus) -> None:
    limited: list[int] = []
    free: list[int] = []

    @bus.on("custom.n", group="limited")
    async def handle(event: Event[Any]) -> None:
        limited.append(event.data["n"])
        if limited == [1]:
            raise TryLater("429", after=timedelta(seconds=0.4), counts=False, pause=True)

    @bus.on("custom.n", group="free")
    async def other(event: Event[Any]) -> None:
        free.append(event.data["n"])

    async def is_paused() -> bool:
        backlog = await bus.backlog("limited")
        return backlog is not None and backlog.paused_ms > 0

    async with running(bus):
        await bus.publish("custom.n", {"n": 1})
        await wait_until(is_paused, "the group is paused")
        await bus.publish("custom.n", {"n": 2})
        await wait_until(lambda: free == [1, 2], "the other group goes on")
        assert await is_paused()
        assert limited == [1]
        await wait_until(lambda: sorted(limited) == [1, 1, 2], "the pause ends")


async def test_after_a_pause_one_goes_ahead_and_while_it_has_to_wait_no_other_is_begun(bus: EventBus) -> None:
    done: list[int] = []
    at_once: list[int] = []
    running_now, is_limited = 0, True

    @bus.on("custom.n", group="g", options=Options(concurrency=8, ordered=False))
    async def handle(event: Event[Any]) -> None:
        nonlocal running_now
        running_now += 1
        at_once.append(running_now)
        await asyncio.sleep(0.005)
        running_now -= 1
        if is_limited:
            raise TryLater("429", after=timedelta(milliseconds=50), counts=False, pause=True)
        done.append(event.data["n"])

    for n in range(20):
        await bus.publish("custom.n", {"n": n})
    async with running(bus):
        await wait_until(lambda: len(at_once) >= 8 and running_now == 0, "the first have been refused")
        at_once.clear()
        await wait_until(lambda: len(at_once) >= 4, "four more attempts")
        assert at_once == [1] * len(at_once)
        is_limited = False
        await wait_until(lambda: sorted(done) == list(range(20)), "all of them")


async def test_who_goes_ahead_after_a_pause_and_takes_long_does_not_hold_the_others_up(bus: EventBus) -> None:
    calls: list[int] = []
    finish = asyncio.Event()

    @bus.on("custom.n", group="g", options=Options(ordered=False))
    async def handle(event: Event[Any]) -> None:
        calls.append(event.data["n"])
        if calls == [0]:
            raise TryLater("429", after=timedelta(milliseconds=50), counts=False, pause=True)
        if event.data["n"] == 0:
            await finish.wait()

    await bus.publish("custom.n", {"n": 0})
    async with running(bus):
        await wait_until(lambda: calls == [0], "the pause")
        await bus.publish("custom.n", {"n": 1})
        await wait_until(lambda: sorted(calls) == [0, 0, 1], "the other one")
        finish.set()


async def test_a_plain_function_that_raises_is_tried_again(bus: EventBus) -> None:
    calls: list[int] = []

    @bus.on("custom.n", group="g", options=Options(backoff=SOON))
    def handle(event: Event[Any], attempt: Attempt) -> None:
        calls.append(attempt.number)
        if attempt.number == 1:
            raise OSError("disk")

    await bus.publish("custom.n")
    await bus.run_until_idle(timeout=timedelta(seconds=5))

    assert calls == [1, 2]


async def test_a_plain_function_that_raises_stop_iteration_fails_like_any_other(bus: EventBus) -> None:
    @bus.on("custom.n", group="g", options=Options(max_attempts=2, backoff=SOON))
    def handle(event: Event[Any]) -> None:
        next(iter(event.data["found"]))

    await bus.publish("custom.n", {"found": []})

    (dead,) = await dead_of(bus)

    assert (dead.reason, dead.attempts) == ("exhausted", 2)
    assert dead.error == "RuntimeError: the handler raised StopIteration: "


async def test_slow_plain_functions_of_one_group_hold_up_no_other(bus: EventBus) -> None:
    gate = threading.Event()
    seen: list[int] = []
    try:

        @bus.on("custom.n", group="slow")
        def slow(event: Event[Any]) -> None:
            gate.wait(20)

        @bus.on("custom.n", group="fast")
        def fast(event: Event[Any]) -> None:
            seen.append(event.data["n"])

        await bus.publish_many(Event(topic="custom.n", data={"n": n}) for n in range(100))
        async with running(bus):
            await wait_until(lambda: len(seen) == 100, "the fast group is served", seconds=5)
            gate.set()
    finally:
        gate.set()


async def test_dead_letters_of_quiet_topics_are_not_announced(bus: EventBus) -> None:
    @bus.on("integration.*", group="g")
    async def handle(event: Event[Any]) -> None:
        raise Refused("never")

    await bus.publish("integration.degraded", {"integration": "slack", "detail": "503"})

    assert await dead_of(bus) == []
    backlog = await bus.backlog("g")
    assert backlog is not None
    assert backlog.dead == 1


async def test_no_more_handlers_run_at_a_time_than_asked_for(bus: EventBus) -> None:
    now = most = 0

    @bus.on("custom.n", group="g", options=Options(concurrency=3))
    async def handle(event: Event[Any]) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    await bus.publish_many(Event(topic="custom.n", data={"n": n}) for n in range(100))
    await bus.run_until_idle(timeout=timedelta(seconds=10))

    assert most == 3


async def test_thousands_are_each_handled_once(bus: EventBus, outcomes: Outcomes) -> None:
    seen: Counter[int] = Counter()

    @bus.on("custom.n", group="g")
    async def handle(event: Event[Any]) -> None:
        seen[event.data["n"]] += 1

    await bus.publish_many(Event(topic="custom.n", data={"n": n}, key=f"k{n % 7}") for n in range(1500))
    await bus.run_until_idle(timeout=timedelta(seconds=20))

    assert seen == dict.fromkeys(range(1500), 1)


# -- what does not fit -----------------------------------------------------------------------------------------------


@pytest.fixture
def versions() -> Iterator[list[type[Payload]]]:
    """Two versions of one topic."""

    class Thing1(Payload, topic="custom.thing"):
        size: int

    class Thing2(Payload, topic="custom.thing", version=2):
        weight: int

    yield [Thing1, Thing2]
    catalog.remove(Thing1)
    catalog.remove(Thing2)


async def test_a_version_from_the_future_waits_for_a_program_that_knows_it(
    bus: EventBus, versions: list[type[Payload]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventbus.verdict.PARK", timedelta(milliseconds=50))
    seen: list[tuple[Any, int]] = []

    @bus.on("custom.thing", group="g", options=Options(max_attempts=1))
    async def handle(event: Event[Any], attempt: Attempt) -> None:
        seen.append((event.data, attempt.number))

    future = versions[1]
    await bus.publish(future(weight=3))
    catalog.remove(future)

    async def is_parked() -> bool:
        backlog = await bus.backlog("g")
        return backlog is not None and backlog.due == 1

    async with running(bus):
        await wait_until(is_parked, "the event is parked")
        assert seen == []
        from eventbus.payload import define

        define(future)  # the upgrade
        await wait_until(lambda: seen, "it is handled")

    assert seen == [(future(weight=3), 1)]


async def test_an_event_that_no_longer_fits_its_topic_is_a_dead_letter(bus: EventBus) -> None:
    await bus.publish("custom.narrow", {"size": "large"})

    class Narrow(Payload, topic="custom.narrow"):
        size: int

    try:

        @bus.on("custom.narrow", group="g")
        async def handle(event: Event[Any]) -> None:
            raise AssertionError("it can't be read")

        (dead,) = await dead_of(bus)
    finally:
        catalog.remove(Narrow)

    assert dead.reason == "invalid"
    assert dead.error.startswith("custom.narrow: data.size: input should be a valid integer")


# -- stopping and taking over ----------------------------------------------------------------------------------------


async def test_what_one_bus_hands_back_another_takes_over_within_a_second(url: str, namespace: str) -> None:
    started = asyncio.Event()
    taken_over: list[tuple[int, int]] = []

    async def stuck(event: Event[Any]) -> None:
        started.set()
        await asyncio.Event().wait()

    async def handle(event: Event[Any], attempt: Attempt) -> None:
        taken_over.append((event.data["n"], attempt.number))

    async with EventBus.open(url, namespace=namespace) as old, EventBus.open(url, namespace=namespace) as new:
        await old.subscribe("custom.n", stuck, group="g", options=Options(concurrency=1))
        await new.subscribe("custom.n", handle, group="g")
        await old.publish_many(Event(topic="custom.n", data={"n": n}, key="lane") for n in range(3))
        async with running(old, grace=timedelta(milliseconds=50)):
            await started.wait()
            await asyncio.sleep(0)
        async with running(new):
            await wait_until(lambda: len(taken_over) == 3, "all are handled by the other", seconds=1)

    assert taken_over == [(0, 1), (1, 1), (2, 1)]  # in order, and no attempt was used up


async def test_a_handler_that_ignores_being_cancelled_does_not_hold_up_the_end(bus: EventBus) -> None:
    started = asyncio.Event()

    @bus.on("custom.n", group="g")
    async def stubborn(event: Event[Any]) -> None:
        started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    await bus.publish("custom.n")
    async with asyncio.timeout(5), running(bus, grace=timedelta(milliseconds=50)):
        await started.wait()


async def test_the_end_comes_within_seconds_while_redis_is_away(proxy: Proxy, namespace: str) -> None:
    started = asyncio.Event()

    async def stuck(event: Event[Any]) -> None:
        started.set()
        await asyncio.Event().wait()

    async with EventBus.open(proxy.url, namespace=namespace) as bus:
        await bus.subscribe("custom.n", stuck, group="g")
        await bus.publish("custom.n")
        async with asyncio.timeout(6):
            async with running(bus, grace=timedelta(milliseconds=200)):
                await started.wait()
                proxy.freeze()
            proxy.thaw()


async def test_who_lost_the_lease_changes_nothing_afterwards(
    proxy: Proxy, redis_url: str, namespace: str, outcomes: Outcomes
) -> None:
    gates = {name: asyncio.Event() for name in ("frozen", "other")}
    began: list[str] = []

    async with (
        EventBus.open(proxy.url, namespace=namespace, lease=SHORT, observer=outcomes) as frozen,
        EventBus.open(redis_url, namespace=namespace, lease=SHORT, sweep_every=timedelta(seconds=0.1)) as other,
    ):
        for name, bus in (("frozen", frozen), ("other", other)):

            async def handle(event: Event[Any], name: str = name) -> None:
                began.append(name)
                await gates[name].wait()

            await bus.subscribe("custom.n", handle, group="g")
        await frozen.publish("custom.n", key="lane")

        async with running(frozen):
            await wait_until(lambda: began == ["frozen"], "the first has it")
            proxy.freeze()  # its beats no longer arrive
            async with running(other):
                await wait_until(lambda: began == ["frozen", "other"], "the other took it over")
                gates["frozen"].set()
                proxy.thaw()
                await wait_until(lambda: outcomes.fences == 1, "the late settle is refused")
                backlog = await other.backlog("g")
                assert backlog is not None
                assert (backlog.running, backlog.dead) == (1, 0)  # still with the other

                gates["other"].set()
                await other.run_until_idle(timeout=timedelta(seconds=5))
    assert began == ["frozen", "other"]


async def test_a_long_handler_keeps_its_lease(redis_url: str, namespace: str, outcomes: Outcomes) -> None:
    calls = 0

    async def long(event: Event[Any]) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(1.2)  # more than two leases

    async with (
        EventBus.open(redis_url, namespace=namespace, lease=SHORT, observer=outcomes) as one,
        EventBus.open(redis_url, namespace=namespace, lease=SHORT, sweep_every=timedelta(seconds=0.05)) as other,
    ):
        await one.subscribe("custom.n", long, group="g")
        await other.subscribe("custom.n", long, group="g")
        await one.publish("custom.n")
        async with running(other):
            await one.run_until_idle(timeout=timedelta(seconds=5))

    assert (calls, outcomes.fences) == (1, 0)


# -- Redis gives way -------------------------------------------------------------------------------------------------


async def test_deliveries_whose_reply_was_lost_arrive_at_once(proxy: Proxy, namespace: str) -> None:
    seen: list[tuple[int, int]] = []

    async def handle(event: Event[Any], attempt: Attempt) -> None:
        seen.append((event.data["n"], attempt.number))

    async with EventBus.open(proxy.url, namespace=namespace, lease=timedelta(seconds=60)) as bus:
        await bus.subscribe("custom.n", handle, group="g")
        take = script("take").sha.encode()
        proxy.watch(take)
        async with running(bus):
            await wait_until(lambda: proxy.requests[take] >= 1, "it serves")
            proxy.lose_reply(take)
            await bus.publish_many(Event(topic="custom.n", data={"n": n}, key="lane") for n in range(3))
            await wait_until(lambda: len(seen) == 3, "all are handled", seconds=2)

    assert seen == [(0, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("lost", ["settle", "retry", "bury"])
async def test_the_end_of_a_delivery_whose_reply_was_lost_is_reached_once(
    proxy: Proxy, namespace: str, lost: str
) -> None:
    calls: Counter[str] = Counter()

    async def handle(event: Event[Any], attempt: Attempt) -> None:
        end = event.data["end"]
        calls[end] += 1
        if end == "bury":
            raise Refused("never")
        if end == "retry" and attempt.number == 1:
            raise ValueError("once")

    async with EventBus.open(proxy.url, namespace=namespace) as bus:
        await bus.subscribe("custom.n", handle, group="g", options=Options(backoff=SOON))
        for number in range(2):  # the first makes the script known, so that the second is sent by its hash
            if number == 1:
                proxy.lose_reply(script(lost).sha.encode())
            await bus.publish("custom.n", {"end": lost})
            await bus.run_until_idle(timeout=timedelta(seconds=5))
        backlog = await bus.backlog("g")

    assert calls == {lost: 4 if lost == "retry" else 2}
    assert backlog is not None
    assert backlog.dead == (2 if lost == "bury" else 0)


@pytest.mark.parametrize("what", ["group", "log"])
async def test_a_group_somebody_deleted_is_declared_again(bus: EventBus, namespace: str, what: str) -> None:
    seen: list[int] = []

    @bus.on("custom.n", group="g")
    async def handle(event: Event[Any]) -> None:
        seen.append(event.data["n"])

    keys = ShardKeys(namespace)
    async with running(bus):
        await bus.publish("custom.n", {"n": 1}, key="lane")
        await wait_until(lambda: seen == [1], "the first is handled")
        if what == "group":
            await bus._connection.do("XGROUP", "DESTROY", keys.log, "g")
        else:
            await bus._connection.do("DEL", keys.log)
        await bus._connection.do("PUBLISH", keys.bell, "")  # it looks before there is anything to see
        await wait_until(lambda: bus.backlog("g"), "the group is there again")
        await bus.publish("custom.n", {"n": 2}, key="lane")
        await wait_until(lambda: 2 in seen, "the second is handled")

    assert await bus.groups() == {"g": ["custom.n"]}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(None, "done"), (ValueError("wrong"), "retry"), (Refused("never"), "dead")],
    ids=["done", "failed", "refused"],
)
async def test_what_ran_while_its_group_was_deleted_decides_nothing_afterwards(
    url: str, namespace: str, outcomes: Outcomes, error: Exception | None, outcome: str
) -> None:
    """The group is new, and so is the delivery: its lane goes on after the new run and not after the old one."""
    gates = [asyncio.Event() for _ in range(3)]
    began: list[int] = []

    async def handle(event: Event[Any]) -> None:
        number = len(began)
        began.append(event.data["n"])
        await gates[number].wait()
        if number == 0 and error is not None:
            raise error

    async with EventBus.open(url, namespace=namespace, observer=outcomes) as bus:
        await bus.subscribe("custom.n", handle, group="g", options=Options(backoff=SOON))
        await bus.publish_many(Event(topic="custom.n", data={"n": n}, key="lane") for n in range(2))
        keys = ShardKeys(namespace)
        async with running(bus):
            await wait_until(lambda: began == [0], "the first is in hand")
            await bus._connection.do("XGROUP", "DESTROY", keys.log, "g")
            await bus._connection.do("PUBLISH", keys.bell, "g")
            await wait_until(lambda: began == [0, 0], "the new group has it in hand")

            gates[0].set()
            await wait_until(lambda: outcomes.fences or len(began) > 2, "the old run learns whose it is now")
            assert (outcomes.fences, outcomes.seen, began) == (1, [outcome], [0, 0])

            gates[1].set()
            await wait_until(lambda: began == [0, 0, 1], "the next of the lane begins after the new run")
            gates[2].set()

            async def is_done() -> bool:
                backlog = await bus.backlog("g")
                return backlog is not None and backlog.is_empty and backlog.dead == 0

            await wait_until(is_done, "both are finished")
    assert (outcomes.fences, outcomes.seen, began) == (1, [outcome, "done", "done"], [0, 0, 1])


async def test_what_had_not_begun_when_its_group_was_deleted_runs_once(url: str, namespace: str) -> None:
    """It comes again from the new group, so what was fetched from the old one is dropped."""
    first, rest = asyncio.Event(), asyncio.Event()
    began: list[int] = []

    async def handle(event: Event[Any]) -> None:
        began.append(event.data["n"])
        await (first if began == [0] else rest).wait()

    async with EventBus.open(url, namespace=namespace) as bus:
        await bus.subscribe("custom.n", handle, group="g", options=Options(concurrency=2))
        await bus.publish_many(Event(topic="custom.n", data={"n": n}) for n in range(4))
        async with running(bus):
            await wait_until(lambda: began == [0, 1], "two are in hand, two wait")
            await bus._connection.do("XGROUP", "DESTROY", ShardKeys(namespace).log, "g")
            first.set()

            async def has_them_anew() -> bool:
                backlog = await bus.backlog("g")
                return backlog is not None and backlog.running == 4

            await wait_until(has_them_anew, "the new group has given all four")
            rest.set()

            async def is_done() -> bool:
                backlog = await bus.backlog("g")
                return backlog is not None and backlog.is_empty

            await wait_until(is_done, "all are finished")
    assert Counter(began) == {0: 2, 1: 2, 2: 2, 3: 1}


async def test_a_killed_redis_comes_back_and_the_work_goes_on(own_admin: Connection) -> None:
    seen: set[int] = set()

    async def handle(event: Event[Any]) -> None:
        seen.add(event.data["n"])

    async with EventBus.open(own_admin.address.url) as bus:
        await bus.subscribe("custom.n", handle, group="g")
        async with running(bus):
            for n in range(20):
                await bus.publish("custom.n", {"n": n}, key=f"k{n % 3}")
            info = await own_admin.do("INFO", "server")
            os.kill(int(info["process_id"]), signal.SIGKILL)
            for n in range(20, 40):
                await bus.publish("custom.n", {"n": n}, key=f"k{n % 3}")
            await wait_until(lambda: len(seen) == 40, "all are handled", seconds=15)


async def test_broken_connections_are_made_again(proxy: Proxy, namespace: str) -> None:
    seen: set[int] = set()

    async def handle(event: Event[Any]) -> None:
        seen.add(event.data["n"])

    async with EventBus.open(proxy.url, namespace=namespace) as bus:
        await bus.subscribe("custom.n", handle, group="g")
        async with running(bus):
            for n in range(30):
                if n % 10 == 5:
                    proxy.reset()
                await bus.publish("custom.n", {"n": n})
            await wait_until(lambda: len(seen) == 30, "all are handled", seconds=5)


async def test_giving_up_order_leaves_nobody_waiting(bus: EventBus) -> None:
    """Lanes that an ordered worker left behind are released by an unordered one."""
    await bus.declare("g", ("vm.*",))
    await bus.publish_many(VmCreated(vm_id="1", vm_name=str(n)) for n in range(3))
    shard = bus._shard
    batch = await shard.take("g", "gone", 10, lease=timedelta(seconds=9), suspects=False, ordered=True)
    await shard.beat(["gone"], timedelta())
    seen: list[str | None] = []

    async def handle(event: Event[VmCreated]) -> None:
        seen.append(event.data.vm_name)

    await bus.subscribe("vm.*", handle, group="g", options=Options(ordered=False))
    await bus.run_until_idle(timeout=timedelta(seconds=10))

    assert len(batch.taken) == 1
    assert sorted(name or "" for name in seen) == ["0", "1", "2"]
