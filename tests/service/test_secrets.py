"""Every secret of a full configuration is a word found nowhere else; then all that can be seen is searched for them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis.asyncio
import structlog
import yaml

from eventbus import Event
from eventbus.redis.embedded import find_server
from eventbus.topics import TaskFailed, VmCreated
from integrations.github.fake import FakeGitHub, app_key
from integrations.slack.fake import FakeSlack
from integrations.testing.fake import FakeService
from integrations.webhook.fake import FakeReceiver
from registry.settings import Settings
from service import logs
from service.gateway.app import build_app
from service.http import serving
from service.journal import keeping_journal
from service.wiring import Runtime, open_runtime, read_settings

PATIENCE_SECONDS = 30.0
SECRETS = {
    "redis password": "canary-redis-password-1",
    "api key": "canary-api-key-0000002",
    "slack bot token": "xoxb-canary-bot-token-3",
    "slack signing secret": "canary-signing-secret-4",
    "slack webhook": "fake-webhook-secret",
    "github token": "ghp_canaryGithubToken5",
    "github webhook secret": "canary-hook-secret-6",
    "github previous secret": "canary-previous-hook-secret-7",
    "github private key": app_key().splitlines()[3],
    "endpoint secret": "d2ViaG9vay1jYW5hcnktc2VjcmV0LTAwMDAwMDAwOA==",
    "endpoint header": "canary-endpoint-header-9",
    "endpoint query": "canary-endpoint-query-10",
    "endpoint path": "canary-endpoint-path-11",
}


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[int]:
    """A redis-server with a password; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    login = ["--requirepass", SECRETS["redis password"]]
    arguments = ["--port", str(port), "--dir", str(tmp_path), "--appendonly", "yes", "--save", "", *login]
    process = subprocess.Popen([str(find_server()), *arguments], stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Lines as a process writes them: ours from DEBUG on, those of libraries as they are configured."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    with contextlib.redirect_stderr(written):
        logs.configure("debug", "json")
    yield written
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@dataclass
class Stage:
    """The stand-ins, and the settings that point to them."""

    slack: FakeSlack
    channel: FakeSlack
    github: FakeGitHub
    receiver: FakeReceiver
    path: Path

    def services(self) -> list[tuple[FakeService, str]]:
        """Each stand-in, with an answer in which it repeats what we sent it."""
        endpoint = " ".join(SECRETS[f"endpoint {part}"] for part in ("header", "path", "query"))
        return [
            (self.slack, SECRETS["slack bot token"]),
            (self.channel, SECRETS["slack webhook"]),
            (self.github, SECRETS["github token"]),
            (self.receiver, endpoint),
        ]


@pytest.fixture
async def stage(tmp_path: Path, redis_server: int) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        token, signing = SECRETS["slack bot token"], SECRETS["slack signing secret"]
        slack = await stack.enter_async_context(FakeSlack(token=token, signing_secret=signing))
        channel = await stack.enter_async_context(FakeSlack())
        github = await stack.enter_async_context(FakeGitHub())
        receiver = await stack.enter_async_context(FakeReceiver())
        github.token, github.webhook_secret = SECRETS["github token"], SECRETS["github webhook secret"]
        path = tmp_path / "eventbus.yaml"
        url = f"redis://:{SECRETS['redis password']}@127.0.0.1:{redis_server}/0"
        path.write_text(yaml.safe_dump(settings_of(slack, channel, github, receiver, url)))
        yield Stage(slack, channel, github, receiver, path)


def settings_of(
    slack: FakeSlack, channel: FakeSlack, github: FakeGitHub, receiver: FakeReceiver, url: str
) -> dict[str, Any]:
    hidden = f"{SECRETS['endpoint path']}?token={SECRETS['endpoint query']}"
    endpoint = {
        "secret": f"whsec_{SECRETS['endpoint secret']}",
        "headers": {"Authorization": f"Bearer {SECRETS['endpoint header']}"},
        "topics": ["vm.*", "task.*"],
        "allow_private": ["127.0.0.1"],
    }
    integrations = {
        "slack": slack.settings(),
        "hook": {"adapter": "slack", **channel.webhook_settings()},
        "github": {**github.settings(), "previous_webhook_secrets": [SECRETS["github previous secret"]]},
        "app": {"adapter": "github", **github.app_settings()},
        "webhook": {
            "endpoints": [
                {**endpoint, "name": "there", "url": f"{receiver.url}/{hidden}"},
                {**endpoint, "name": "nowhere", "url": f"http://127.0.0.1:1/{hidden}"},
            ]
        },
        "log": {},
    }
    return {
        "events": {"url": url},
        "integrations": {
            name: {"breaker_seconds": 0.05, "paced": False, **section} for name, section in integrations.items()
        },
        "gateway": {"api_keys": [SECRETS["api key"]]},
        "worker": {"max_attempts": 2, "retry_base_seconds": 0.05, "retry_max_seconds": 0.1},
    }


def assert_hidden(where: str, text: str) -> None:
    found = [name for name, secret in SECRETS.items() if secret in text]
    assert not found, f"{where} shows {found}"


# -- what is driven ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def gateway(runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(build_app(runtime), "127.0.0.1", 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as http,
    ):
        yield http


async def make_trouble(stage: Stage, http: httpx.AsyncClient) -> str:
    """Every route, while the services work, fail in each of their ways, and repeat our secrets in their errors."""
    await open_gates(stage)
    seen = [await every_route(stage, http)]
    for fake, _ in stage.services():
        fake.reject_credentials = True
    seen.append(await every_route(stage, http))
    for fake, _ in stage.services():
        fake.reject_credentials = False
    for status in (400, 401, 404, 422, 429, 500, 503):
        for fake, echo in stage.services():
            fake.fail(status, times=20, body=echo)
        await open_gates(stage)
        seen.append(await every_route(stage, http))
        for fake, _ in stage.services():
            fake.come_back()
    for fake, _ in stage.services():
        fake.swallow("after", times=20)
    await open_gates(stage)
    seen.append(await every_route(stage, http))
    for fake, _ in stage.services():
        fake.come_back()
    return "\n".join(seen)


async def every_route(stage: Stage, http: httpx.AsyncClient) -> str:
    key = {"Authorization": f"Bearer {SECRETS['api key']}"}
    pull = {"owner": "acme", "repo": "api", "title": "Move", "head": "move", "base": "main"}
    headers, body = stage.github.raw_webhook("push", stage.github.push())
    forged, _ = stage.github.raw_webhook("push", b"{}", secret="another")
    command = stage.slack.slash_command("/eventbus-status")
    asked = [
        http.get("/"),
        http.get("/readyz"),
        http.get("/api/v1/health", headers=key),
        http.post("/api/v1/logs/query", json={"limit": 1000}, headers=key),
        http.post("/api/v1/events", json={"type": "vm.created", "data": {}}, headers=key),
        http.post("/api/v1/events", json={"type": "team.x"}, headers={"X-API-Key": SECRETS["api key"] + "x"}),
        *(
            http.post(f"/api/v1/integrations/{name}/notifications", json={"message": "m", **more}, headers=key)
            for name, more in {
                "slack": {},
                "hook": {},
                "github": {"type": "pr_comment", "target": "acme/api#7"},
                "app": {"type": "pr_comment", "target": "acme/api#7"},
                "log": {},
            }.items()
        ),
        *(
            http.post("/api/v1/integrations/webhook/notifications", json={"message": "m", "target": t}, headers=key)
            for t in ("there", "nowhere", "unknown")
        ),
        http.post("/api/v1/integrations/github/pr", json=pull, headers=key),
        http.post("/api/v1/webhooks/github", headers=headers, content=body),
        http.post("/api/v1/webhooks/github", headers=forged, content=body),
        http.post("/api/v1/webhooks/slack", headers=command.headers, content=command.body),
        http.post("/api/v1/webhooks/slack", headers={**command.headers, "X-Slack-Signature": "v0=0"}, content=b"x"),
    ]
    answers = await asyncio.gather(*asked)
    answers.append(await http.get("/metrics"))
    return "\n".join(f"{answer.status_code} {answer.headers} {answer.text}" for answer in answers)


async def run_worker(stage: Stage, settings: Settings) -> int:
    """Deliver events while all goes well, and while everything fails. Returns how many became dead letters."""
    dead: list[Event[Any]] = []
    async with open_runtime(settings, serve=True) as runtime, keeping_journal(runtime.bus, settings):
        await runtime.registry.start()
        await runtime.bus.subscribe("delivery.dead_lettered", dead.append)
        failed = TaskFailed(task_id="1", error="boom", pull_request="https://github.com/acme/api/pull/7")
        await runtime.bus.publish(VmCreated(vm_id="1"))
        await runtime.bus.publish(failed)
        await runtime.bus.run_until_idle(timeout=timedelta(seconds=PATIENCE_SECONDS))
        for fake, echo in stage.services():
            fake.fail(500, times=8, body=echo)  # the breaker lets each one through by itself
        await runtime.bus.publish(VmCreated(vm_id="2"))
        await runtime.bus.publish(failed.model_copy(update={"task_id": "2"}))
        await runtime.bus.run_until_idle(timeout=timedelta(seconds=PATIENCE_SECONDS))
    for fake, _ in stage.services():
        fake.come_back()
    return len(dead)


async def open_gates(stage: Stage) -> None:
    """Forget who is left alone for a while: here everybody is to be asked."""
    url = read_settings(stage.path).events.url.get_secret_value()
    async with redis.asyncio.Redis.from_url(url) as client:
        async for key in client.scan_iter(match="{eventbus:gate:*"):
            await client.delete(key)


async def everything_stored(url: str) -> str:
    """Every value of every key in Redis."""
    found = []
    async with redis.asyncio.Redis.from_url(url) as client:
        reading: dict[str, Any] = {
            "string": client.get,
            "hash": client.hgetall,
            "set": client.smembers,
            "stream": client.xrange,
            "list": lambda key: client.lrange(key, 0, -1),
            "zset": lambda key: client.zrange(key, 0, -1),
        }
        async for key in client.scan_iter():
            kind = await client.type(key)
            found.append(f"{key!r} {await reading[kind if isinstance(kind, str) else kind.decode()](key)!r}")
    return "\n".join(found)


async def command_line(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return out.decode()


# -- what is seen ------------------------------------------------------------------------------------------------------


async def test_no_secret_is_shown_by_a_worker_and_a_gateway_in_success_or_failure(
    log: io.StringIO, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = read_settings(stage.path)
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert_hidden("the settings", shown)
    assert await run_worker(stage, settings) >= 4
    async with open_runtime(settings, serve=False) as runtime, keeping_journal(runtime.bus, settings):
        await runtime.registry.start()
        async with gateway(runtime) as http:
            answers = await make_trouble(stage, http)
    assert_hidden("an HTTP answer or a metric", answers)
    for status in ("200 ", "201 ", "202 ", "401 ", "422 ", "429 ", "502 ", "504 "):
        assert f"\n{status}" in answers, f"no answer with {status}: the trouble was not made"
    stored = await everything_stored(settings.events.url.get_secret_value())
    assert "vm.created" in stored
    assert "delivery.dead_lettered" in stored
    assert stored.count("not delivered") > 10, "the journal was not searched"
    assert_hidden("Redis", stored)
    written = log.getvalue()
    for line in ("not delivered", "dead letter", "webhook refused", '"event": "request"'):
        assert line in written, f"no line {line}: nothing was logged"
    assert_hidden("the log", written)


async def test_a_redis_that_refuses_our_password_does_not_show_it(
    log: io.StringIO, stage: Stage, redis_server: int
) -> None:
    url = f"redis://:{SECRETS['api key']}@127.0.0.1:{redis_server}/0"
    text = stage.path.read_text().replace(yaml.safe_load(stage.path.read_text())["events"]["url"], url)
    stage.path.write_text(text)
    async with open_runtime(read_settings(stage.path), serve=False) as runtime:
        await runtime.registry.start()
        async with gateway(runtime) as http:
            answers = await every_route(stage, http)
    assert "refuses our credentials" in answers
    assert_hidden("an HTTP answer", answers)
    assert_hidden("the log", log.getvalue())
    assert_hidden("the command line", await command_line("publish", "team.x", "{}", "--url", url))


async def test_the_command_line_shows_no_secret(stage: Stage) -> None:
    stage.github.reject_credentials = True
    stage.slack.fail(500, times=5, body=SECRETS["slack bot token"])
    config = ("--config", str(stage.path))
    shown = await asyncio.gather(
        command_line("config", "check", str(stage.path)),
        command_line("integrations", "list", *config),
        command_line("integrations", "health", *config),
        command_line("integrations", "health", "--json", *config),
        command_line("integrations", "send", "webhook", "m", "--to", "nowhere", *config),
    )
    assert "is right" in shown[0]
    assert "slack" in shown[1]
    assert "unhealthy" in shown[3]
    for text in shown:
        assert_hidden("the command line", text)


async def test_faults_of_a_settings_file_do_not_quote_it(stage: Stage) -> None:
    settings = yaml.safe_load(stage.path.read_text())
    settings["integrations"]["slack"]["bot_tokn"] = settings["integrations"]["slack"].pop("bot_token")
    settings["integrations"]["github"]["installation_id"] = SECRETS["github token"]
    settings["integrations"]["webhook"]["endpoints"][0]["secret"] += "!"
    settings["integrations"]["webhook"]["endpoints"][1]["url"] = f"ftp://{SECRETS['endpoint path']}"
    settings["gateway"]["api_keys"] = SECRETS["api key"]
    settings["events"]["url"] = f"redis://:{SECRETS['redis password']}@host:port/x"
    stage.path.write_text(yaml.safe_dump(settings))
    said = await command_line("config", "check", str(stage.path))
    assert said.count("\n") > 5
    assert_hidden("config check", said)
