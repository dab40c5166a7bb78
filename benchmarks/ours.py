"""The bus doing the same work, with everything it promises switched on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from eventbus import Event, EventBus

LONG = timedelta(minutes=10)


async def publish_many(bus: EventBus, events: Sequence[Event[Any]]) -> float:
    """One call; events per second."""
    started = time.perf_counter()
    await bus.publish_many(events)
    return len(events) / (time.perf_counter() - started)


async def publish_concurrently(bus: EventBus, events: Sequence[Event[Any]], at_once: int = 200) -> float:
    """200 tasks, each awaiting one publish after another; events per second."""
    waiting = iter(events)

    async def one() -> None:
        for event in waiting:
            await bus.publish(event)

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(at_once)))
    return len(events) / (time.perf_counter() - started)


async def publish_one_by_one(bus: EventBus, events: Sequence[Event[Any]]) -> float:
    """One awaited publish after another; events per second."""
    started = time.perf_counter()
    for event in events:
        await bus.publish(event)
    return len(events) / (time.perf_counter() - started)


async def drain(bus: EventBus, pattern: str, group: str, count: int) -> float:
    """A handler that does nothing; events per second, from the start of serving until all are settled."""
    done = 0

    async def handle(event: Event[Any]) -> None:
        nonlocal done
        done += 1

    subscription = await bus.subscribe(pattern, handle, group=group)
    started = time.perf_counter()
    await bus.run_until_idle(timeout=LONG)
    took = time.perf_counter() - started
    await bus.unsubscribe(subscription)
    if done != count:
        raise RuntimeError(f"{done} of {count} events were handled")
    return done / took


async def latency(bus: EventBus, make: Sequence[Event[Any]], per_second: int, group: str) -> list[float]:
    """Milliseconds from before publish until the handler is called, at a steady rate."""
    sent: dict[str, float] = {}
    seen: list[float] = []
    finished = asyncio.Event()

    async def handle(event: Event[Any]) -> None:
        seen.append((time.perf_counter() - sent[event.id]) * 1000)
        if len(seen) == len(make):
            finished.set()

    subscription = await bus.subscribe("bench.measured", handle, group=group)
    serving = asyncio.create_task(bus.run())
    started = time.perf_counter()
    for n, event in enumerate(make):
        await asyncio.sleep(max(0.0, started + n / per_second - time.perf_counter()))
        sent[event.id] = time.perf_counter()
        await bus.publish(event)
    await finished.wait()
    bus.stop()
    await serving
    await bus.unsubscribe(subscription)
    return seen


async def drain_groups(bus: EventBus, pattern: str, groups: int, count: int) -> float:
    """Several groups on one log, served by one process; deliveries per second over all of them."""
    done = 0

    async def handle(event: Event[Any]) -> None:
        nonlocal done
        done += 1

    names = [await bus.subscribe(pattern, handle, group=f"of-{groups}-{n}") for n in range(groups)]
    started = time.perf_counter()
    await bus.run_until_idle(timeout=LONG)
    took = time.perf_counter() - started
    for name in names:
        await bus.unsubscribe(name)
    if done != groups * count:
        raise RuntimeError(f"{done} of {groups * count} deliveries were handled")
    return done / took
