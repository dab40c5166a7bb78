"""What a person says of a call in doubt: written into the ledger for every route, once, with who said it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel

from eventbus import Event, EventBus
from integrations.base import Delivery, DeliveryResult, Health, Integration, Manifest, Notification
from integrations.errors import OutcomeUnknown, Rejected
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry
from registry.routes.model import Route, Routing
from registry.unknown import Doubts


class Nothing(BaseModel):
    """Nothing to set."""


class Post(Integration[Nothing]):
    """A service that can't be asked; the first `lost` answers never come. `sent`: the keys of its effects."""

    manifest = Manifest("post", "Post", Nothing, handles=("vm.*",), notifications=("message",))

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.lost = 0

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        if event.topic == "vm.failed":
            raise Rejected("no such street")
        self.sent.append(delivery.key)
        if len(self.sent) <= self.lost:
            raise OutcomeUnknown("the connection broke")
        return DeliveryResult.delivered()

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        self.sent.append(delivery.key)
        if len(self.sent) <= self.lost:
            raise OutcomeUnknown("the connection broke")
        return DeliveryResult.delivered()

    async def health(self) -> Health:
        return Health("healthy")


ROUTING = Routing(
    routes={name: Route.model_validate({"topics": ["task.*"], "to": "post", "text": name}) for name in ("a", "b")}
)


@dataclass
class Stage:
    """A worker's parts, on a bus in memory."""

    bus: EventBus
    registry: Registry
    post: Post = field(default_factory=Post)

    @property
    def doubts(self) -> Doubts:
        return Doubts(self.bus, ROUTING.routes)

    async def publish(self, topic: str, **data: Any) -> str:
        event_id = (await self.bus.publish(topic, data)).event_id
        await self.bus.run_until_idle()
        return event_id


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with EventBus.open("memory://") as bus:
        made = Stage(bus, Registry(bus, Metrics(), serve=True, routing=ROUTING))
        made.registry.register(Account("post", made.post, Nothing()))
        await made.registry.start()
        yield made
        await made.registry.stop()


async def test_the_newest_doubts_are_told_with_their_number_and_nothing_else_is(stage: Stage) -> None:
    stage.post.lost = 3
    ids = [await stage.publish("vm.created", vm_id=str(n)) for n in range(3)]
    await stage.publish("vm.failed", vm_id="9", error="x")
    shown, count = await stage.doubts.newest(2)
    assert ([doubt.event_id for doubt in shown], count) == (ids[1:], 3)
    assert (shown[0].group, shown[0].topic) == ("post", "vm.created")
    assert shown[0].error.startswith("OutcomeUnknown: the connection broke")


@pytest.mark.parametrize(("how", "effects"), [("done", 2), ("resend", 4)])
async def test_a_doubt_about_calls_of_routes_ends_for_each_of_them(stage: Stage, how: Any, effects: int) -> None:
    stage.post.lost = 2
    event_id = await stage.publish("task.started", task_id="1", name="nightly")
    ((doubt,), _) = await stage.doubts.newest(9)
    said = await stage.doubts.resolve(doubt.id, event_id, how, "ada")
    assert said is not None
    assert (said.how, said.by) == (how, "ada")
    await stage.bus.run_until_idle()
    assert await stage.doubts.newest(9) == ([], 0)
    assert len(stage.post.sent) == effects
    (line,) = [line for line in await stage.bus.trail.read(event_id) if line["outcome"] == f"resolved as {how}"]
    assert (line["by"], line["detail"]) == ("ada", "said ada")


async def test_who_is_slower_is_told_what_holds_and_changes_nothing(stage: Stage) -> None:
    stage.post.lost = 1
    event_id = await stage.publish("vm.created", vm_id="1")
    ((doubt,), _) = await stage.doubts.newest(9)
    first = await stage.doubts.resolve(doubt.id, event_id, "done", "ada")
    again = await stage.doubts.resolve(doubt.id, event_id, "resend", "bob")
    assert first is not None
    assert again is not None
    assert (again.how, again.by) == ("done", "ada")
    await stage.bus.run_until_idle()
    assert len(stage.post.sent) == 1


async def test_what_never_was_in_doubt_is_not_resolved(stage: Stage) -> None:
    event_id = await stage.publish("vm.failed", vm_id="9", error="x")
    (letter,) = [letter async for letter in stage.bus.dead.find()]
    for named in (letter.id, "post/1-1", "nonsense", "other/1-1"):
        assert await stage.doubts.resolve(named, event_id, "resend", "ada") is None
    assert [one.id async for one in stage.bus.dead.find()] == [letter.id]


async def test_nobody_is_told_that_a_doubt_ended_whose_route_has_another_name_now(stage: Stage) -> None:
    """Its row is not found; redriven as done it would be done again."""
    stage.post.lost = 2
    event_id = await stage.publish("task.started", task_id="1", name="nightly")
    ((doubt,), _) = await stage.doubts.newest(9)
    renamed = Doubts(stage.bus, {"c": ROUTING.routes["a"]})
    assert await renamed.resolve(doubt.id, event_id, "done", "ada") is None
    assert await stage.doubts.newest(9) == ([doubt], 1), "the letter stays"
    await stage.bus.run_until_idle()
    assert len(stage.post.sent) == 2
