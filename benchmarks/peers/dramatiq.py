"""dramatiq, whose workers are threads and whose calls are synchronous.

Settings: 8 threads, its default, and 200 messages prefetched (`dramatiq_queue_prefetch`), which doubles the drain.
Sending is a synchronous call, so 200 senders take turns; sending from threads measured slower. The handler validates
the payload, which dramatiq leaves as JSON made it. It has no call for many events.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from dramatiq import Worker, actor
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers import work
from benchmarks.peers.work import Measured, Peer, Tally


@contextlib.asynccontextmanager
async def open_peer(redis: Path) -> AsyncIterator[Peer]:
    """Connect. A worker changes its broker, so every one gets a new broker."""
    tally = Tally()
    url = f"unix://{redis}?db={work.DATABASE}"

    def handle(payload: dict[str, object]) -> None:
        tally.handle(Measured.model_validate(payload))

    publisher = RedisBroker(url=url)
    publishing = actor(handle, broker=publisher)

    async def publish(event: Measured) -> None:
        publishing.send(event.model_dump())

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[None]:
        broker = RedisBroker(url=url)
        actor(handle, broker=broker)
        worker = Worker(broker)
        worker.queue_prefetch = 200
        worker.start()
        try:
            yield
        finally:
            worker.stop()
            broker.close()

    yield Peer(tally, publish, serving)
    publisher.close()


if __name__ == "__main__":
    work.main(open_peer)
