"""People decide in Slack: what they press comes through the gateway, and a worker does what follows from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest

from eventbus import Event, EventBus
from integrations.base import Artifact
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack, Signed
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry
from registry.settings import Settings
from service.gateway.app import build_app
from service.http import serving
from service.wiring import Runtime
from tests.conftest import wait_until

PATIENCE_SECONDS = 20.0


@dataclass
class Stage:
    """A worker and a gateway in this process. `heard`: the events about approvals, in order."""

    slack: FakeSlack
    bus: EventBus
    registry: Registry
    http: httpx.AsyncClient
    heard: list[Event[Any]] = field(default_factory=list)

    async def ask(self, **content: Any) -> None:
        what = Artifact(type="approval", content={"title": "Deploy?", "subject": "deploy:7"} | content)
        await self.registry.create_artifact("slack", what, "deploy-7")

    async def send(self, signed: Signed) -> int:
        """Slack's request to the gateway; the status of the answer."""
        answer = await self.http.post("/api/v1/webhooks/slack", headers=signed.headers, content=signed.body)
        return answer.status_code

    def button(self, action: str, user: str) -> Signed:
        return self.slack.press(self.slack.messages[0], action, user=user)

    def told(self, topic: str) -> int:
        return sum(event.topic == topic for event in self.heard)

    async def until(self, condition: Callable[[], object | Awaitable[object]], what: str) -> None:
        await wait_until(condition, what, PATIENCE_SECONDS)

    async def until_shown(self, *texts: str) -> None:
        """Until the message says all of this."""
        await self.until(lambda: all(text in str(self.slack.messages[0].blocks) for text in texts), f"it says {texts}")

    async def until_done(self) -> None:
        """Until the worker has nothing left to do that is due."""

        async def is_done() -> bool:
            found = [await self.bus.backlog(group) for group in ("slack", "witness")]
            return all(backlog is not None and backlog.is_empty for backlog in found)

        await self.until(is_done, "the worker is done")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with FakeSlack() as slack, EventBus.open("memory://", sweep_every=timedelta(seconds=0.1)) as bus:
        metrics = Metrics()
        registry = Registry(bus, metrics, serve=True)
        registry.register(Account("slack", Slack(), Slack.manifest.config.model_validate(slack.settings())))
        await registry.start()
        app = build_app(Runtime(Settings(), bus, registry, metrics))
        async with (
            serving(app, "127.0.0.1", 0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
        ):
            made = Stage(slack, bus, registry, http)
            await bus.subscribe("approval.>", made.heard.append, group="witness")
            working = asyncio.create_task(bus.run())
            yield made
            bus.stop()
            await working
        await registry.stop()


async def test_an_approval_that_too_few_gave_expires_at_its_time(stage: Stage) -> None:
    await stage.ask(quorum=2, expires_in=3)
    late = stage.button("approve", "U0BOB")
    assert await stage.send(stage.button("approve", "U0ADA")) == 200
    await stage.until_shown("Approved by <@U0ADA> at ", "'actions'")
    await stage.until(lambda: stage.told("approval.expired"), "it expires")
    await stage.until_shown("Expired: Deploy?", "Approved by <@U0ADA> at ", "Nobody decided until ")
    (expired,) = [event for event in stage.heard if event.topic == "approval.expired"]
    assert expired.data.subject == "deploy:7"
    assert [vote.user_id for vote in expired.data.votes] == ["U0ADA"]

    assert await stage.send(late) == 200
    await stage.until(lambda: stage.slack.responses, "the late one is answered")
    assert stage.slack.responses[-1].text == "The time for this is over; nothing was changed."
    await stage.until_done()
    assert (stage.told("approval.expired"), stage.told("approval.granted")) == (1, 0)
    assert "button" not in str(stage.slack.messages[0].blocks)


async def test_an_approval_that_enough_gave_is_granted_once_and_never_expires(stage: Stage) -> None:
    await stage.ask(quorum=2, expires_in=4)
    second, late = stage.button("approve", "U0ADA"), stage.button("reject", "U0EVE")
    assert await stage.send(stage.button("approve", "U0ADA")) == 200
    assert await stage.send(second) == 200
    await stage.until(lambda: stage.slack.responses, "the second click is answered")
    assert stage.slack.responses[-1].text.startswith("You voted already: approved at ")
    assert stage.told("approval.granted") == 0
    assert await stage.send(stage.button("approve", "U0BOB")) == 200
    await stage.until_shown("Granted: Deploy?", "Approved by <@U0ADA> at ", "Approved by <@U0BOB> at ")
    assert await stage.send(late) == 200
    await stage.until(lambda: len(stage.slack.responses) == 2, "the late one is answered")
    assert stage.slack.responses[-1].text == "This was approved already; nothing was changed."

    await stage.until(lambda: stage.told("approval.due"), "its time is over")
    await stage.until_done()
    ends = [event.topic for event in stage.heard if event.topic not in ("approval.voted", "approval.due")]
    assert ends == ["approval.granted"]
    assert stage.told("approval.voted") == 2
    assert "Granted: Deploy?" in str(stage.slack.messages[0].blocks)
    assert len(stage.slack.messages) == 1


async def test_one_person_who_rejects_ends_it_for_all(stage: Stage) -> None:
    await stage.ask(quorum=2, text="<!channel> now")
    assert await stage.send(stage.button("approve", "U0ADA")) == 200
    assert await stage.send(stage.button("reject", "U0BOB")) == 200
    await stage.until_shown("Rejected: Deploy?", "Rejected by <@U0BOB> at ", "&lt;!channel&gt; now")
    await stage.until_done()
    assert [event.topic for event in stage.heard] == ["approval.voted", "approval.voted", "approval.rejected"]
