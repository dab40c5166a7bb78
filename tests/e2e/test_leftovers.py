"""Workers come and go for ever; nothing of them may stay behind in Redis."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from eventbus import Event, EventBus, catalog
from eventbus.redis.connection import Connection
from eventbus.redis.embedded import EmbeddedRedis
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Shard
from tests.conftest import wait_until

OPENED = 10_000
AT_ONCE = 100
RESTARTS = 10
LEASE = timedelta(seconds=1)

WORKER = """
import asyncio, sys
from datetime import timedelta
from eventbus import EventBus

async def main():
    async with EventBus.open(sys.argv[1], lease=timedelta(seconds=1), sweep_every=timedelta(seconds=0.2)) as bus:
        @bus.on("custom.x", group="g")
        async def handle(event):
            print("handled", flush=True)
            await asyncio.sleep(3600 if event.data["n"] % 2 else 0)

        await bus.run(grace=timedelta(seconds=0.1))

asyncio.run(main())
"""


async def census(connection: Connection) -> Counter[str]:
    """Every key there is, without the idempotency keys, by what it is for; and the consumers of the group."""
    names = [name.decode() for name in await connection.do("KEYS", "*")]
    found = Counter(name.rpartition("}:")[2] for name in names if ":once:" not in name)
    consumers: Any = await connection.client.xinfo_consumers(ShardKeys().log, "g")
    found["consumers"] = sum(1 for consumer in consumers if not consumer["name"].startswith(b"~"))
    found["alive"] = int(await connection.do("ZCARD", ShardKeys().alive))
    return found


async def test_10_000_consumers_leave_nothing_behind(own_redis: EmbeddedRedis, own_admin: Connection) -> None:
    """A consumer that takes something and dies without a word, 10,000 times; and one worker that sweeps."""
    shard = Shard(own_admin, ShardKeys())
    await shard.declare("g", ["custom.x"], behind="0")
    url = f"embedded://{own_redis.home}"
    async with EventBus.open(url) as bus:
        await bus.publish_many(catalog.event("custom.x", {"n": n}) for n in range(OPENED))
    before = await census(own_admin)
    for start in range(0, OPENED, AT_ONCE):
        await asyncio.gather(
            *(
                shard.take("g", f"host:1:{n}", 1, lease=timedelta(milliseconds=1), suspects=True, ordered=True)
                for n in range(start, start + AT_ONCE)
            )
        )
    assert (await census(own_admin))["consumers"] == OPENED, "there is something to forget"

    async with EventBus.open(url, lease=LEASE, sweep_every=timedelta(milliseconds=100)) as bus:

        async def handle(event: Event[Any]) -> None:
            pass

        await bus.subscribe("custom.x", handle, group="g")
        running = asyncio.create_task(bus.run())

        async def forgotten() -> bool:
            backlog = await bus.backlog("g")
            return backlog is not None and backlog.is_empty and (await census(own_admin))["consumers"] <= 1

        await wait_until(forgotten, "the sweep has forgotten them", seconds=30)
        bus.stop()
        await running
        assert await bus.audit() == []
    after = await census(own_admin)
    assert after["consumers"] <= 1
    left = {name for name, count in after.items() if count} - {name for name, count in before.items() if count}
    assert left <= {"group:g:counts", "fence", "trimmed", "alive", "consumers"}, (
        "counters, and who was alive within the hour"
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_worker_processes_that_are_restarted_leave_nothing_behind(
    own_redis: EmbeddedRedis, own_admin: Connection, how: signal.Signals
) -> None:
    url = f"embedded://{own_redis.home}"
    shard = Shard(own_admin, ShardKeys())
    await shard.declare("g", ["custom.x"], behind="0")
    async with EventBus.open(url) as bus:
        for number in range(RESTARTS):
            await bus.publish("custom.x", {"n": number}, key=f"k{number}")
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", WORKER, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
            assert process.stdout is not None
            await process.stdout.readline()
            process.send_signal(how)
            await process.wait()

        async def handle(event: Event[Any]) -> None:
            pass

        async with EventBus.open(url, lease=LEASE, sweep_every=timedelta(milliseconds=100)) as last:
            await last.subscribe("custom.x", handle, group="g")
            running = asyncio.create_task(last.run())

            async def all_is_done() -> bool:
                backlog = await last.backlog("g")
                return backlog is not None and backlog.is_empty and (await census(own_admin))["consumers"] <= 1

            await wait_until(all_is_done, "the last worker has done and forgotten it all", seconds=30)
            last.stop()
            await running
        assert await bus.audit() == []
    assert (await census(own_admin))["consumers"] <= 1
