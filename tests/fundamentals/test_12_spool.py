"""With a spool, an event is accepted while Redis is away: it waits on this machine's disk and is sent in order."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis

from eventbus import Event, EventBus, SyncPublisher
from eventbus.redis.embedded import EmbeddedRedis
from tests.conftest import wait_until
from tests.proxy import Proxy

SOON = timedelta(seconds=0.3)


async def test_what_redis_does_not_take_is_spooled_and_arrives_in_order(
    proxy: Proxy, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    handled: list[int] = []

    async def handle(event: Event[dict[str, Any]]) -> None:
        handled.append(event.data["n"])

    async with (
        EventBus.open(proxy.url, namespace=namespace, spool=tmp_path / "spool", publish_timeout=SOON) as bus,
        EventBus.open(redis_url, namespace=namespace) as other,
    ):
        receipts = [await bus.publish("custom.x", {"n": 0}, key="k")]
        proxy.freeze()
        receipts += [await bus.publish("custom.x", {"n": n}, key="k") for n in (1, 2)]
        assert [(one.status, one.durability) for one in receipts] == [
            ("stored", "memory"),
            ("spooled", "spool"),
            ("spooled", "spool"),
        ]
        proxy.thaw()
        receipts.append(await bus.publish("custom.x", {"n": 3}, key="k"))
        await wait_until(lambda: bus.spools is not None and bus.spools.is_empty, "all is sent")
        assert (await bus.publish("custom.x", {"n": 4}, key="k")).status == "stored"
        await other.subscribe("custom.x", handle, group="g")
        await other.run_until_idle()
        assert await other.audit() == []
    assert handled == [0, 1, 2, 3, 4]


async def test_the_next_process_sends_what_the_last_one_left(
    proxy: Proxy, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    proxy.freeze()
    async with EventBus.open(proxy.url, namespace=namespace, spool=tmp_path, publish_timeout=SOON) as bus:
        left = await bus.publish("custom.x", {"n": 1})
    async with EventBus.open(redis_url, namespace=namespace, spool=tmp_path) as bus:
        await wait_until(lambda: bus.spools is not None and bus.spools.is_empty, "it is sent")
        handled: list[str] = []

        async def handle(event: Event[Any]) -> None:
            handled.append(event.id)

        await bus.subscribe("custom.x", handle, group="g")
        await bus.run_until_idle()
        assert handled == [left.event_id]


async def test_what_is_scheduled_is_spooled_too(proxy: Proxy, redis_url: str, namespace: str, tmp_path: Path) -> None:
    async with EventBus.open(proxy.url, namespace=namespace, spool=tmp_path, publish_timeout=SOON) as bus:
        proxy.freeze()
        receipt = await bus.publish("custom.x", {"n": 1}, delay=timedelta(hours=1))
        assert receipt.status == "spooled"
        proxy.thaw()
        await wait_until(lambda: bus.spools is not None and bus.spools.is_empty, "it is sent")
        assert [one.event.id for one in await bus.scheduled()] == [receipt.event_id]


def test_a_script_has_a_spool_too(own_redis: EmbeddedRedis, namespace: str, tmp_path: Path) -> None:
    url, spool = f"unix://{own_redis.socket_path}", tmp_path / "spool"
    with SyncPublisher(url, namespace=namespace, spool=spool, timeout=SOON) as bus:
        assert bus.publish("custom.x", {"n": 1}).status == "stored"
        with redis.Redis(unix_socket_path=str(own_redis.socket_path)) as admin:
            server = admin.info("server")["process_id"]
        os.kill(server, signal.SIGSTOP)
        try:
            assert bus.publish("custom.x", {"n": 2}).status == "spooled"
        finally:
            os.kill(server, signal.SIGCONT)
        receipt = bus.publish("custom.x", {"n": 3})
        assert (receipt.status, receipt.sequence) in (("stored", 3), ("spooled", 0))
