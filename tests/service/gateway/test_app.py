"""The gateway as a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from service.process import Child

PATIENCE_SECONDS = 30.0
KEY = "a-key-for-tests-0001"

Program = Callable[..., AbstractAsyncContextManager[tuple[Child, httpx.AsyncClient]]]


@pytest.fixture
def gateway(tmp_path: Path) -> Program:
    """The program, once it answers."""

    @asynccontextmanager
    async def gateway(url: str, **more: Any) -> AsyncIterator[tuple[Child, httpx.AsyncClient]]:
        path = tmp_path / "eventbus.yaml"
        settings = {
            "events": {"url": url},
            "gateway": {"port": 0, "api_keys": [KEY], **more},
            "log": {"format": "json"},
        }
        path.write_text(yaml.safe_dump(settings))
        child = Child("gateway", [sys.executable, "-m", "service", "gateway", "--config", str(path)], {}, tmp_path)
        await child.start()
        try:
            answering = await child.wait_for("answering", PATIENCE_SECONDS)
            headers = {"X-API-Key": KEY}
            async with httpx.AsyncClient(base_url=answering["url"], headers=headers, trust_env=False) as http:
                yield child, http
        finally:
            await child.stop()

    return gateway


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_a_request_that_is_under_way_finish(gateway: Program, number: signal.Signals) -> None:
    async with gateway("memory://") as (child, http):
        rest = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield b'{"topic": "team.joined", '
            await rest.wait()
            yield b'"data": {}}'

        asking = asyncio.create_task(http.post("/api/v1/events", content=slowly()))
        async with httpx.AsyncClient(base_url=http.base_url, trust_env=False) as another:
            assert (await another.get("/livez")).status_code == 200  # ours arrived before this one
        child.kill(number)
        await child.wait_for("stopping", PATIENCE_SECONDS)
        rest.set()
        assert (await asking).status_code == 202
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await child.wait() == 0


async def test_no_secret_and_no_value_of_a_header_is_in_the_log(gateway: Program, tmp_path: Path) -> None:
    async with gateway("memory://") as (_, http):
        await http.post("/api/v1/events", json={"topic": "team.joined"})
        await http.post("/api/v1/events", json={}, headers={"X-API-Key": "a-wrong-key-hunter2"})
        await http.post("/api/v1/webhooks/nobody?token=hunter2", headers={"Authorization": "Basic hunter2"})
    log = (tmp_path / "gateway.log").read_text()
    assert log.count('"event": "request"') == 3
    assert KEY not in log
    assert "hunter2" not in log
