"""FastStream on a Redis stream with a consumer group, as its documentation has it.

    python -m tests.faults.peers.faststream worker | publisher

"By default [...] the library will automatically acknowledge (ack) a message once it has been processed successfully.
This follows the at least once processing guarantee." (redis/streams/ack). What stays unacknowledged, after a crash or
an exception, is taken by a second subscriber with `min_idle_time`, "a separate worker specifically for claiming
abandoned messages" (redis/streams/claiming, Pattern 1); here each process has one beside its main subscriber. (Pattern
2, all workers with `min_idle_time`, reads no new messages in this version: it uses XAUTOCLAIM "instead of using
XREADGROUP". `claim_min_idle_time`, which needs no second subscriber, asks for Redis 8.4.) At most 10 entries a read, so
that none becomes idle for waiting behind others.

An error from `publish` does not say whether the entry is in the stream: the publisher publishes again, as a new entry.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.redis import RedisBroker, StreamSub

from tests.faults.peers import work

READ = 10


async def serve() -> None:
    """Work until SIGTERM."""
    given = work.settings()
    worker = work.Worker(given)
    broker = RedisBroker(given.url, logger=_logger())
    ways = {"": {}, "-claims": {"min_idle_time": work.PRESUMED_DEAD * 1000}}
    for suffix, options in ways.items():

        async def handle(event: dict[str, Any]) -> None:
            await worker.handle(event)

        consumer = given.name + suffix
        stream = StreamSub(work.TOPIC, group=work.GROUP, consumer=consumer, max_records=READ, **options)
        broker.subscriber(stream=stream, ack_policy=AckPolicy.NACK_ON_ERROR)(handle)
    app = FastStream(broker, logger=_logger())
    app.after_startup(_as_a_hook(worker))
    await app.run()


def _as_a_hook(worker: work.Worker) -> Any:
    async def is_up() -> None:
        worker.up()

    return is_up


def _logger() -> logging.Logger:
    logger = logging.getLogger("peer")
    logger.setLevel(logging.WARNING)
    return logger


async def publish() -> None:
    """Send everything."""
    given = work.settings()
    broker = RedisBroker(given.url, logger=_logger())
    await broker.connect()

    async def send(event: dict[str, Any]) -> None:
        await broker.publish(event, stream=work.TOPIC)

    await work.publish(given, send)
    await broker.stop()


if __name__ == "__main__":
    asyncio.run(serve() if sys.argv[1] == "worker" else publish())
