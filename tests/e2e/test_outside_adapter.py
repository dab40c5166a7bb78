"""Adapters of third parties that misbehave: each is named with its reason, and none keeps another from its work."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import BaseModel

import registry.registry
from eventbus import Event, EventBus
from eventbus.redis.shard import Backlog
from eventbus.topics import VmCreated
from integrations.base import Context, Delivery, DeliveryResult, Health, Integration, Manifest
from integrations.errors import NotReady
from integrations.webhook.fake import FakeReceiver
from registry.account import Account
from registry.discovery import ENTRY_POINT_GROUP
from registry.metrics import Metrics
from registry.registry import Registry
from service.process import Child

PATIENCE_SECONDS = 30.0

ADAPTER = """
import asyncio
from pydantic import BaseModel
from integrations.base import DeliveryResult, Health, Integration, Manifest, Target

class Config(BaseModel):
    pass

class Adapter(Integration[Config]):
    manifest = Manifest(name="{name}", title="A bad one", config=Config, handles=("vm.*",))

    async def initialize(self, context):
        await super().initialize(context)
        {initialize}

    async def handle_event(self, event, delivery):
        {handle_event}

    async def health(self):
        {health}
"""
FINE = {"initialize": "pass", "handle_event": "return DeliveryResult.delivered()", "health": 'return Health("healthy")'}
HANGS = "await asyncio.Event().wait()"

BAD = {
    "hangs_at_start": {"initialize": HANGS},
    "raises_at_start": {"initialize": "raise RuntimeError('no licence')"},
    "raises_on_events": {"handle_event": "raise RuntimeError('no idea')"},
    "hangs_on_events": {"handle_event": HANGS},
    "exits_on_events": {"handle_event": "raise SystemExit(3)"},
    "hangs_on_health": {"health": HANGS},
    "exits_on_health": {"health": "raise SystemExit(4)"},
}
"""What each does instead of its work; its name is its module's and its integration's."""


def install(site: Path, name: str, module: str) -> None:
    """A distribution as an installer leaves it."""
    (site / f"{name}.py").write_text(module)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{name} = {name}:Adapter\n")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory of packages, for PYTHONPATH."""
    site = tmp_path / "site"
    site.mkdir()
    for name, what in BAD.items():
        install(site, name, ADAPTER.format(name=name, **(FINE | what)))
    install(site, "raises_on_import", "raise RuntimeError('built for another Python')\n")
    install(
        site, "targets_nonsense", ADAPTER.format(name="targets_nonsense", **FINE) + textwrap.indent(NONSENSE, "    ")
    )
    return site


NONSENSE = """
def targets(self):
    return [Target("Not A Name", ("vm.*",))]
"""


def eventbus(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "service", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def config(folder: Path, integrations: dict[str, Any], url: str = "memory://") -> Path:
    settings = {
        "events": {"url": url},
        "integrations": integrations,
        "worker": {"port": 0, "lease_seconds": 1, "max_attempts": 2, "retry_base_seconds": 0.1},
        "log": {"format": "json"},
    }
    path = folder / "eventbus.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


# -- the command line ------------------------------------------------------------------------------------------------


def test_one_that_can_not_be_imported_is_listed_with_its_reason(site: Path) -> None:
    done = eventbus(site, "integrations", "list", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["adapter"]: row for row in json.loads(done.stdout)}
    assert rows["raises_on_import"]["state"] == "broken: RuntimeError: built for another Python"
    assert rows["raises_on_import"]["from"] == "raises-on-import 1.0"
    assert rows["raises_at_start"]["state"] == "not configured"
    assert rows["log"]["state"] == "on"


def test_a_config_that_names_it_is_refused_on_its_line(site: Path, tmp_path: Path) -> None:
    path = config(tmp_path, {"log": {}, "raises_on_import": {}})
    line = 1 + path.read_text().splitlines().index("  raises_on_import: {}")
    done = eventbus(site, "config", "check", str(path))
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {path}:{line}: integrations.raises_on_import: the adapter raises_on_import (raises-on-import 1.0) "
        "can't be used: RuntimeError: built for another Python\n"
    )


def test_health_names_the_failing_ones_and_exits_1(site: Path, tmp_path: Path) -> None:
    names = ["raises_at_start", "hangs_at_start", "targets_nonsense", "hangs_on_health", "exits_on_health"]
    path = config(tmp_path, {"log": {}} | {name: {} for name in names})
    done = eventbus(site, "integrations", "health", "--json", "--config", str(path))
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert {name: one["state"] for name, one in found.items()} == {
        "event_bus": "healthy",
        "log": "healthy",
        **dict.fromkeys(names, "unhealthy"),
    }
    assert found["raises_at_start"]["detail"] == "a fault in the adapter: RuntimeError: no licence"
    assert found["hangs_at_start"]["detail"] == "initialize did not end within 5 s"
    assert "'targets_nonsense.Not A Name' is not a topic" in found["targets_nonsense"]["detail"]
    assert found["hangs_on_health"]["detail"] == "no answer within 5 s"
    assert "tried to end the program with SystemExit(4)" in found["exits_on_health"]["detail"]


# -- the worker ------------------------------------------------------------------------------------------------------


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS:g} s"
        await asyncio.sleep(0.01)


@pytest.fixture
async def receiver() -> AsyncIterator[FakeReceiver]:
    async with FakeReceiver() as receiver:
        yield receiver


async def test_a_worker_with_all_of_them_goes_on_delivering_to_the_webhook(
    site: Path, tmp_path: Path, receiver: FakeReceiver
) -> None:
    address = f"embedded://{tmp_path / 'redis'}"
    sections = {name: {"timeout": 0.3} for name in [*BAD, "targets_nonsense"]}
    path = config(tmp_path, sections | {"webhook": receiver.settings()}, address)
    command = [sys.executable, "-m", "service", "worker", "--config", str(path)]
    worker = Child("worker", command, {"PYTHONPATH": str(site)}, tmp_path)
    async with EventBus.open(address) as bus:
        await worker.start()
        try:
            await worker.wait_for("working", PATIENCE_SECONDS)
            for number in range(3):
                await bus.publish(VmCreated(vm_id=str(number)))
            await until(lambda: len(of_vms(receiver)) == 3, "three webhooks")
            for name in ("raises_on_events", "hangs_on_events", "exits_on_events"):
                await is_so(bus, name, lambda backlog: backlog.dead == 3)
            for name in ("raises_at_start", "hangs_at_start"):
                await is_so(bus, name, lambda backlog: (backlog.unread or 0) >= 3)
            await is_so(bus, "hangs_on_health", lambda backlog: backlog.is_empty)
            declared = await bus.groups()
            assert not [group for group in declared if "nonsense" in group], "a group nobody serves holds the log back"
            async with httpx.AsyncClient(trust_env=False) as http:
                ready = await http.get((await worker.wait_for("answering", 1))["url"] + "/readyz")
            assert ready.status_code == 200, "one that is not ready makes the worker no less ready for the others"
            assert sorted(ready.json()["not_ready"]) == ["hangs_at_start", "raises_at_start", "targets_nonsense"]
        finally:
            await worker.stop()
        assert await worker.wait() == 0
    errors = {line["group"]: line["error"] for line in worker.lines if line["event"] == "dead letter"}
    assert errors == {
        "raises_on_events": "a fault in the adapter: RuntimeError: no idea; see eventbus unknown",
        "hangs_on_events": "no answer in time; see eventbus unknown",
        "exits_on_events": "a fault in the adapter: RuntimeError: it tried to end the program with SystemExit(3); "
        "see eventbus unknown",
    }
    assert "Traceback" not in (tmp_path / "worker.log").read_text()


class NoSettings(BaseModel):
    """It has none."""


class Late(Integration[NoSettings]):
    """Gets ready when `is_up` says so."""

    manifest = Manifest(name="late", title="Late", config=NoSettings, handles=("vm.*",))
    is_up = False

    async def initialize(self, context: Context[NoSettings]) -> None:
        await super().initialize(context)
        if not self.is_up:
            raise NotReady("its licence server is away")
        self.handled: list[Event[Any]] = []

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        self.handled.append(event)
        return DeliveryResult.delivered()

    async def health(self) -> Health:
        return Health("healthy")


async def test_events_of_one_that_is_not_ready_wait_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.registry, "RETRY_SECONDS", 0.05)  # 15 otherwise
    adapter = Late()
    async with EventBus.open("memory://") as bus:
        accounts = Registry(bus, Metrics(), serve=True)
        accounts.register(Account("late", adapter, NoSettings()))
        await accounts.start()
        running = asyncio.create_task(bus.run())
        assert (await accounts.health())["late"] == Health("unhealthy", "NotReady: its licence server is away")
        receipt = await bus.publish(VmCreated(vm_id="1"))
        adapter.is_up = True
        await until(lambda: getattr(adapter, "handled", []), "the event that waited")
        assert [event.id for event in adapter.handled] == [receipt.event_id]
        assert (await accounts.health())["late"] == Health("healthy")
        bus.stop()
        await running
        await accounts.stop()


def of_vms(receiver: FakeReceiver) -> list[str]:
    return [effect for effect in receiver.effects() if effect.endswith(" vm.created")]


async def is_so(bus: EventBus, group: str, condition: Callable[[Backlog], bool]) -> None:
    """Wait until the group's backlog is as it should be."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (backlog := await bus.backlog(group)) is None or not condition(backlog):  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # the state is in Redis
