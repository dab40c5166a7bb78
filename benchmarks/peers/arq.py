"""arq.

Settings: 100 jobs at once (10 and 500 measured no faster), results not kept, and a poll every 10 ms: its default of
500 ms drains 0.6 as fast and makes latency half a second, 1 ms drains slower again. It sends arguments by pickle, which
validates nothing, so the payload travels as JSON and the handler validates it. It has no call for many events.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from benchmarks.peers import work
from benchmarks.peers.work import Measured, Peer, Tally


@contextlib.asynccontextmanager
async def open_peer(redis: Path) -> AsyncIterator[Peer]:
    """Connect."""
    tally = Tally()
    settings = RedisSettings(unix_socket_path=str(redis), database=work.DATABASE)
    pool = await create_pool(settings)

    async def handle(context: object, payload: str) -> None:
        tally.handle(Measured.model_validate_json(payload))

    async def publish(event: Measured) -> None:
        await pool.enqueue_job("handle", event.model_dump_json())

    def serving() -> AbstractAsyncContextManager[None]:
        worker = Worker(
            [func(handle, name="handle")],
            redis_settings=settings,
            max_jobs=100,
            poll_delay=0.01,
            keep_result=0,
            handle_signals=False,
            log_results=False,
        )
        return work.running(worker.async_run())

    yield Peer(tally, publish, serving)
    await pool.aclose()


if __name__ == "__main__":
    work.main(open_peer)
