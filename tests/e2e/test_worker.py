"""The worker as a process of its own: stopping, Redis coming and going, targets that are slow, limited or refusing."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from eventbus import EventBus
from eventbus.redis.embedded import find_server
from eventbus.topics import TaskFailed, VmCreated
from integrations.webhook.fake import FakeReceiver
from registry.discovery import discover
from registry.settings import load
from service.process import Child
from service.wiring import open_runtime

PATIENCE_SECONDS = 30.0


async def until(condition: Callable[[], object], what: str, within: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {within:g} s"
        await asyncio.sleep(0.01)


@dataclass
class Stage:
    """Two receivers, a bus, and workers that serve them as `webhook.first` and `webhook.second`, and `log` besides."""

    folder: Path
    address: str
    first: FakeReceiver
    second: FakeReceiver

    def config(self, **worker: Any) -> Path:
        endpoints = [
            receiver.settings()["endpoints"][0] | {"name": name, "topics": ["vm.*", "task.*", "team.*"]}
            for name, receiver in (("first", self.first), ("second", self.second))
        ]
        settings = {
            "events": {"url": self.address},
            "integrations": {"webhook": {"endpoints": endpoints, "breaker_seconds": 0.3}, "log": {}},
            "worker": {"port": 0, "retry_base_seconds": 0.1, **worker},
            "log": {"format": "json"},
        }
        path = self.folder / "eventbus.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    @asynccontextmanager
    async def worker(self, name: str = "worker", *, working: bool = True, **settings: Any) -> AsyncIterator[Child]:
        command = [sys.executable, "-m", "service", "worker", "--config", str(self.config(**settings))]
        child = Child(name, command, {}, self.folder)
        await child.start()
        try:
            if working:
                await child.wait_for("working", PATIENCE_SECONDS)
            yield child
        finally:
            await child.stop()

    def bus(self) -> Any:
        return EventBus.open(self.address)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with FakeReceiver() as first, FakeReceiver() as second:
        yield Stage(tmp_path, f"embedded://{tmp_path / 'redis'}", first, second)


@pytest.fixture
async def bus(stage: Stage) -> AsyncIterator[EventBus]:
    async with stage.bus() as bus:
        yield bus


async def ended(child: Child, within: float = PATIENCE_SECONDS) -> int:
    async with asyncio.timeout(within):
        return await child.wait()


# -- stopping --------------------------------------------------------------------------------------------------------


async def test_sigterm_lets_a_call_that_is_under_way_finish(stage: Stage, bus: EventBus) -> None:
    async with stage.worker() as worker:
        held = stage.first.hold()
        await bus.publish(VmCreated(vm_id="1"))
        await held.committed.wait()
        worker.kill(signal.SIGTERM)
        await worker.wait_for("stopping", PATIENCE_SECONDS)
        held.released.set()
        assert await ended(worker) == 0
    assert len(stage.first.received) == 1
    backlog = await bus.backlog("webhook.first")
    assert backlog is not None
    assert backlog.is_empty


async def test_a_call_that_never_ends_is_handed_back_and_another_worker_delivers_at_once(
    stage: Stage, bus: EventBus
) -> None:
    lease = 30.0
    async with stage.worker(grace_seconds=0.3, lease_seconds=lease) as worker:
        held = stage.first.hold()
        await bus.publish(VmCreated(vm_id="1"))
        await held.committed.wait()
        worker.kill(signal.SIGTERM)
        assert await ended(worker, 10) == 0
    async with stage.worker("successor", lease_seconds=lease):
        await until(lambda: stage.first.repeats, "the repeat", within=2.0)  # the lease alone would take 30 s
    held.released.set()
    assert len(stage.first.effects()) == 1, "the repeat has another webhook-id"


async def test_a_second_sigterm_ends_it_at_once(stage: Stage, bus: EventBus) -> None:
    async with stage.worker(grace_seconds=60) as worker:
        held = stage.first.hold()
        await bus.publish(VmCreated(vm_id="1"))
        await held.committed.wait()
        worker.kill(signal.SIGTERM)
        await worker.wait_for("stopping", PATIENCE_SECONDS)
        worker.kill(signal.SIGTERM)
        assert await ended(worker, 2) == 128 + signal.SIGTERM
    held.released.set()


async def test_a_port_that_is_taken_ends_it_with_a_sentence(stage: Stage, bus: EventBus) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with stage.worker(working=False, port=port) as worker:
            assert await ended(worker) == 2
    log = (stage.folder / "worker.log").read_text()
    assert f"can't listen on 127.0.0.1:{port}: Address already in use. Choose another port" in log
    assert "Traceback" not in log


# -- Redis comes and goes --------------------------------------------------------------------------------------------


@dataclass
class Redis:
    """A redis-server of our own on a port, started and killed at will."""

    folder: Path
    port: int
    process: Process | None = None

    async def start(self) -> None:
        always = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self.process = await asyncio.create_subprocess_exec(
            find_server(), "--port", str(self.port), "--dir", str(self.folder), *always,
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            await self.process.wait()
            self.process = None


@pytest.fixture
async def server(stage: Stage) -> AsyncIterator[Redis]:
    """Not running yet; the stage's address is its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stage.address = f"redis://127.0.0.1:{port}/0"
    server = Redis(stage.folder, port)
    yield server
    await server.kill()


async def test_a_redis_that_is_away_at_the_start_is_told_once_and_waited_for(stage: Stage, server: Redis) -> None:
    async with stage.worker(working=False) as worker:
        told = await worker.wait_for("waiting for Redis", PATIENCE_SECONDS)
        assert told["error"].startswith(f"can't reach Redis at redis://127.0.0.1:{server.port}/0: ")
        await server.start()
        await worker.wait_for("working", PATIENCE_SECONDS)
        complaints = [line for line in worker.lines if line["level"] in ("warning", "error")]
        assert len(complaints) == 1, f"one line says it all; it said: {complaints}"
        async with stage.bus() as bus:
            await bus.publish(VmCreated(vm_id="1"))
            await until(lambda: stage.first.received, "the webhook")


async def test_sigterm_ends_it_while_it_waits_for_redis(stage: Stage, server: Redis) -> None:
    async with stage.worker(working=False) as worker:
        await worker.wait_for("waiting for Redis", PATIENCE_SECONDS)
        worker.kill(signal.SIGTERM)
        assert await ended(worker, 10) == 0


async def test_a_redis_that_is_killed_and_comes_back_is_found_again(stage: Stage, server: Redis) -> None:
    await server.start()
    async with stage.worker(lease_seconds=1) as worker, stage.bus() as bus:
        await bus.publish(VmCreated(vm_id="1"))
        await until(lambda: stage.first.received and stage.second.received, "the first webhooks")
        await server.kill()
        await worker.wait_for("Redis is away; trying again", PATIENCE_SECONDS)
        await server.start()
        await bus.publish(VmCreated(vm_id="2"))
        await until(lambda: len(stage.first.effects()) == len(stage.second.effects()) == 2, "the second webhooks")


# -- what it answers -------------------------------------------------------------------------------------------------


async def test_it_answers_for_its_health_and_its_metrics(stage: Stage, bus: EventBus) -> None:
    async with stage.worker() as worker, httpx.AsyncClient(trust_env=False) as http:
        http.base_url = httpx.URL((await worker.wait_for("answering", PATIENCE_SECONDS))["url"])
        live, ready = await http.get("/livez"), await http.get("/readyz")
        assert (live.status_code, live.text) == (200, "ok\n")
        assert (ready.status_code, ready.json()) == (200, {"ready": True, "not_ready": {}})

        stage.second.fail(400)
        await bus.publish(VmCreated(vm_id="1"))
        await bus.publish("team.made_up", {})
        await worker_has(http, 'event_bus_backlog{integration="webhook.second",state="dead"} 1.0')
        found = samples((await http.get("/metrics")).text)
    consumed = "event_bus_messages_consumed_total"
    assert found[consumed, "vm.created", "webhook.first"] == 1
    assert found[consumed, "other", "webhook.first"] == 1, "a topic outside the catalogue counts as other"
    assert found["integration_requests_total", "webhook", "handle_event"] == 4
    assert found["event_bus_attempts_total", "webhook.second", "dead"] == 1
    assert found["event_bus_messages_published_total", "delivery.dead_lettered"] == 1
    assert found["event_bus_backlog", "webhook.first", "unread"] == 0


async def worker_has(http: httpx.AsyncClient, line: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while line not in (await http.get("/metrics")).text.splitlines():  # noqa: ASYNC110  another process's state
            await asyncio.sleep(0.1)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Metric name and label values, in the order topic, integration, then the rest."""
    rank = {"topic": 0, "integration": 1}
    return {
        (
            one.name,
            *(value for _, value in sorted(one.labels.items(), key=lambda label: rank.get(label[0], 2))),
        ): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


# -- targets that are slow, full, refusing, wrong --------------------------------------------------------------------


async def test_a_slow_target_delays_no_other(stage: Stage, bus: EventBus) -> None:
    async with stage.worker(concurrency=1, lease_seconds=30):
        held = stage.first.hold()
        for number in range(20):
            await bus.publish(VmCreated(vm_id=str(number)))
        await held.committed.wait()
        await until(lambda: len(stage.second.effects()) == 20, "the other target's webhooks")
        assert len(stage.first.received) == 1
        held.released.set()
        await until(lambda: len(stage.first.effects()) == 20, "the slow target's webhooks")


async def test_a_rate_limit_pauses_its_target_alone_and_burns_no_attempt(stage: Stage, bus: EventBus) -> None:
    async with stage.worker(max_attempts=1) as worker:
        stage.first.fail(429, headers={"Retry-After": "1"})
        await bus.publish(VmCreated(vm_id="1"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (backlog := await bus.backlog("webhook.first")) is None or backlog.due != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # the pause is in Redis
        await bus.publish(VmCreated(vm_id="2"))
        await until(lambda: len(stage.second.received) == 2, "both webhooks of the other target")
        assert stage.first.received == []
        await until(lambda: len(stage.first.effects()) == 2, "the limited target's webhooks")
        limited, *later = stage.first.requests
        assert limited.status == 429
        assert all(one.at >= limited.at + 0.9 for one in later), "Retry-After said 1 second, for the whole account"
        await until(lambda: len(told_of(worker, "delivered")) == 2, "the worker's word for it")
        assert len(told_of(worker, "not delivered")) == 1
        assert {line["attempt"] for line in told_of(worker, "delivered")} == {1}


def told_of(worker: Child, event: str) -> list[dict[str, Any]]:
    return [line for line in worker.lines if line["event"] == event and line.get("target") == "first"]


async def test_a_refused_event_becomes_a_dead_letter_that_is_announced(stage: Stage, bus: EventBus) -> None:
    async with stage.worker(), bus.listen("delivery.dead_lettered") as events:
        stage.first.fail(400, body="unknown field")
        receipt = await bus.publish(TaskFailed(task_id="task-1", error="no"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            event = await anext(events)
    dead = event.data
    assert (dead.group, dead.event_id, dead.event_topic) == ("webhook.first", receipt.event_id, "task.failed")
    assert (dead.reason, dead.attempts) == ("rejected", 1)
    assert dead.error.endswith("answered 400: unknown field")
    assert len(stage.second.received) == 1


async def test_refused_credentials_pause_the_target_and_both_turns_are_announced(
    stage: Stage, bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(stage.config(max_attempts=1), discover().adapters, {})
    async with open_runtime(settings, serve=True) as runtime, bus.listen("integration.*") as events:
        await runtime.registry.start()
        running = asyncio.create_task(runtime.bus.run())
        stage.first.reject_credentials = True
        await bus.publish(VmCreated(vm_id="1"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            degraded = await anext(events)
            await until(lambda: len(stage.first.requests) == 3, "more attempts than max_attempts allows")
            stage.first.reject_credentials = False
            recovered = await anext(events)
        await until(lambda: stage.first.received, "the webhook that waited")
        runtime.bus.stop()
        await running
    assert (degraded.topic, degraded.data.integration) == ("integration.degraded", "webhook.first")
    assert degraded.data.detail.endswith("answered 401: signature mismatch")
    assert (recovered.topic, recovered.data.integration) == ("integration.recovered", "webhook.first")
