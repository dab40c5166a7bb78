"""What events measure is counted once, whoever dies while counting, and every process shows the same numbers."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import yaml

from eventbus import EventBus, catalog
from eventbus.topics import MigrationCompleted
from integrations.prometheus.fake import read
from service.gateway.app import build_app
from service.http import serving
from service.process import Child
from service.wiring import Runtime, open_runtime, read_settings
from tests.conftest import wait_until
from tests.e2e.configured import configured, happen
from tests.e2e.victims import Victims
from tests.servers import Node

EVENTS = 5
KILLED = 137
PLACES = (
    "effect.after_intent",
    "effect.after_call",
    "effect.before_done",
    "effect.after_done",
    "delivery.after_handle",
)
COUNTED = ("tb_confiture_total", frozenset({("environment", "production"), ("status", "success")}))
RAN = ("confiture_migration_duration_seconds_sum", frozenset({("migration_name", "add_email")}))


async def scraped(runtime: Runtime, path: str = "/metrics/prometheus") -> httpx.Response:
    """What its gateway answers."""
    async with (
        serving(build_app(runtime), "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        return await http.get(path)


@pytest.mark.parametrize("place", PLACES)
async def test_a_worker_killed_while_it_counts_leaves_every_event_counted_once(
    place: str, victims: Victims, redis: Node, tmp_path: Path
) -> None:
    redis.ask("FLUSHALL")
    url, config = f"redis://127.0.0.1:{redis.port}/0", tmp_path / "eventbus.yaml"
    worker = {"lease_seconds": 1.0, "port": 0, "retry_base_seconds": 0.02, "retry_max_seconds": 0.1}
    settings = {"events": {"url": url}, "integrations": {"prometheus": {"start": "earliest"}}, "worker": worker}
    config.write_text(yaml.safe_dump(settings))
    async with EventBus.open(url) as bus:
        for number in range(EVENTS):
            await bus.publish(
                MigrationCompleted(migration="add_email", environment="production", duration_ms=1000 * 2**number)
            )
    assert await victims.die([(str(config), f"{place}:2:exit137", str(tmp_path / "log"))]) == [KILLED]
    async with open_runtime(read_settings(config), serve=True) as runtime:
        await runtime.registry.start()
        await runtime.bus.run_until_idle(timeout=timedelta(seconds=60))
        assert list(await runtime.bus.groups()) == ["prometheus"], "its only target has the name of the account"
        assert [letter async for letter in runtime.bus.dead.find()] == []
        found = read((await scraped(runtime)).text)
    assert (found[COUNTED], found[RAN]) == (EVENTS, 2**EVENTS - 1)


async def test_a_worker_and_a_gateway_show_the_same(redis: Node, tmp_path: Path) -> None:
    redis.ask("FLUSHALL")
    config = tmp_path / "eventbus.yaml"
    settings = {
        "events": {"url": f"redis://127.0.0.1:{redis.port}/0"},
        "integrations": {"prometheus": {"start": "earliest"}, "log": {}},
        "worker": {"port": 0},
        "log": {"format": "json"},
    }
    config.write_text(yaml.safe_dump(settings))
    worker = Child("worker", [sys.executable, "-m", "service", "worker", "--config", str(config)], {}, tmp_path)
    async with open_runtime(read_settings(config), serve=False) as runtime, httpx.AsyncClient(trust_env=False) as http:
        await runtime.registry.start()
        await worker.start()
        try:
            http.base_url = httpx.URL((await worker.wait_for("answering", 60))["url"])
            await runtime.bus.publish(MigrationCompleted(migration="add_email", environment="production"))

            async def counted() -> bool:
                answer = await http.get("/metrics/prometheus")  # 503 until the integration is ready
                return answer.status_code == 200 and read(answer.text).get(COUNTED) == 1

            await wait_until(counted, "the worker has counted the migration", 60)
            assert (await scraped(runtime)).text == (await http.get("/metrics/prometheus")).text
            refused = await http.get("/metrics/log")
            assert (refused.status_code, refused.text) == (404, "log counts nothing for others to scrape\n")
        finally:
            await worker.stop()


async def test_a_measure_in_the_settings_is_counted_and_scraped(tmp_path: Path) -> None:
    """A topic that nobody subscribes to but the measure, and labels in each of their forms."""
    text = """
    integrations:
      prometheus:
        measures:
          - name: orders_value_total
            type: counter
            topics: [shop.order.*]
            value: data.cents
            scale: 0.01
            labels:
              country: data.country
              state: topic.3
              shop: =north
              outcome: {shop.order.paid: won, "shop.order.*": open}
    """
    async with configured(tmp_path, "\n".join(line[4:] for line in text.splitlines())) as runtime:
        paid = catalog.event("shop.order.paid", {"cents": 1250, "country": "fr"})
        await happen(runtime, paid, catalog.event("shop.order.placed", {"cents": 100}))
        answer = await scraped(runtime)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    assert 'orders_value_total{country="fr",outcome="won",shop="north",state="paid"} 12.5' in lines
    assert 'orders_value_total{country="",outcome="open",shop="north",state="placed"} 1.0' in lines


async def test_what_nobody_counts_is_not_found(tmp_path: Path) -> None:
    async with configured(tmp_path, "integrations: {prometheus: {}, log: {}}\n") as runtime:
        for path, said in (("/metrics/log", "counts nothing"), ("/metrics/x", "no integration 'x' is configured")):
            answer = await scraped(runtime, path)
            assert answer.status_code == 404
            assert said in answer.json()["detail"]
