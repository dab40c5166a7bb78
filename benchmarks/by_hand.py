"""The same work in plain redis-py: what anybody can write in ten lines, and what a bus is measured against.

It does not deduplicate, announce, keep order, fence, retry or recover. It validates each event into its class.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import redis.asyncio

from eventbus import Event
from eventbus.codec import decode, encode

STREAM = "by-hand"
GROUP = "g"
BATCH = 200


async def publish(client: redis.asyncio.Redis, events: Sequence[Event[Any]]) -> float:
    """Pipelined XADD, 200 a round trip; events per second."""
    started = time.perf_counter()
    for start in range(0, len(events), BATCH):
        pipe = client.pipeline(transaction=False)
        for event in events[start : start + BATCH]:
            pipe.xadd(STREAM, {"t": event.topic, "e": encode(event)})
        await pipe.execute()
    return len(events) / (time.perf_counter() - started)


async def publish_one_by_one(client: redis.asyncio.Redis, events: Sequence[Event[Any]]) -> float:
    """One awaited XADD after another; events per second."""
    started = time.perf_counter()
    for event in events:
        await client.xadd(STREAM, {"t": event.topic, "e": encode(event)})
    return len(events) / (time.perf_counter() - started)


async def drain(client: redis.asyncio.Redis, count: int) -> float:
    """XREADGROUP 200, validate, one XACK for the batch; events per second."""
    await client.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    started, done = time.perf_counter(), 0
    while done < count:
        reply: Any = await client.xreadgroup(GROUP, "me", {STREAM: ">"}, count=BATCH)
        ((_, entries),) = reply
        for _, fields in entries:
            decode(fields[b"t"].decode(), fields[b"e"])
        await client.xack(STREAM, GROUP, *(entry_id for entry_id, _ in entries))
        done += len(entries)
    return done / (time.perf_counter() - started)


async def latency(client: redis.asyncio.Redis, make: Sequence[Event[Any]], per_second: int) -> list[float]:
    """Milliseconds from before XADD until the reader has validated, at a steady rate."""
    await client.xgroup_create(STREAM, GROUP, "$", mkstream=True)
    sent: dict[str, float] = {}
    seen: list[float] = []

    async def read() -> None:
        while len(seen) < len(make):
            reply: Any = await client.xreadgroup(GROUP, "me", {STREAM: ">"}, count=BATCH, block=1000)
            for _, entries in reply or ():
                for entry_id, fields in entries:
                    event = decode(fields[b"t"].decode(), fields[b"e"])
                    seen.append((time.perf_counter() - sent[event.id]) * 1000)
                    await client.xack(STREAM, GROUP, entry_id)

    reader = asyncio.create_task(read())
    started = time.perf_counter()
    for n, event in enumerate(make):
        await asyncio.sleep(max(0.0, started + n / per_second - time.perf_counter()))
        sent[event.id] = time.perf_counter()
        await client.xadd(STREAM, {"t": event.topic, "e": encode(event)})
    await reader
    return seen
