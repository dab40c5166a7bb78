"""streaQ.

Settings: 32 tasks at once as in its own benchmark (16 and 100 measured no faster), results not kept (`ttl=0`), its task
logs off. It sends arguments by pickle, which validates nothing, so the payload travels as JSON and the handler
validates it. A batch is `enqueue_many`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from streaq import Worker

from benchmarks.peers import work
from benchmarks.peers.work import Measured, Peer, Tally


@contextlib.asynccontextmanager
async def open_peer(redis: Path) -> AsyncIterator[Peer]:
    """Connect. A worker object serves once, so publishing has one of its own."""
    tally = Tally()
    url = f"unix://{redis}?db={work.DATABASE}"

    async def handle(payload: str) -> None:
        tally.handle(Measured.model_validate_json(payload))

    def serving() -> AbstractAsyncContextManager[None]:
        worker = Worker(url, concurrency=32, handle_signals=False)
        worker.task(name="handle", ttl=0, silent=True)(handle)
        return work.running(worker.run_async())

    async with Worker(url) as publisher:
        task = publisher.task(name="handle", ttl=0, silent=True)(handle)

        async def publish(event: Measured) -> None:
            await task.enqueue(event.model_dump_json())

        async def publish_batch(events: Sequence[Measured]) -> None:
            await publisher.enqueue_many([task.enqueue(event.model_dump_json()) for event in events])

        yield Peer(tally, publish, serving, publish_batch)


if __name__ == "__main__":
    work.main(open_peer)
