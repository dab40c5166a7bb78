"""Drills on the stand-ins: the whole way and back, each step that can fail, and nothing left behind."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventbus import Unavailable
from eventbus.gate import Breaker
from integrations.alertmanager.fake import FakeAlertmanager
from integrations.errors import Rejected
from integrations.github.fake import FakeGitHub
from integrations.pagerduty.fake import FakePagerDuty
from integrations.slack.fake import FakeSlack
from integrations.testing.fake import FakeService
from integrations.webhook.fake import FakeReceiver
from registry.act import Act
from registry.discovery import discover
from registry.settings import Settings, load
from service.drill import Drill, Step
from service.wiring import Runtime, open_runtime
from tests.conftest import wait_until

Open = Callable[..., AbstractAsyncContextManager[Runtime]]
STEPS = ["accepted", "taken", "sent", "noted", "seen", "taken back"]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """A process with one integration, by its settings."""

    @asynccontextmanager
    async def opened(name: str, settings: dict[str, Any]) -> AsyncIterator[Runtime]:
        file = tmp_path / "eventbus.yaml"
        file.write_text(
            yaml.safe_dump({"events": {"url": f"memory://{tmp_path.name}"}, "integrations": {name: settings}})
        )
        async with open_runtime(load(file, discover().adapters, {}), serve=False) as runtime:
            await runtime.registry.start()
            yield runtime

    return opened


async def walked(runtime: Runtime, name: str, target: str = "", *, here: bool = True) -> dict[str, Step]:
    drill = Drill(runtime, runtime.registry.get(name), target, here=here)
    return {step.name: step async for step in drill.steps()}


def failed(steps: dict[str, Step]) -> list[str]:
    return [step.name for step in steps.values() if not step.is_done]


async def test_a_message_is_posted_to_slack_seen_and_deleted(opened: Open) -> None:
    async with FakeSlack() as slack, opened("slack", slack.settings()) as runtime:
        steps = await walked(runtime, "slack", "#vms")
        assert (list(steps), failed(steps)) == (STEPS, [])
        assert [line.split(": ")[0] for line in slack.effects()] == ["C0VMS", "C0VMS"]
        assert "[drill]" in slack.effects()[0]
        assert "deleted" in slack.effects()[1]
        assert slack.messages == []


async def test_a_comment_is_made_at_github_seen_and_deleted(opened: Open) -> None:
    async with FakeGitHub() as github, opened("github", github.settings()) as runtime:
        steps = await walked(runtime, "github", "acme/api#7")
        assert (list(steps), failed(steps)) == (STEPS, [])
        (comment,) = github.effects()
        assert r"\[drill\]" in comment, "which GitHub shows as [drill]"
        assert github.comments == []
        assert "https://github.com/acme/api/pull/7#issuecomment-" in steps["sent"].said


async def test_an_incident_is_triggered_at_pagerduty_seen_and_resolved(opened: Open) -> None:
    async with FakePagerDuty() as pagerduty, opened("pagerduty", pagerduty.settings()) as runtime:
        steps = await walked(runtime, "pagerduty")
        assert (list(steps), failed(steps)) == (STEPS, [])
        (alert,) = pagerduty.alerts
        assert [event["event_action"] for event in alert.log] == ["trigger", "resolve"]
        assert "[drill]" in alert.log[0]["payload"]["summary"]
        assert steps["taken back"].said == "resolved, and gone from the service"


async def test_a_webhook_is_posted_once_and_stays(opened: Open) -> None:
    async with FakeReceiver() as receiver, opened("webhook", receiver.settings()) as runtime:
        steps = await walked(runtime, "webhook")
        assert failed(steps) == []
        assert "[drill]" in repr(receiver.received[0].content)
        assert (len(receiver.received), steps["taken back"].said) == (1, "it stays: nothing can be taken back here")


async def test_nothing_is_left_on_the_bus(opened: Open) -> None:
    async with FakeSlack() as slack, opened("slack", slack.settings()) as runtime:
        await runtime.bus.declare("witness", (">",))
        slack.go_down(503)
        assert failed(await walked(runtime, "slack")) == ["sent", "noted", "seen", "taken back"]
        assert list(await runtime.bus.groups()) == ["witness"]
        assert [letter async for letter in runtime.bus.dead.find()] == []
        books = await runtime.bus.books()
        assert [group.name for group in books.groups] == ["witness"]


async def test_its_attempt_is_in_the_trail_of_its_event(opened: Open) -> None:
    async with FakeSlack() as slack, opened("slack", slack.settings()) as runtime:
        steps = await walked(runtime, "slack")
        lines = await runtime.bus.trail.read(steps["accepted"].said.removeprefix("event "))
        assert [(line["account"], line["outcome"]) for line in lines] == [("slack", "delivered")]


@pytest.mark.parametrize(
    ("fake", "name", "target"),
    [(FakeSlack, "slack", ""), (FakeGitHub, "github", "acme/api#7"), (FakePagerDuty, "pagerduty", "")],
)
async def test_refused_credentials_fail_it_at_sent(
    opened: Open, fake: type[FakeService], name: str, target: str
) -> None:
    async with fake() as service, opened(name, service.settings()) as runtime:
        service.reject_credentials = True
        steps = await walked(runtime, name, target)
        assert (list(steps)[-1], failed(steps)) == ("sent", ["sent"])
        assert "AuthFailed" in steps["sent"].said
        assert service.effects() == []


async def test_an_integration_key_of_nobody_fails_it_at_seen(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.drill.SEEN_SECONDS", 0.1)
    async with FakePagerDuty() as pagerduty:
        settings = pagerduty.settings() | {"routing_key": "f" * 32}
        async with opened("pagerduty", settings) as runtime:
            steps = await walked(runtime, "pagerduty")
            assert failed(steps) == ["seen"]
            assert steps["seen"].said == "not there after 0.1 s"
            assert list(steps) == STEPS, "what may be there is taken back all the same"


async def test_a_message_that_may_not_be_deleted_fails_it_at_taken_back(opened: Open) -> None:
    async with FakeSlack() as slack, opened("slack", slack.settings()) as runtime:
        drill = Drill(runtime, runtime.registry.get("slack"), "", here=True)
        steps = []
        async for step in drill.steps():
            steps.append(step)
            if step.name == "seen":
                slack.refuse("cant_delete_message")
        assert [step.name for step in steps if not step.is_done] == ["taken back"]
        assert "cant_delete_message" in steps[-1].said


async def test_a_dry_run_is_no_drill(opened: Open) -> None:
    async with FakeSlack() as slack, opened("slack", slack.settings() | {"dry_run": True}) as runtime:
        steps = await walked(runtime, "slack")
        assert failed(steps) == ["sent"]
        assert steps["sent"].said.startswith("skipped: dry run")


async def test_what_would_be_sent_is_shown_before_and_what_can_not_be_sent_is_refused(opened: Open) -> None:
    async with FakeGitHub() as github, opened("github", github.settings()) as runtime:
        account = runtime.registry.get("github")
        (preview,) = Drill(runtime, account, "acme/api#7").preview()
        assert preview.doing == "comment on acme/api#7"
        with pytest.raises(Rejected, match="names no issue or pull request"):
            Drill(runtime, account, "").preview()
        assert github.requests == []


async def test_what_was_triggered_is_resolved_though_the_ledger_could_not_be_asked(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(key: str) -> None:
        raise Unavailable("Redis is away for a moment")

    async with FakePagerDuty() as pagerduty, opened("pagerduty", pagerduty.settings()) as runtime:
        monkeypatch.setattr(runtime.bus.ledger, "state", away)
        steps = await walked(runtime, "pagerduty")
        assert failed(steps) == ["noted"]
        (alert,) = pagerduty.alerts
        assert [event["event_action"] for event in alert.log] == ["trigger", "resolve"], "the page is closed"


# -- the answer is lost -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize(
    ("fake", "name", "target", "is_open"),
    [
        (FakeSlack, "slack", "#vms", lambda fake: fake.messages),
        (FakeGitHub, "github", "acme/api#7", lambda fake: fake.comments),
        (FakePagerDuty, "pagerduty", "", lambda fake: fake.open_alerts()),
        (FakeAlertmanager, "alertmanager", "", lambda fake: [one for one in fake.alerts.values() if one.is_firing()]),
    ],
)
async def test_what_was_made_is_taken_back_though_the_answer_was_lost(
    opened: Open, here: bool, fake: Any, name: str, target: str, is_open: Callable[[Any], list[Any]]
) -> None:
    async with fake() as service, opened(name, service.settings()) as runtime, worker(runtime.settings):
        service.swallow("after")
        steps = await walked(runtime, name, target, here=here)
        assert (list(steps), failed(steps)) == (STEPS, ["sent", "noted"]), steps
        assert "OutcomeUnknown" in steps["sent"].said
        assert steps["taken back"].said.endswith(", and gone from the service")
        assert len(service.effects()) >= 1, "it was there"
        assert is_open(service) == []


@pytest.mark.parametrize(
    ("fake", "name", "said"),
    [
        (FakeSlack, "slack", "nothing: it is not there"),
        (FakePagerDuty, "pagerduty", "resolved, and gone from the service"),
    ],
)
async def test_what_never_arrived_is_looked_for_all_the_same(
    opened: Open, fake: Any, name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.drill.SEEN_SECONDS", 0.1)
    async with fake() as service, opened(name, service.settings()) as runtime:
        service.swallow("before")
        steps = await walked(runtime, name)
        assert failed(steps) == ["sent", "noted", "seen"]
        assert steps["taken back"].said == said
        assert service.effects() == []


async def test_what_can_not_be_taken_back_is_named(opened: Open) -> None:
    async with FakeReceiver() as receiver, opened("webhook", receiver.settings()) as runtime:
        receiver.swallow("after")
        steps = await walked(runtime, "webhook")
        assert failed(steps) == ["sent", "noted", "taken back"]
        assert steps["taken back"].said == (
            "nothing can be taken back here; it may still be there: look for '[drill] eventbus'"
        )


async def test_what_a_worker_sent_before_it_ended_is_taken_back(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.drill.TAKEN_SECONDS", 0.5)
    async with FakePagerDuty() as pagerduty, opened("pagerduty", pagerduty.settings() | {"timeout": 1}) as here:
        held = pagerduty.hold()
        steps = {}
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(worker(here.settings))
            async for step in Drill(here, here.registry.get("pagerduty"), "").steps():
                steps[step.name] = step
                if step.name == "taken":
                    await held.committed.wait()
                    await stack.aclose()
                    held.released.set()
        assert failed(steps) == ["sent", "noted"], steps
        assert steps["noted"].said == "the ledger has it as intent, not as done"
        (alert,) = pagerduty.alerts
        assert [event["event_action"] for event in alert.log] == ["trigger", "resolve"]


# -- by a worker ------------------------------------------------------------------------------------------------------

FAKES = [(FakeSlack, "slack", "#vms"), (FakeGitHub, "github", "acme/api#7"), (FakePagerDuty, "pagerduty", "")]
FAKES += [(FakeAlertmanager, "alertmanager", ""), (FakeReceiver, "webhook", "")]


@asynccontextmanager
async def worker(settings: Settings) -> AsyncIterator[Runtime]:
    async with open_runtime(settings, serve=True) as runtime:
        await runtime.registry.start()
        serving = asyncio.create_task(runtime.bus.run(grace=timedelta()))
        try:
            yield runtime
        finally:
            runtime.bus.stop()
            await serving


@pytest.mark.parametrize(("fake", "name", "target"), FAKES)
async def test_a_worker_sends_it_and_it_is_seen_and_taken_back_from_here(
    opened: Open, fake: type[FakeService], name: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fake() as service, opened(name, service.settings()) as here, worker(here.settings) as there:
        called: list[str] = []
        sending = Act.call

        def counted(act: Act) -> Any:
            called.append("the worker" if act.adapter is there.registry.get(name).adapter else "this process")
            return sending(act)

        monkeypatch.setattr(Act, "call", counted)
        steps = await walked(here, name, target, here=False)
        assert (list(steps), failed(steps)) == (STEPS, []), steps
        assert called == ["the worker"]
        assert steps["taken"].said.startswith(f"by a worker, in the group {name}")
        assert [letter async for letter in here.bus.dead.find()] == []
        rows = await here.bus.table(name).items("thread:")
        assert not any("drill" in row for row in rows)


async def test_what_fails_is_told_and_not_tried_again(opened: Open) -> None:
    async with FakeSlack() as slack, opened("slack", slack.settings()) as here, worker(here.settings):
        slack.archived.add(slack.channels["vms"])
        steps = await walked(here, "slack", "#vms", here=False)
        assert (list(steps)[-1], failed(steps)) == ("sent", ["sent"])
        assert "is_archived" in steps["sent"].said
        assert [letter async for letter in here.bus.dead.find()] == []
        backlog = await here.bus.backlog("slack")
        assert backlog is not None
        assert backlog.left == 0


async def test_without_a_worker_it_says_so_and_none_sends_it_later(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeSlack() as slack, opened("slack", slack.settings()) as here:
        async with worker(here.settings):
            pass
        monkeypatch.setattr("service.drill.TAKEN_SECONDS", 0.1)
        steps = await walked(here, "slack", here=False)
        assert failed(steps) == ["taken"]
        assert steps["taken"].said == (
            "no worker took it in the group slack within 0.1 s (it is unread): start one, see eventbus groups list, or "
            "try it without a worker: --here"
        )
        event_id = steps["accepted"].said.removeprefix("event ")
        async with worker(here.settings):
            await wait_until(lambda: here.bus.trail.read(event_id), "a worker has seen it")
        (line,) = await here.bus.trail.read(event_id)
        assert line["error"] == "too late, by the clock of this worker"
        assert slack.effects() == []


async def test_a_group_that_is_left_alone_is_told_as_such_though_a_worker_serves_it(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.drill.TAKEN_SECONDS", 0.1)
    async with FakeSlack() as slack, opened("slack", slack.settings()) as here, worker(here.settings):
        turn = await here.bus.gate.enter("slack", (), probe=timedelta(seconds=1))
        await here.bus.gate.report("slack", turn, "broken", breaker=Breaker())
        await here.bus.publish("vm.failed", {"vm_id": "web-1", "error": "gone"})

        async def is_paused() -> bool:
            backlog = await here.bus.backlog("slack")
            return backlog is not None and backlog.paused_ms > 0

        await wait_until(is_paused, "the worker leaves it alone")
        steps = await walked(here, "slack", here=False)
        assert failed(steps) == ["taken"]
        assert re.fullmatch(
            r"the group slack is left alone for \d+ s more, as the service fails or asked to wait: "
            "eventbus integrations doctor slack",
            steps["taken"].said,
        )
