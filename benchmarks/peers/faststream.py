"""FastStream on a Redis stream with a consumer group.

Settings: one event at a time, its default, which is its fastest for a handler that does not wait (`max_workers=200`
drains 0.8 as fast); 200 entries a read; its logger off. A batch is its `pipeline=` argument. It also has handlers that
take a list of events and acknowledge all of them at once: that drain is reported under a name of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from faststream.redis import RedisBroker, StreamSub

from benchmarks.peers import work
from benchmarks.peers.work import Measured, Peer, Tally

STREAM = "events"
CONNECTIONS = work.AT_ONCE + 10
"""redis-py refuses the 101st by default."""


@contextlib.asynccontextmanager
async def open_peer(redis: Path) -> AsyncIterator[Peer]:
    """Connect."""
    tally = Tally()
    url = f"unix://{redis}?db={work.DATABASE}"
    publisher = RedisBroker(url, logger=None, max_connections=CONNECTIONS)
    client = await publisher.connect()

    async def publish(event: Measured) -> None:
        await publisher.publish(event, stream=STREAM)

    async def publish_batch(events: Sequence[Measured]) -> None:
        async with client.pipeline(transaction=False) as pipe:
            for event in events:
                await publisher.publish(event, stream=STREAM, pipeline=pipe)
            await pipe.execute()

    async def handle(event: Measured) -> None:
        tally.handle(event)

    async def handle_batch(events: list[Measured]) -> None:
        for event in events:
            tally.handle(event)

    def serving() -> AbstractAsyncContextManager[None]:
        return serve(url, handle, batch=False)

    def serving_batches() -> AbstractAsyncContextManager[None]:
        return serve(url, handle_batch, batch=True)

    yield Peer(tally, publish, serving, publish_batch, serving_batches)
    await publisher.stop()


@contextlib.asynccontextmanager
async def serve(url: str, handler: Callable[..., object], *, batch: bool) -> AsyncIterator[None]:
    """One worker; its group begins with the first event (`last_id="0"`)."""
    broker = RedisBroker(url, logger=None, max_connections=CONNECTIONS)
    stream = StreamSub(STREAM, group="g", consumer="me", last_id="0", max_records=work.AT_ONCE, batch=batch)
    broker.subscriber(stream=stream)(handler)
    await broker.start()
    try:
        yield
    finally:
        await broker.stop()


if __name__ == "__main__":
    work.main(open_peer)
