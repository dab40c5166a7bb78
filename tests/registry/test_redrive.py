"""A dead letter again, and the ledger: what is done stays done, what is not done is done now, edited or not.

The ledger knows an action of an event by the event's id, never by its content: so an edit is no conflict there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from eventbus import Attempt, DeadLetter, Event, EventBus, Options, Refused
from eventbus.ledger import Permission
from eventbus.topics import VmCreated
from integrations.base import Delivery, DeliveryResult, Health, Integration, Manifest, What
from integrations.errors import OutcomeUnknown, Rejected
from registry.act import Act
from registry.dispatch import Dispatcher
from registry.metrics import Metrics

MINUTE = timedelta(minutes=1)
ONCE = Options(max_attempts=1)


class NoSettings(BaseModel):
    """Nothing to set."""


class Service(Integration[NoSettings]):
    """A service that keeps the names it was told, each under the key of its delivery, and can be asked for a key."""

    manifest = Manifest(name="service", title="A service", config=NoSettings, handles=("vm.*",), effects="searchable")

    def __init__(self) -> None:
        self.effects: list[tuple[str, str]] = []
        self.refuses_all = False
        self.loses_answers = False

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        if self.refuses_all:
            raise Rejected("no such region")
        if not self.loses_answers:
            self.effects.append((delivery.key, event.data.vm_name))
            return DeliveryResult.delivered("ref")
        raise OutcomeUnknown("the connection broke")

    async def find(self, what: What, delivery: Delivery) -> DeliveryResult | None:
        return DeliveryResult.delivered("found") if any(known == delivery.key for known, _ in self.effects) else None

    async def health(self) -> Health:
        return Health("healthy")


class Stage:
    """A bus with one group that brings vm.created to a service. `fails_after`: with a fault behind the effect."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.service = Service()
        self.dispatcher = Dispatcher(bus, Metrics())
        self.fails_after = False

    async def handle(self, event: Event[Any], attempt: Attempt) -> None:
        await self.dispatcher.deliver(self.act(event, attempt))
        if self.fails_after:
            raise Refused("a fault behind the effect")

    def act(self, event: Event[Any], attempt: Attempt) -> Act:
        return Act(
            "service", self.service, event, Delivery(f"service:t:{event.id}", "t"), MINUTE, event, attempt=attempt
        )

    async def dead_letter(self) -> DeadLetter:
        await self.bus.subscribe("vm.*", self.handle, group="g", options=ONCE)
        await self.bus.publish(VmCreated(vm_id="1", vm_name="wrong"))
        await self.bus.run_until_idle()
        (letter,) = [letter async for letter in self.bus.dead.find()]
        return letter

    async def redrive(self, letter: DeadLetter, name: str | None) -> list[str]:
        """Redrive it, with another name if one is given; all names that the service was told."""
        self.service.refuses_all = self.service.loses_answers = self.fails_after = False
        await self.bus.dead.redrive(letter, None if name is None else {"vm_id": "1", "vm_name": name})
        await self.bus.run_until_idle()
        assert [letter async for letter in self.bus.dead.find()] == [], "an edit is no conflict"
        return [told for _, told in self.service.effects]


@pytest.fixture
async def stage(bus: EventBus) -> Stage:
    return Stage(bus)


@pytest.mark.parametrize(("edit", "told"), [(None, ["wrong"]), ("right", ["right"])])
async def test_what_was_refused_is_done_now_with_the_content_of_now(
    stage: Stage, edit: str | None, told: list[str]
) -> None:
    stage.service.refuses_all = True
    assert await stage.redrive(await stage.dead_letter(), edit) == told


@pytest.mark.parametrize("edit", [None, "right"])
async def test_what_is_done_is_not_done_again_not_even_edited(stage: Stage, edit: str | None) -> None:
    stage.fails_after = True
    letter = await stage.dead_letter()
    assert letter.error == "a fault behind the effect"
    assert await stage.redrive(letter, edit) == ["wrong"]


@pytest.mark.parametrize(("edit", "told"), [(None, ["wrong"]), ("right", ["right"])])
async def test_what_is_unknown_and_not_found_at_the_service_is_done_with_the_content_of_now(
    stage: Stage, edit: str | None, told: list[str]
) -> None:
    stage.service.loses_answers = True
    assert await stage.redrive(await stage.dead_letter(), edit) == told


@pytest.mark.parametrize("edit", [None, "right"])
async def test_what_is_unknown_and_found_at_the_service_stays_as_it_was_made(stage: Stage, edit: str | None) -> None:
    stage.service.loses_answers = True
    letter = await stage.dead_letter()
    stage.service.effects.append((f"service:t:{letter.event_id}", "wrong"))  # it had arrived, its answer had not
    assert await stage.redrive(letter, edit) == ["wrong"]


async def test_a_handler_that_puts_its_content_before_the_ledger_is_told_of_the_conflict(bus: EventBus) -> None:
    """One key with two contents: there the ledger can't know whether the edit was done, and says so."""
    permissions: list[Permission] = []

    async def handle(event: Event[Any], attempt: Attempt) -> None:
        entry = await bus.ledger.intend(event.id, event.model_dump_json().encode(), attempt)
        permissions.append(entry.permission)
        if entry.permission is Permission.GO:
            await bus.ledger.done(entry, {})
            raise Refused("a fault behind the effect")

    await bus.subscribe("vm.*", handle, group="g")
    await bus.publish(VmCreated(vm_id="1", vm_name="wrong"))
    await bus.run_until_idle()
    (letter,) = [letter async for letter in bus.dead.find()]
    await bus.dead.redrive(letter, {"vm_id": "1", "vm_name": "right"})
    await bus.run_until_idle()
    assert permissions == [Permission.GO, Permission.CONFLICT]
