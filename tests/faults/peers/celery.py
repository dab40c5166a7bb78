"""Celery with Redis as its broker.

    python -m celery --app tests.faults.peers.celery worker
    python -m tests.faults.peers.celery

The visibility timeout is "the number of seconds to wait for the worker to acknowledge the task before the message is
redelivered to another worker"; a long one "will only delay the redelivery of 'lost' tasks in the event of a power
failure or forcefully terminated workers" (backends-and-brokers/redis). It is lowered to what the others have, and so is
the time between two looks for such tasks (kombu/transport/redis.py: "Lower this to recover abandoned messages faster
when using a low visibility_timeout"). `acks_late` with a prefetch of 1 is its "reserve one task at a time"
(userguide/optimizing); `reject_on_worker_lost` gives a task back whose process died. Running tasks are cancelled when
the connection is lost: they "cannot [acknowledge] anymore since their channel is gone and the task is redelivered back
to the queue" (userguide/configuration). A task that raises is retried (`autoretry_for`).

Sending repeats itself by Celery's default (`task_publish_retry`, 3 times). An error after that does not say whether the
message is in the queue: the publisher sends it again, as a new task.
"""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import asyncio
import time
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from tests.faults.peers import work

given = work.settings()
worker = work.Worker(given)
app = Celery("peer", broker=given.url)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_default_queue=work.TOPIC,
    visibility_timeout=work.PRESUMED_DEAD,
    broker_transport_options={
        "visibility_timeout": work.PRESUMED_DEAD,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": work.PRESUMED_DEAD,  # else who dies while it looks keeps all from looking for 300 s
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_prefetch_multiplier=1,
    worker_concurrency=4,
    worker_cancel_long_running_tasks_on_connection_loss=True,
)


def is_up(**_: Any) -> None:
    """The worker has its connection and its processes."""
    worker.up()


worker_ready.connect(is_up)


def handle(event: dict[str, Any]) -> None:
    """The task."""
    time.sleep(worker.begin(event))
    worker.finish(event)


task = app.task(
    handle, name="handle", autoretry_for=(Exception,), default_retry_delay=1, retry_kwargs={"max_retries": work.RETRIES}
)


async def send(event: dict[str, Any]) -> None:
    """A call that blocks, in a program that does nothing else."""
    task.delay(event)


if __name__ == "__main__":
    asyncio.run(work.publish(given, send))
