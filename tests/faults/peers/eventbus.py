"""Our bus, through its public API: a durable handler with order by key.

    python -m tests.faults.peers.eventbus worker | publisher

Its lease is as long as the others' idle times; a death never counts against an event, since kills come from outside.
The handler is a plain function of the user's: no ledger keeps it from a second effect. A publisher that was told
`OutcomeUnknown` publishes the same event again, which is then stored once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from datetime import timedelta
from typing import Any

import structlog

from eventbus import Event, EventBus, Options, Unavailable, catalog
from tests.faults.peers import work

NO_LIMIT = 1_000_000


async def serve() -> None:
    """Work until SIGTERM."""
    given = work.settings()
    worker = work.Worker(given)
    lease = timedelta(seconds=work.PRESUMED_DEAD)
    async with EventBus.open(given.url, lease=lease, sweep_every=timedelta(seconds=1)) as bus:

        async def handle(event: Event[Any]) -> None:
            await worker.handle({"name": event.id, "key": event.key, **event.data})

        await bus.subscribe(work.TOPIC, handle, group=work.GROUP, options=Options(poison_limit=NO_LIMIT))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, bus.stop)
        worker.up()
        await bus.run()


async def publish() -> None:
    """Send everything."""
    given = work.settings()
    async with EventBus.open(given.url) as bus:

        async def send(event: dict[str, Any]) -> None:
            data = {"plan": event["plan"], "number": event["number"]}
            await bus.publish(catalog.event(work.TOPIC, data, id=event["name"], key=event["key"]))

        await work.publish(given, send, surely_not=(Unavailable,))


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(serve() if sys.argv[1] == "worker" else publish())
