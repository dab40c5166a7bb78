"""A call in doubt, decided in Slack: the list, the buttons, who may press them, and what the others are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from eventbus import Event, EventBus
from integrations.base import Delivery, DeliveryResult, Health, Integration, Manifest
from integrations.errors import OutcomeUnknown
from integrations.slack import Slack
from integrations.slack.fake import Answered, FakeSlack, Posted, Signed
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry
from registry.settings import Settings
from service.gateway.app import build_app
from service.http import serving
from service.wiring import Runtime
from tests.conftest import wait_until

PATIENCE_SECONDS = 20.0


class Nothing(BaseModel):
    """Nothing to set."""


class Hook(Integration[Nothing]):
    """A service that can't be asked what it has done; the first answer about each machine never comes."""

    manifest = Manifest("hook", "Hook", Nothing, handles=("vm.*",))

    def __init__(self) -> None:
        self.effects: list[str] = []

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        self.effects.append(event.data.vm_id)
        if self.effects.count(event.data.vm_id) == 1:
            raise OutcomeUnknown("<!channel> the connection broke")
        return DeliveryResult.delivered()

    async def health(self) -> Health:
        return Health("healthy")


@dataclass
class Stage:
    """A worker and a gateway in this process."""

    slack: FakeSlack
    hook: Hook
    bus: EventBus
    http: httpx.AsyncClient

    async def fail(self, *machines: str) -> list[str]:
        """Calls that are cut off; the ids of their events, once they are parked."""
        ids = [(await self.bus.publish("vm.created", {"vm_id": vm_id})).event_id for vm_id in machines]

        async def parked() -> bool:
            return len([letter async for letter in self.bus.dead.find()]) == len(machines)

        await wait_until(parked, "they are parked", PATIENCE_SECONDS)
        return ids

    async def send(self, signed: Signed) -> str:
        """Slack's request to the gateway; what it answers at once."""
        answer = await self.http.post("/api/v1/webhooks/slack", headers=signed.headers, content=signed.body)
        assert answer.status_code == 200
        return answer.text

    async def answered(self, count: int) -> Answered:
        """The answer of the worker that makes it so many."""
        await wait_until(lambda: len(self.slack.responses) >= count, f"answer {count}", PATIENCE_SECONDS)
        assert len(self.slack.responses) == count
        return self.slack.responses[-1]

    def press(self, answer: Answered, how: str, number: int, *, user: str) -> Signed:
        """This button of the doubt of this number in the list."""
        rows = [block for block in answer.blocks if block["type"] == "actions"]
        shown = Posted("C0GENERAL", answer.text, [rows[number]], {}, "1.1")
        return self.slack.press(shown, how, user=user)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with FakeSlack() as slack, EventBus.open("memory://", sweep_every=timedelta(seconds=0.1)) as bus:
        metrics, hook = Metrics(), Hook()
        registry = Registry(bus, metrics, serve=True)
        settings = slack.settings() | {"operators": ["U0ADA", "U0BOB"]}
        registry.register(Account("slack", Slack(), Slack.manifest.config.model_validate(settings)))
        registry.register(Account("hook", hook, Nothing()))
        await registry.start()
        app = build_app(Runtime(Settings(), bus, registry, metrics))
        async with (
            serving(app, "127.0.0.1", 0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
        ):
            working = asyncio.create_task(bus.run())
            yield Stage(slack, hook, bus, http)
            bus.stop()
            await working
        await registry.stop()


async def test_an_operator_says_what_became_of_each_call_and_the_list_shows_who(stage: Stage) -> None:
    first, second = await stage.fail("1", "2")
    assert "the answer follows" in await stage.send(stage.slack.slash_command("/eventbus-unknown"))
    listed = await stage.answered(1)
    assert listed.text == "2 calls are in doubt"
    assert listed.response_type == "ephemeral"
    assert first in str(listed.blocks)
    assert "&lt;!channel&gt; the connection broke" in str(listed.blocks)

    await stage.send(stage.press(listed, "done", 0, user="U0ADA"))
    changed = await stage.answered(2)
    assert changed.replaces
    assert changed.text == "1 call is in doubt"
    assert "hook: it was done, said by <@U0ADA> at " in str(changed.blocks)
    assert first not in str(changed.blocks)

    await stage.send(stage.press(listed, "resend", 1, user="U0BOB"))
    assert "hook: sent again, as asked by <@U0BOB> at " in str((await stage.answered(3)).blocks)
    await wait_until(lambda: stage.hook.effects.count("2") == 2, "it is sent again", PATIENCE_SECONDS)
    assert stage.hook.effects.count("1") == 1
    said = [line["detail"] for line in await stage.bus.trail.read(second) if line["outcome"] == "resolved as resend"]
    assert said == ["said U0BOB"]


async def test_who_presses_second_learns_who_was_first(stage: Stage) -> None:
    await stage.fail("1")
    await stage.send(stage.slack.slash_command("/eventbus-unknown"))
    listed = await stage.answered(1)
    await stage.send(stage.press(listed, "done", 0, user="U0ADA"))
    await stage.answered(2)
    await stage.send(stage.press(listed, "resend", 0, user="U0BOB"))
    told = await stage.answered(3)
    assert told.text == "No call is in doubt"
    assert "hook: it was done, said by <@U0ADA> at " in str(told.blocks)
    assert stage.hook.effects == ["1"]


async def test_nobody_but_an_operator_sees_or_decides_anything(stage: Stage) -> None:
    (event_id,) = await stage.fail("1")
    refused = await stage.send(stage.slack.slash_command("/eventbus-unknown", user="U0EVE"))
    assert "You are not among those who may decide this" in refused
    assert event_id not in refused
    await stage.send(stage.slack.slash_command("/eventbus-unknown"))
    listed = await stage.answered(1)
    await stage.send(stage.press(listed, "resend", 0, user="U0EVE"))
    told = await stage.answered(2)
    assert (told.text, told.replaces) == ("You are not among those who may decide this.", False)
    assert [letter.event_id async for letter in stage.bus.dead.find()] == [event_id]
    assert stage.hook.effects == ["1"]


async def test_a_click_that_slack_did_not_sign_decides_nothing(stage: Stage) -> None:
    await stage.fail("1")
    await stage.send(stage.slack.slash_command("/eventbus-unknown"))
    signed = stage.press(await stage.answered(1), "resend", 0, user="U0ADA")
    forged = signed.headers | {"X-Slack-Signature": "v0=" + "0" * 64}
    answer = await stage.http.post("/api/v1/webhooks/slack", headers=forged, content=signed.body)
    assert answer.status_code == 401
    assert len([letter async for letter in stage.bus.dead.find()]) == 1
