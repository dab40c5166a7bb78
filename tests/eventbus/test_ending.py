"""Cancellations that a library loses, as redis-py does before Python 3.12, are not lost to us."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

import pytest

from eventbus import Event, EventBus
from eventbus.ending import cancellable, end


async def deaf(started: asyncio.Event) -> str:
    """What loses the first cancellation."""
    started.set()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return "as if nothing had been"


async def test_a_cancellation_lost_inside_is_raised() -> None:
    started = asyncio.Event()

    async def work() -> str:
        with cancellable():
            return await deaf(started)

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_limit_lost_inside_is_a_timeout() -> None:
    async def work() -> None:
        async with asyncio.timeout(0.01):
            with cancellable():
                await deaf(asyncio.Event())

    with pytest.raises(TimeoutError):
        await work()


async def test_who_was_cancelled_before_may_still_do_its_last_things() -> None:
    started = asyncio.Event()

    async def work() -> str:
        await deaf(started)
        with cancellable():
            await asyncio.sleep(0)
            return "last things done"

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()

    assert await task == "last things done"


async def test_ending_cancels_as_often_as_it_takes() -> None:
    started = asyncio.Event()

    async def stubborn() -> None:
        await deaf(started)
        await deaf(started)
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await started.wait()
    async with asyncio.timeout(5):
        await end([task])

    assert task.cancelled()


async def test_running_until_idle_keeps_its_time_limit_whatever_it_hits(redis_url: str, namespace: str) -> None:
    """On Python 3.11 one of some twenty time limits hit a redis-py call in the moment when it loses them."""
    for number in range(40):
        async with EventBus.open(redis_url, namespace=f"{namespace}-{number}") as bus:

            @bus.on("custom.n", group="g")
            async def fails(event: Event[Any]) -> None:
                raise ValueError("wrong")

            await bus.publish("custom.n")
            async with asyncio.timeout(5):
                with pytest.raises(TimeoutError):
                    await bus.run_until_idle(timeout=timedelta(seconds=0.02 + number / 4000))
