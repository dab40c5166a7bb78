"""taskiq with taskiq-redis' stream broker, the one that acknowledges.

Settings: its command's own, 100 tasks at once and reads of 100 entries; more of either, prefetching and its orjson
serializer measured no faster. It has no call for many events: `kiq` is one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from taskiq.receiver import Receiver
from taskiq_redis import RedisStreamBroker

from benchmarks.peers import work
from benchmarks.peers.work import Measured, Peer, Tally

IN_ITS_READ = 0.1
"""Seconds until an idle receiver waits in its read; one that is stopped before that waits for ever on Python 3.11."""


@contextlib.asynccontextmanager
async def open_peer(redis: Path) -> AsyncIterator[Peer]:
    """Connect; its group begins with the first event (`consumer_id="0"`)."""
    tally = Tally()
    url = f"unix://{redis}?db={work.DATABASE}"
    broker = RedisStreamBroker(url, consumer_id="0", max_connection_pool_size=work.AT_ONCE + 10)

    async def handle(event: Measured) -> None:
        tally.handle(event)

    task = broker.register_task(handle, task_name="handle")

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[None]:
        finish = asyncio.Event()
        receiver = Receiver(broker, max_async_tasks=100)
        listening = asyncio.create_task(receiver.listen(finish))
        try:
            yield
        finally:
            await asyncio.sleep(IN_ITS_READ)
            finish.set()
            await listening

    yield Peer(tally, task.kiq, serving)
    await broker.shutdown()


if __name__ == "__main__":
    work.main(open_peer)
