"""What every integration is asked alike: each check sees well and ill, on a bus in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from eventbus import Event, EventBus, Options, Refused
from eventbus.gate import Breaker
from integrations.base import Budget, Delivery, DeliveryResult, Finding, Health, Integration, Manifest
from integrations.errors import Misconfigured
from integrations.log.config import LogConfig
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry
from registry.settings import Settings
from service.examination import examine
from service.wiring import Runtime

NO_TIME = timedelta()


class Plain(Integration[LogConfig]):
    """An adapter without a doctor of its own."""

    manifest = Manifest(
        name="plain",
        title="Plain",
        config=LogConfig,
        handles=("vm.*",),
        budgets=(Budget("calls", 60, timedelta(minutes=1)),),
    )
    says = Health("healthy", "well")
    fault: Exception | None = None

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        return DeliveryResult.delivered()

    async def health(self) -> Health:
        if self.fault is not None:
            raise self.fault
        return self.says


class Wrong(Plain):
    """Settings that can't work."""

    async def initialize(self, context: Any) -> None:
        raise Misconfigured("the key is none")


class Faulty(Plain):
    """Its doctor has a fault."""

    async def examine(self) -> list[Finding]:
        raise ZeroDivisionError


class Close(Plain):
    """Its doctor says of the service what its health says, as with an Agent of Datadog's, which answers nothing."""

    async def examine(self) -> list[Finding]:
        return [Finding("Agent", "warn", self.says.detail, "look there"), Finding("clock", "ok", "right")]


@pytest.fixture
async def bus() -> AsyncIterator[EventBus]:
    async with EventBus.open("memory://") as bus:
        yield bus


async def found(bus: EventBus, adapter: Plain, **account: Any) -> dict[str, Finding]:
    registry = Registry(bus, Metrics(), serve=False)
    registry.register(Account("plain", adapter, LogConfig(), **account))
    await registry.start()
    try:
        return {one.about: one for one in await examine(Runtime(Settings(), bus, registry, Metrics()), "plain")}
    finally:
        await registry.stop()


@pytest.fixture(autouse=True)
def nobody_serves_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Settings()` would look for workers on an embedded Redis."""

    async def unknown(address: str) -> None:
        return None

    monkeypatch.setattr("service.examination.workers", unknown)


async def test_settings_service_budgets_and_the_bus_are_looked_at(bus: EventBus) -> None:
    await bus.declare("plain", ("vm.*",))
    every = await found(bus, Plain())
    assert {about: one.level for about, one in every.items()} == {
        "settings": "ok",
        "budgets": "ok",
        "service": "ok",
        "breaker of plain": "ok",
        "events of plain": "ok",
        "dead letters of plain": "ok",
    }
    assert every["budgets"].what == "calls: 60 in 60 s"


async def test_settings_that_can_not_work_are_found(bus: EventBus) -> None:
    every = await found(bus, Wrong())
    assert (every["settings"].level, every["settings"].what) == ("fail", "Misconfigured: the key is none")
    assert "service" not in every


async def test_a_dry_run_and_calls_that_are_not_spaced_are_warnings(bus: EventBus) -> None:
    every = await found(bus, Plain(), dry_run=True, paced=False)
    assert (every["dry_run"].level, every["budgets"].level) == ("warn", "warn")


@pytest.mark.parametrize(("health", "level"), [(Health("degraded", "slow"), "warn"), (Health("unhealthy"), "fail")])
async def test_a_service_that_is_not_well_is_found(bus: EventBus, health: Health, level: str) -> None:
    adapter = Plain()
    adapter.says = health
    assert (await found(bus, adapter))["service"].level == level


@pytest.mark.parametrize("health", [Health("healthy", "nothing against it"), Health("unhealthy", "nobody listens")])
async def test_what_the_adapter_itself_says_of_its_service_is_said_once(bus: EventBus, health: Health) -> None:
    adapter = Close()
    adapter.says = health
    every = await found(bus, adapter)
    assert [about for about, one in every.items() if one.what == health.detail] == ["Agent"]
    assert every["clock"].level == "ok"


async def test_an_adapter_with_a_fault_of_its_own_is_contained(bus: EventBus) -> None:
    adapter = Faulty()
    adapter.fault = SystemExit(3)  # type: ignore[assignment]  # what no adapter should raise
    every = await found(bus, adapter)
    assert (every["service"].level, every["examination"].level) == ("fail", "fail")
    assert "ZeroDivisionError" in every["examination"].what


async def test_an_open_breaker_and_a_wait_that_the_service_asked_for_are_found(bus: EventBus) -> None:
    hour, breaker = timedelta(hours=1), Breaker()
    turn = await bus.gate.enter("plain", (), probe=hour)
    await bus.gate.report("plain", turn, "none", floor=hour, breaker=breaker)
    assert (await found(bus, Plain()))["breaker of plain"].level == "warn"


async def test_a_breaker_that_is_open_fails_and_looking_takes_no_probe(bus: EventBus) -> None:
    turn = await bus.gate.enter("plain", (), probe=timedelta(hours=1))
    await bus.gate.report("plain", turn, "broken", breaker=Breaker(first=timedelta(hours=1)))
    assert (await found(bus, Plain()))["breaker of plain"].level == "fail"


async def test_looking_at_a_breaker_that_wants_a_probe_leaves_it_the_probe(bus: EventBus) -> None:
    turn = await bus.gate.enter("plain", (), probe=timedelta(hours=1))
    await bus.gate.report("plain", turn, "broken", breaker=Breaker(first=NO_TIME))
    for _ in range(3):
        assert (await found(bus, Plain()))[
            "breaker of plain"
        ].what == "left alone so far: the next call tries whether it works again"
    assert (await bus.gate.enter("plain", (), probe=timedelta(hours=1))).kind == "probe"


async def test_what_nobody_ever_served_is_found(bus: EventBus) -> None:
    assert (await found(bus, Plain()))["events of plain"].level == "warn"


async def test_without_a_worker_events_wait(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(address: str) -> dict[str, int]:
        return {"plain": 0}

    monkeypatch.setattr("service.examination.workers", nobody)
    await bus.declare("plain", ("vm.*",))
    await bus.publish("vm.created", {"vm_id": "1"})
    finding = (await found(bus, Plain()))["events of plain"]
    assert (finding.level, finding.what.startswith("no worker serves it; 1 not finished")) == ("fail", True)


async def test_events_that_wait_for_long_are_found(bus: EventBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.examination.BEHIND", timedelta(seconds=-1))
    await bus.declare("plain", ("vm.*",))
    await bus.publish("vm.created", {"vm_id": "1"})
    assert (await found(bus, Plain()))["events of plain"].level == "warn"


async def test_dead_letters_and_calls_in_doubt_are_counted_apart(bus: EventBus) -> None:
    async def refuse(event: Event[Any]) -> None:
        raise Refused("no", kind="unknown" if event.data.vm_id == "1" else "rejected")

    await bus.subscribe("vm.*", refuse, group="plain", options=Options())
    for vm_id in "123":
        await bus.publish("vm.created", {"vm_id": vm_id})
    await bus.run_until_idle()
    every = await found(bus, Plain())
    assert (every["doubts of plain"].what[:7], every["doubts of plain"].fix) == ("1 calls", "eventbus unknown list")
    assert every["dead letters of plain"].what == "2 deliveries were given up"
