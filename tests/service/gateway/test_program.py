"""The gateway as a process of its own."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from eventbus import EventBus
from eventbus.redis.embedded import EmbeddedRedis, find_server
from eventbus.topics import AlertFiring
from integrations.alertmanager.fake import FakeAlertmanager
from integrations.base import InboundRequest
from service.process import Child
from tests.conftest import wait_until
from tests.servers import free_port

PATIENCE_SECONDS = 30.0
KEY = "a-key-for-tests-0001"


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def redis(tmp_path: Path, port: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """What the test starts here is ended after it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start_redis(folder: Path, port: int, *options: str) -> subprocess.Popen[bytes]:
    arguments = ["--port", str(port), "--dir", str(folder), "--appendonly", "yes", "--save", "", *options]
    return subprocess.Popen([str(find_server()), *arguments], stdout=subprocess.DEVNULL)


def config(
    folder: Path,
    url: str,
    *,
    events: dict[str, Any] | None = None,
    integrations: dict[str, Any] | None = None,
    **gateway: Any,
) -> Path:
    settings = {
        "events": {"url": url, **(events or {})},
        "integrations": integrations or {"log": {}},
        "gateway": {"port": 0, "api_keys": [KEY], **gateway},
        "log": {"format": "json"},
    }
    path = folder / "eventbus.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@asynccontextmanager
async def gateway(
    folder: Path, url: str, *, failpoints: str = "", **settings: Any
) -> AsyncIterator[tuple[Child, httpx.AsyncClient]]:
    command = [sys.executable, "-m", "service", "gateway", "--config", str(config(folder, url, **settings))]
    child = Child("gateway", command, {"EVENTBUS_FAILPOINTS": failpoints}, folder)
    await child.start()
    try:
        address = (await child.wait_for("answering", PATIENCE_SECONDS))["url"]
        async with httpx.AsyncClient(base_url=address, trust_env=False) as http:
            yield child, http
    finally:
        await child.stop()


async def ready(http: httpx.AsyncClient) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (await http.get("/readyz")).status_code != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_it_starts_without_redis_says_so_once_and_works_when_redis_appears(
    tmp_path: Path, port: int, redis: list[subprocess.Popen[bytes]]
) -> None:
    async with gateway(tmp_path, f"redis://:pass-word@127.0.0.1:{port}/0") as (child, http):
        line = await child.wait_for("webhooks and events get 503 until Redis is back", PATIENCE_SECONDS)
        assert f"can't reach Redis at redis://127.0.0.1:{port}/0" in line["error"]
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/readyz")).status_code == 503
        headers = {"Authorization": f"Bearer {KEY}"}
        began = time.monotonic()
        refused = await http.post("/api/v1/events", json={"type": "team.x", "id": "one"}, headers=headers, timeout=10)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert time.monotonic() - began < 8
    redis.append(start_redis(tmp_path, port))
    async with gateway(tmp_path, f"redis://127.0.0.1:{port}/0") as (child, http):
        await ready(http)
        taken = await http.post("/api/v1/events", json={"type": "team.x", "id": "one"}, headers=headers)
        assert (taken.status_code, taken.json()["status"]) == (202, "stored")
        redis[0].kill()
        redis[0].wait()
        assert (await http.get("/readyz")).status_code == 503
        redis.append(start_redis(tmp_path, port))
        await ready(http)
        repeated = await http.post("/api/v1/events", json={"type": "team.x", "id": "one"}, headers=headers)
        assert (repeated.status_code, repeated.json()["status"]) == (202, "duplicate")


async def test_without_its_replica_it_spools_and_stays_ready_until_there_is_one(
    tmp_path: Path, port: int, redis: list[subprocess.Popen[bytes]]
) -> None:
    redis.append(start_redis(tmp_path, port))
    events = {"spool": str(tmp_path / "spool"), "durability": "replica"}
    headers = {"Authorization": f"Bearer {KEY}"}
    async with gateway(tmp_path, f"redis://127.0.0.1:{port}", events=events) as (child, http):
        line = await child.wait_for("webhooks and events are spooled until Redis is back", PATIENCE_SECONDS)
        assert "has 0 of the 1 replicas" in line["error"]
        for _ in range(2):
            taken = await http.post("/api/v1/events", json={"type": "team.x", "id": "one"}, headers=headers)
            assert (taken.status_code, taken.json()["status"]) == (202, "spooled")
            assert (await http.get("/readyz")).status_code == 200
        (tmp_path / "replica").mkdir()
        redis.append(start_redis(tmp_path / "replica", free_port(), "--replicaof", "127.0.0.1", str(port)))
        await wait_until(lambda: spooled(http, 0), "the spool is sent", PATIENCE_SECONDS)
        taken = await http.post("/api/v1/events", json={"type": "team.x", "id": "one"}, headers=headers)
        assert (taken.status_code, taken.json()["status"]) == (202, "duplicate")


async def spooled(http: httpx.AsyncClient, count: int) -> bool:
    return f"event_bus_spool_events {count:.1f}" in (await http.get("/metrics")).text


async def test_sigterm_ends_it_in_order_though_a_connection_is_open(tmp_path: Path) -> None:
    async with gateway(tmp_path, "memory://") as (child, http):
        assert (await http.get("/livez")).status_code == 200
        began = time.monotonic()
        child.kill(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await child.wait() == 0
        assert time.monotonic() - began < 5
    assert [line["event"] for line in child.lines][-2:] == ["stopping", "stopped"]


async def test_a_second_signal_ends_it_at_once_though_a_request_runs(tmp_path: Path) -> None:
    async with gateway(tmp_path, "memory://") as (child, http):
        reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
        head = f"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9\r\n\r\n"
        writer.write(head.encode() + b"{")
        await writer.drain()
        assert (await http.get("/livez")).status_code == 200
        child.kill(signal.SIGTERM)
        await child.wait_for("stopping", PATIENCE_SECONDS)
        child.kill(signal.SIGINT)
        await child.wait_for("told twice: leaving at once", PATIENCE_SECONDS)
        async with asyncio.timeout(5):
            assert await child.wait() == 128 + signal.SIGINT
        assert "stopped" not in [line["event"] for line in child.lines]
        assert await reader.read() == b""
        writer.close()


async def test_a_port_in_use_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        path = config(tmp_path, "memory://", port=number)
        command = [sys.executable, "-m", "service", "gateway", "--config", str(path)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: can't listen on 127.0.0.1:{number}: Address already in use")


@pytest.fixture
async def sender() -> AsyncIterator[FakeAlertmanager]:
    async with FakeAlertmanager() as fake:
        yield fake


@pytest.mark.parametrize("place", ["publish.before_send", "publish.after_send"])
async def test_a_gateway_that_dies_between_the_events_of_one_request_loses_and_repeats_none(
    tmp_path: Path, own_redis: EmbeddedRedis, sender: FakeAlertmanager, place: str
) -> None:
    """Alerts that more than one step stores; a kill -9 in the second step. Alertmanager repeats, in other words."""
    url = f"embedded://{own_redis.home}"
    known: dict[str, Any] = {"integrations": {"alertmanager": sender.settings()}}
    names = [f"disk-{number}" for number in range(450)]

    def said(words: str) -> InboundRequest:
        return sender.webhook(
            sender.message(
                *(sender.alert(labels={"alertname": name}, annotations={"summary": words}) for name in names)
            )
        )

    async def post(http: httpx.AsyncClient, request: InboundRequest) -> int:
        address = "/api/v1/webhooks/alertmanager"
        return (await http.post(address, headers=dict(request.headers), content=request.body)).status_code

    async with gateway(tmp_path, url, failpoints=f"{place}:2:exit137", **known) as (_, http):
        await ready(http)
        with pytest.raises(httpx.TransportError):
            await post(http, said("4 % are left"))
    before = await summaries(url)
    assert 0 < len(before) < len(names), "it died in between"
    async with gateway(tmp_path, url, **known) as (_, http):
        assert [await post(http, said("3 % are left")) for _ in range(2)] == [200, 200]
    after = await summaries(url)
    assert sorted(str(name) for name, _ in after) == sorted(names)
    assert after[: len(before)] == before, "what was said first stays"
    assert {summary for _, summary in after[len(before) :]} == {"3 % are left"}


async def summaries(url: str) -> list[tuple[str | None, str]]:
    """Of every alert in the log, its name and what was said of it."""
    async with EventBus.open(url) as bus:
        alerts = [event.data async for event in bus.past(since=datetime.now(UTC) - timedelta(hours=1))]
    return [(one.name, one.annotations["summary"]) for one in alerts if isinstance(one, AlertFiring)]
