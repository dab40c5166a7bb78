"""`eventbus webhooks`: endpoints that fail, are switched off, and get what they missed, by the real commands."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from eventbus import EventBus
from eventbus.redis.embedded import EmbeddedRedis
from integrations.webhook.book import Book, Tried
from integrations.webhook.fake import FakeReceiver
from integrations.webhook.standing import Off
from registry.discovery import discover
from registry.settings import load
from service.cli.webhooks import webhooks
from service.wiring import Runtime, open_runtime
from tests.service.cli.conftest import Desk

KEY = "whsk_" + base64.b64encode(bytes(32)).decode()


def command(*arguments: str) -> Result:
    return CliRunner().invoke(webhooks, arguments)


def written(folder: Path, url: str, **accounts: Any) -> Path:
    path = folder / "eventbus.yaml"
    worker = {"retry_base_seconds": 0.05, "retry_max_seconds": 0.1, "max_attempts": 2, "port": 0}
    path.write_text(yaml.safe_dump({"events": {"url": url}, "integrations": accounts, "worker": worker}))
    return path


@pytest.fixture
def configured(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Two endpoints, one of which a second integration has as well."""
    billing = {"name": "billing", "url": "https://billing.example.com/canary", "secret": KEY}
    warehouse = {"name": "warehouse", "url": "https://warehouse.example.com/canary", "topics": ["vm.*"]}
    path = written(
        tmp_path,
        desk.url,
        webhook={"endpoints": [billing, warehouse]},
        partners={"adapter": "webhook", "endpoints": [warehouse]},
    )
    monkeypatch.setenv("EVENTBUS_CONFIG", str(path))
    return desk


def in_the_book(desk: Desk, work: Callable[[Book], Awaitable[object]], account: str = "webhook") -> None:
    desk.do(lambda bus: work(Book(bus.table(account))))


def test_the_list_says_how_each_endpoint_stands_and_shows_no_secret(configured: Desk) -> None:
    now = time.time()
    in_the_book(configured, lambda book: book.failed("billing", now))
    in_the_book(configured, lambda book: book.switch_off("warehouse", Off(now, "they moved")), account="partners")
    done = command("list")
    assert done.exit_code == 0, done.output
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert list(lines) == ["ENDPOINT", "partners.warehouse", "webhook.billing", "webhook.warehouse"]
    assert "failing" in lines["webhook.billing"]
    assert lines["webhook.billing"].endswith("1 failure in a row")
    assert lines["partners.warehouse"].endswith("they moved")
    assert lines["webhook.warehouse"].split()[1:3] == ["on", "-"]
    assert "canary" not in done.output
    found = {one["endpoint"]: one for one in json.loads(command("list", "--json").stdout)}
    assert found["webhook.billing"]["public_keys"] == ["whpk_O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik="]
    assert KEY not in json.dumps(found)


def test_attempts_are_shown_newest_last_and_those_that_failed_alone(configured: Desk) -> None:
    ok = Tried(1_768_208_400, "vm.created", "event-1", "msg_1", 1, "delivered", 204, 12.4, "", None)
    bad = Tried(1_768_208_460, "vm.created", "event-2", "msg_2", 3, "retry", 503, 40, "says\x1b[31m no", 1_768_208_520)

    async def note(book: Book) -> None:
        for tried in (ok, bad):
            await book.note("billing", tried)

    in_the_book(configured, note)
    lines = command("attempts", "billing").stdout.splitlines()
    assert [line.split()[2:6] for line in lines[1:]] == [
        ["delivered", "204", "12", "1"],
        ["retry", "503", "40", "3"],
    ]
    assert "vm.created: says?[31m no; not before" in lines[2]
    found = json.loads(command("attempts", "billing", "--failed", "--json").stdout)
    assert [(one["event_id"], one["at"], one["not_before"]) for one in found] == [
        ("event-2", "2026-01-12T09:01:00+00:00", "2026-01-12T09:02:00+00:00")
    ]
    assert len(json.loads(command("attempts", "billing", "--limit", "1", "--json").stdout)) == 1


def test_without_an_attempt_it_says_so_with_exit_code_3(configured: Desk) -> None:
    done = command("attempts", "billing", "--failed")
    assert (done.exit_code, done.stderr) == (3, "no attempt at webhook.billing is kept that failed\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("biling", "no endpoint is called biling: name one of partners.warehouse, webhook.billing, webhook.warehouse"),
        ("warehouse", "several endpoints are called warehouse: name one of partners.warehouse, webhook.warehouse"),
    ],
)
def test_an_endpoint_has_to_be_the_only_one_of_its_name(configured: Desk, name: str, said: str) -> None:
    for arguments in (["attempts"], ["enable"], ["disable"], ["recover", "--since", "1h"]):
        done = command(*arguments, name)
        assert (done.exit_code, done.stderr) == (2, f"error: {said}\n")
    assert command("disable", "partners.warehouse").exit_code == 0


def test_without_endpoints_the_commands_say_what_is_missing(desk: Desk) -> None:
    done = command("list")
    assert done.exit_code == 2
    assert "no webhook endpoint is configured; name the settings file with --config" in done.stderr


def test_what_a_person_switches_is_told_once(configured: Desk) -> None:
    configured.declare("told", "integration.>")
    off = command("disable", "billing", "--reason", "they move")
    assert off.stdout == "webhook.billing is off; its events wait until: eventbus webhooks enable billing\n"
    assert command("disable", "billing").stdout == "webhook.billing is off already, for 0 s: they move\n"
    assert command("enable", "billing").stdout == "webhook.billing is on\n"
    assert command("enable", "billing").stdout == "webhook.billing was on already\n"
    told = configured.serve("told", "integration.>")
    assert [(event.topic, event.data.integration, event.data.detail) for event in told] == [
        ("integration.disabled", "webhook.billing", "they move"),
        ("integration.recovered", "webhook.billing", "switched on by hand"),
    ]


@pytest.mark.parametrize(
    "arguments", [["recover", "billing"], ["recover", "billing", "--since", "1h", "--until", "2h"]]
)
def test_a_range_that_is_none_is_a_usage_error(configured: Desk, arguments: list[str]) -> None:
    assert command(*arguments).exit_code == 2


def test_an_endpoint_that_nobody_served_has_missed_nothing_that_could_be_told(configured: Desk) -> None:
    assert command("recover", "billing", "--since", "1h").exit_code == 3


# -- with a worker -----------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """A worker's runtime, and the receiver it delivers to."""

    receiver: FakeReceiver
    runtime: Runtime

    async def publish(self, *tasks: str) -> list[str]:
        """Their event ids."""
        receipts = [await self.runtime.bus.publish("task.started", {"task_id": t, "name": "nightly"}) for t in tasks]
        return [receipt.event_id for receipt in receipts]

    async def until(self, what: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(20):
            while not await what():  # noqa: ASYNC110  Redis tells nobody
                await asyncio.sleep(0.02)

    async def received(self, *tasks: str) -> None:
        """Wait until exactly these have arrived, each once, and the worker is done with them."""

        async def all_there() -> bool:
            backlog = await self.runtime.bus.backlog("webhook.receiver")
            return sorted(self._tasks()) == sorted(tasks) and backlog is not None and backlog.is_empty

        await self.until(all_there)

    def _tasks(self) -> list[str]:
        return [one.content["data"]["task_id"] for one in self.receiver.received]

    async def dead(self, count: int) -> None:
        async def so_many() -> bool:
            return len([one async for one in self.runtime.bus.dead.find()]) == count

        await self.until(so_many)


@asynccontextmanager
async def at_work(receiver: FakeReceiver, path: Path) -> AsyncIterator[Stage]:
    settings = load(path, discover().adapters, {})
    async with open_runtime(settings, serve=True) as runtime:
        await runtime.registry.start()
        serving = asyncio.create_task(runtime.bus.run(grace=timedelta(seconds=5)))
        try:
            yield Stage(receiver, runtime)
        finally:
            runtime.bus.stop()
            await serving


@pytest.fixture
async def stage(own_redis: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr("integrations.webhook.adapter.LOOK_AGAIN", timedelta(seconds=0.2))
    async with FakeReceiver() as receiver:
        endpoint = receiver.settings()["endpoints"][0] | {"topics": ["task.*"]}
        path = written(tmp_path, f"embedded://{own_redis.home}", webhook={"endpoints": [endpoint]})
        monkeypatch.setenv("EVENTBUS_CONFIG", str(path))
        async with at_work(receiver, path) as stage:
            yield stage


async def asked(*arguments: str) -> Result:
    """A command, which has an event loop of its own."""
    done = await asyncio.to_thread(command, *arguments)
    assert done.exit_code == 0, done.output
    return done


async def test_events_wait_while_an_endpoint_is_off_and_flow_when_it_is_switched_on(stage: Stage) -> None:
    told: list[str] = []

    async def hear(event: Any) -> None:
        told.append(f"{event.topic} {event.data.integration}")

    await stage.runtime.bus.subscribe("integration.*", hear, group="told")
    stage.receiver.gone = True
    (first,) = await stage.publish("1")

    async def is_off() -> bool:
        return bool(told)

    async def was_looked_at_again_and_again() -> bool:
        return any(int(str(line["times"])) > 4 for line in await stage.runtime.bus.trail.read(first))

    await stage.until(is_off)
    stage.receiver.gone = False
    await stage.publish("2", "3")
    await stage.until(was_looked_at_again_and_again)
    assert stage.receiver.received == []
    assert [one async for one in stage.runtime.bus.dead.find()] == [], "waiting burns no attempt"
    (off,) = json.loads((await asked("list", "--json")).stdout)
    assert (off["state"], off["why"]) == ("off", "the receiver answered 410: it wants no more webhooks")
    assert (await asked("enable", "receiver")).stdout == "webhook.receiver is on\n"
    await stage.received("1", "2", "3")
    assert told.count("integration.disabled webhook.receiver") == 1
    attempts = json.loads((await asked("attempts", "receiver", "--json")).stdout)
    assert [one["outcome"] for one in attempts] == ["held", "delivered", "delivered", "delivered"]


async def test_what_was_given_up_is_recovered_once_and_what_arrived_is_not_sent_again(stage: Stage) -> None:
    await stage.publish("1")
    await stage.received("1")
    stage.receiver.fail(404, times=2)
    await stage.publish("2", "3")
    await stage.dead(2)
    await stage.publish("4")
    await stage.received("1", "4")
    dry = json.loads((await asked("recover", "receiver", "--since", "1h", "--dry-run", "--json")).stdout)
    assert (dry["given_up"], dry["looked_through"]) == (2, 4)
    assert (await asked("recover", "receiver", "--since", "1h")).stdout.startswith(
        "2 events that had been given up will be sent to webhook.receiver\n"
    )
    await stage.received("1", "2", "3", "4")
    await stage.dead(0)
    await stage.until(lambda: _is_idle(stage.runtime.bus))
    assert len(stage.receiver.received) == 4, "the ledger knows what arrived"
    ids = [request.headers["webhook-id"] for request in stage.receiver.requests]
    assert len(ids) == 6
    assert len(set(ids)) == 4, "what is recovered keeps its id"


async def _is_idle(bus: EventBus) -> bool:
    backlog = await bus.backlog("webhook.receiver")
    return backlog is not None and backlog.is_empty


async def test_what_is_off_is_not_recovered(stage: Stage) -> None:
    await stage.publish("1")
    await stage.received("1")
    await asked("disable", "receiver")
    refused = await asyncio.to_thread(command, "recover", "receiver", "--since", "1h")
    assert refused.exit_code == 4
    assert "webhook.receiver is off: switched off by hand; first: eventbus webhooks enable receiver" in refused.stderr
