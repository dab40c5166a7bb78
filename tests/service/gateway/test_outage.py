"""Redis goes away under a gateway that was put together from a settings file, with the bus's own patience."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from eventbus.redis.embedded import find_server
from integrations.github.fake import FakeGitHub
from integrations.slack.fake import FakeSlack
from service.gateway.app import build_app
from service.http import serving
from service.wiring import open_runtime, read_settings
from tests.conftest import wait_until

SLACK_SECONDS = 3.0
"""docs.slack.dev, Slash commands, "Confirming receipt"."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A redis-server of the test's own, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["--port", str(port), "--dir", str(tmp_path), "--appendonly", "yes", "--save", ""]
    process = subprocess.Popen([str(find_server()), *arguments], stdout=subprocess.DEVNULL)
    try:
        yield process, f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def test_slack_and_github_are_answered_in_their_time_and_what_was_sent_again_is_stored_once(
    tmp_path: Path, redis: tuple[subprocess.Popen[bytes], str], slack: FakeSlack, github: FakeGitHub
) -> None:
    process, url = redis
    path = tmp_path / "eventbus.yaml"
    integrations = {"slack": slack.settings(), "github": github.settings(), "log": {}}
    path.write_text(yaml.safe_dump({"events": {"url": url}, "integrations": integrations}))
    async with open_runtime(read_settings(path), serve=False) as runtime:
        await runtime.registry.start()
        await runtime.bus.declare("witness", (">",))
        async with (
            serving(build_app(runtime), "127.0.0.1", 0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1/webhooks", trust_env=False) as http,
        ):
            command = slack.slash_command("/eventbus-status")
            headers, body = github.raw_webhook("push", github.push())
            assert (await http.post("/slack", headers=command.headers, content=command.body)).status_code == 200
            event = slack.event_callback({"type": "app_mention", "text": "hello"})
            process.send_signal(signal.SIGSTOP)  # it keeps its connections and answers nothing
            try:
                for name, given, content in (("slack", *event), ("github", headers, body)):
                    began = time.monotonic()
                    answer = await http.post(f"/{name}", headers=given, content=content, timeout=20)
                    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
                    assert answer.headers["retry-after"]
                    assert time.monotonic() - began < SLACK_SECONDS
            finally:
                process.send_signal(signal.SIGCONT)
            assert (await http.post("/slack", headers=event.headers, content=event.body)).status_code == 200
            assert (await http.post("/github", headers=headers, content=body)).status_code == 202
        backlog = await runtime.bus.backlog("witness")
        assert backlog is not None
        assert backlog.unread == 6, "three webhooks, each with its notice"


async def test_with_a_spool_webhooks_are_accepted_while_redis_is_away_and_arrive_when_it_is_back(
    tmp_path: Path, redis: tuple[subprocess.Popen[bytes], str], slack: FakeSlack, github: FakeGitHub
) -> None:
    process, url = redis
    path = tmp_path / "eventbus.yaml"
    integrations = {"slack": slack.settings(), "github": github.settings(), "log": {}}
    events = {"url": url, "spool": str(tmp_path / "spool")}
    path.write_text(yaml.safe_dump({"events": events, "integrations": integrations}))
    async with open_runtime(read_settings(path), serve=False) as runtime:
        await runtime.registry.start()
        await runtime.bus.declare("witness", (">",))
        spools = runtime.bus.spools
        assert spools is not None
        async with (
            serving(build_app(runtime), "127.0.0.1", 0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
        ):
            headers, body = github.raw_webhook("push", github.push())
            event = slack.event_callback({"type": "app_mention", "text": "hello"})
            process.send_signal(signal.SIGSTOP)
            try:
                for name, given, content, status in (("github", headers, body, 202), ("slack", *event, 200)):
                    began = time.monotonic()
                    answer = await http.post(f"/api/v1/webhooks/{name}", headers=given, content=content, timeout=20)
                    assert answer.status_code == status
                    assert time.monotonic() - began < SLACK_SECONDS
                assert spools.count == 4, "two webhooks, each with its notice"
                assert "event_bus_spool_events 4.0" in (await http.get("/metrics")).text
            finally:
                process.send_signal(signal.SIGCONT)
            await wait_until(lambda: spools.is_empty, "the spool is sent")
            assert (await http.post("/api/v1/webhooks/github", headers=headers, content=body)).status_code == 202
        backlog = await runtime.bus.backlog("witness")
        assert backlog is not None
        assert backlog.unread == 4, "each is stored once, the repeat of the webhook too"
