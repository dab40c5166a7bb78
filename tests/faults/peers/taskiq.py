"""taskiq with taskiq-redis' stream broker.

    python -m taskiq worker tests.faults.peers.taskiq:broker
    python -m tests.faults.peers.taskiq

"This broker supports acknowledgements and therefore is fine to use in cases when data durability is required."
(taskiq-redis, README, Stream). A message is acknowledged when its task is done and its result saved, the command's
default (`when_saved`). `unacknowledged_lock_timeout` is "useful when the worker crashes or gets killed. If not set, the
lock can remain locked indefinitely" (RedisStreamBroker). `consumer_id="0"`: the group begins with the first message.
Tasks that raise are sent again by `SimpleRetryMiddleware`: "This middleware allows you to restart functions on errors"
(available components, middlewares).

An error from `kiq` does not say whether the message is in the stream: the publisher sends it again, as a new task.
"""

from __future__ import annotations

import asyncio
from typing import Any

from taskiq import SimpleRetryMiddleware, TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from tests.faults.peers import work

given = work.settings()
worker = work.Worker(given)
broker = RedisStreamBroker(
    given.url,
    queue_name=work.TOPIC,
    consumer_group_name=work.GROUP,
    consumer_id="0",
    idle_timeout=work.PRESUMED_DEAD * 1000,
    unacknowledged_lock_timeout=work.PRESUMED_DEAD,
).with_middlewares(SimpleRetryMiddleware(default_retry_count=work.RETRIES))


async def is_up(state: TaskiqState) -> None:
    """A worker process is ready to read."""
    worker.up()


broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, is_up)


async def handle(event: dict[str, Any]) -> None:
    """The task."""
    await worker.handle(event)


task = broker.register_task(handle, task_name="handle", retry_on_error=True)


async def publish() -> None:
    """Send everything."""
    await broker.startup()
    await work.publish(given, task.kiq)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(publish())
