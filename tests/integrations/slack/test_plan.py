from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.payload import Payload
from eventbus.topics import (
    MigrationCompleted,
    MigrationFailed,
    MigrationRolledBack,
    MigrationStarted,
    TaskCompleted,
    TaskStarted,
    VmStopped,
)
from integrations.base import Artifact, Delivery, DeliveryResult, Earlier, Notification, Outcome, Severity
from integrations.errors import OutcomeUnknown, Rejected
from integrations.exchange import listening
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack
from integrations.slack.plan import Shown

MakeSlack = Callable[..., Awaitable[Slack]]
WHEN = datetime.now(UTC)
STARTED, COMPLETED = MigrationStarted(migration="m"), MigrationCompleted(migration="m")
FAILED = MigrationFailed(migration="m", error="lock timeout")


class Thread:
    """Deliveries about one thing, one after another, as the dispatcher makes them."""

    def __init__(self, slack: Slack) -> None:
        self.slack = slack
        self.earlier: Earlier | None = None
        self.number = 0

    def next(self, what: Payload | Notification) -> tuple[Event[Any] | Notification, Delivery]:
        self.number += 1
        delivery = Delivery(f"k{self.number}", thread="t", earlier=self.earlier)
        if isinstance(what, Notification):
            return what, delivery
        return catalog.event(what, time=WHEN + timedelta(seconds=self.number)), delivery

    async def tell(self, what: Payload | Notification) -> DeliveryResult:
        made, delivery = self.next(what)
        if isinstance(made, Notification):
            return self.keep(await self.slack.send_notification(made, delivery))
        return self.keep(await self.slack.handle_event(made, delivery))

    async def lose(self, what: Payload, fake: FakeSlack, *, calls: int = 1) -> tuple[Event[Any], Delivery]:
        """An attempt whose last of so many calls is carried out and never answered."""
        event, delivery = self.next(what)
        assert isinstance(event, Event)
        fake.pass_on(calls - 1)
        fake.swallow("after")
        with pytest.raises(OutcomeUnknown):
            await self.slack.handle_event(event, delivery)
        return event, delivery

    def keep(self, result: DeliveryResult) -> DeliveryResult:
        self.earlier = Earlier(result.reference, result.url, result.state)
        return result


def shown(fake: FakeSlack) -> list[tuple[str, bool]]:
    return [(message.text, bool(message.thread_ts)) for message in fake.messages]


# -- one message a thread ------------------------------------------------------------------------------------------


async def test_the_message_about_a_migration_is_changed_when_it_ends(slack: Slack, fake: FakeSlack) -> None:
    thread = Thread(slack)
    first, second = await thread.tell(STARTED), await thread.tell(COMPLETED)
    assert shown(fake) == [("Migration completed: m", False)]
    assert second.reference == first.reference
    assert second.detail == "changed the message in #deployments"


async def test_a_failure_is_also_replied_because_a_change_notifies_nobody(slack: Slack, fake: FakeSlack) -> None:
    thread = Thread(slack)
    await thread.tell(STARTED)
    result = await thread.tell(FAILED)
    text = "Migration failed: m: lock timeout"
    assert shown(fake) == [(text, False), (text, True)]
    assert fake.messages[1].broadcast
    assert result.reference == fake.messages[0].ts, "the thread's first message, not the reply"
    await thread.tell(MigrationRolledBack(migration="m"))
    assert [message.thread_ts for message in fake.messages[1:]] == [fake.messages[0].ts] * 2


async def test_the_next_run_gets_a_message_of_its_own(slack: Slack, fake: FakeSlack) -> None:
    thread = Thread(slack)
    for payload in (STARTED, COMPLETED, STARTED):
        await thread.tell(payload)
    assert shown(fake) == [("Migration completed: m", False), ("Migration started: m", False)]


async def test_an_event_that_comes_late_does_not_undo_what_the_message_shows(slack: Slack, fake: FakeSlack) -> None:
    thread = Thread(slack)
    late, _ = thread.next(VmStopped(vm_id="v"))
    assert isinstance(late, Event)
    await thread.tell(FAILED)
    result = await slack.handle_event(late, Delivery("late", thread="t", earlier=thread.earlier))
    assert (result.outcome, len(fake.effects())) == (Outcome.SKIPPED, 1)
    assert "migration.failed" in result.detail


async def test_replies_and_separate_messages_can_be_chosen_instead(make_slack: MakeSlack, fake: FakeSlack) -> None:
    thread = Thread(await make_slack(fake.settings() | {"thread_mode": "thread"}))
    await thread.tell(STARTED)
    await thread.tell(COMPLETED)
    assert shown(fake) == [("Migration started: m", False), ("Migration completed: m", True)]
    thread = Thread(await make_slack(fake.settings() | {"thread_mode": "new"}))
    await thread.tell(FAILED)
    await thread.tell(COMPLETED)
    assert [replied for _, replied in shown(fake)[2:]] == [False, False]


async def test_a_task_that_begins_is_told_of_only_where_its_message_can_change(
    make_slack: MakeSlack, fake: FakeSlack
) -> None:
    for settings in (fake.webhook_settings(), fake.settings() | {"thread_mode": "new"}):
        result = await Thread(await make_slack(settings)).tell(TaskStarted(task_id="t"))
        assert result.outcome is Outcome.SKIPPED
    thread = Thread(await make_slack())
    await thread.tell(TaskStarted(task_id="t"))
    await thread.tell(TaskCompleted(task_id="t"))
    assert shown(fake) == [("Task completed: t", False)]


@pytest.mark.parametrize("mode", ["update", "thread"])
async def test_where_the_message_is_gone_a_new_one_takes_its_place(
    make_slack: MakeSlack, fake: FakeSlack, mode: str
) -> None:
    thread = Thread(await make_slack(fake.settings() | {"thread_mode": mode}))
    await thread.tell(STARTED)
    fake.messages.clear()
    result = await thread.tell(FAILED)
    assert shown(fake) == [("Migration failed: m: lock timeout", False)]
    assert result.reference == fake.messages[0].ts


async def test_where_the_message_may_not_be_edited_any_more_a_new_one_takes_its_place(
    slack: Slack, fake: FakeSlack
) -> None:
    thread = Thread(slack)
    await thread.tell(STARTED)
    fake.frozen.add(fake.messages[0].ts)
    await thread.tell(COMPLETED)
    assert shown(fake) == [("Migration started: m", False), ("Migration completed: m", False)]


async def test_each_channel_has_a_message_of_its_own_for_one_thread(slack: Slack, fake: FakeSlack) -> None:
    thread = Thread(slack)
    for text in ("begun", "done"):
        for target in ("#vms", "general"):
            await thread.tell(Notification(target=target, message=text))
    assert [(m.channel, m.text) for m in fake.messages] == [("C0VMS", "done"), ("C0GENERAL", "done")]
    await thread.tell(Notification(target="#general", message="broke", severity=Severity.ERROR))
    assert [m.channel for m in fake.messages if m.thread_ts] == ["C0GENERAL"]


async def test_a_state_that_an_older_version_wrote_is_none() -> None:
    for packed in (None, "", "C1/123", "[]", '{"ts": "1"}', '{"channel": "C", "ts": "1", "x": 2}'):
        assert Shown.unpack(packed) is None


# -- a lost answer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "payload", "calls"), [([], STARTED, 1), ([STARTED], COMPLETED, 1), ([STARTED], FAILED, 2)]
)
@pytest.mark.parametrize("mode", ["update", "thread"])
async def test_what_an_earlier_attempt_did_is_found_and_goes_on_as_if_it_had_been_answered(
    make_slack: MakeSlack, fake: FakeSlack, mode: str, before: list[Payload], payload: Payload, calls: int
) -> None:
    slack = await make_slack(fake.settings() | {"thread_mode": mode})
    thread = Thread(slack)
    for earlier in before:
        await thread.tell(earlier)
    event, delivery = await thread.lose(payload, fake, calls=calls if mode == "update" else 1)
    done = fake.effects()
    found = await (await make_slack(fake.settings() | {"thread_mode": mode})).find(event, delivery)
    assert found is not None
    assert (found.outcome, found.reference) == (Outcome.DUPLICATE, fake.messages[0].ts)
    assert fake.effects() == done
    again = await slack.handle_event(event, replace(delivery, earlier=Earlier(found.reference, None, found.state)))
    assert (again.outcome, fake.effects()) == (Outcome.DUPLICATE, done), "once it is noted, it is not done again"


async def test_a_reply_that_is_missing_under_a_changed_message_is_not_taken_for_done(
    slack: Slack, fake: FakeSlack
) -> None:
    thread = Thread(slack)
    await thread.tell(STARTED)
    event, delivery = await thread.lose(FAILED, fake)
    assert await slack.find(event, delivery) is None
    await slack.handle_event(event, delivery)
    assert [replied for _, replied in shown(fake)] == [False, True]


async def test_a_look_up_turns_every_page(slack: Slack, fake: FakeSlack) -> None:
    fake.page = 2
    event, delivery = await Thread(slack).lose(COMPLETED, fake)
    for number in range(5):
        await slack.send_notification(Notification(message="x"), Delivery(f"other{number}"))
    assert await slack.find(event, delivery) is not None
    assert await slack.find(event, Delivery("never sent")) is None


async def test_more_messages_than_can_be_searched_are_not_taken_for_absence(
    slack: Slack, fake: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("integrations.slack.client.MOST_PAGES", 2)
    fake.page = 1
    event, delivery = await Thread(slack).lose(COMPLETED, fake)
    for number in range(3):
        await slack.send_notification(Notification(message="x"), Delivery(f"other{number}"))
    with pytest.raises(OutcomeUnknown, match="more than"):
        await slack.find(event, delivery)


@pytest.mark.parametrize("scope", ["channels:history", "channels:read"])
async def test_a_look_up_without_the_right_says_so_and_is_not_taken_for_absence(
    make_slack: MakeSlack, fake: FakeSlack, scope: str
) -> None:
    fake.scopes.remove(scope)
    with pytest.raises(OutcomeUnknown, match=f"needed: {scope}"):
        await (await make_slack()).find(catalog.event(COMPLETED), Delivery("k"))


async def test_an_old_message_is_outside_the_look_up_of_an_event(slack: Slack, fake: FakeSlack) -> None:
    event, delivery = await Thread(slack).lose(COMPLETED, fake)
    later = catalog.event(COMPLETED, time=WHEN + timedelta(days=2))
    assert await slack.find(event, delivery) is not None
    assert await slack.find(later, delivery) is None


async def test_a_direct_message_is_found_too(slack: Slack, fake: FakeSlack) -> None:
    hello = Notification(target="U0ADA", message="hi")
    await slack.send_notification(hello, Delivery("k"))
    found = await slack.find(hello, Delivery("k"))
    assert found is not None
    assert found.reference == fake.messages[0].ts


async def test_an_incoming_webhook_promises_no_look_up(make_slack: MakeSlack, fake: FakeSlack) -> None:
    slack = await make_slack(fake.webhook_settings())
    assert slack.manifest.effects == "at_least_once"
    assert (await make_slack()).manifest.effects == "searchable"
    with pytest.raises(OutcomeUnknown):
        await slack.find(catalog.event(COMPLETED), Delivery("k"))


# -- previews, places, exchanges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["update", "thread", "new"])
async def test_the_preview_is_what_is_sent(make_slack: MakeSlack, fake: FakeSlack, mode: str) -> None:
    slack = await make_slack(fake.settings() | {"thread_mode": mode})
    thread = Thread(slack)
    for payload in (STARTED, FAILED):
        event, delivery = thread.next(payload)
        assert isinstance(event, Event)
        previews = slack.preview(event, delivery)
        before = len(fake.requests)
        thread.keep(await slack.handle_event(event, delivery))
        sent = [(f"POST {fake.url}{r.path}", json.loads(r.body)) for r in fake.requests[before:] if r.method == "POST"]
        assert [(p.request, json.loads(p.body)) for p in previews] == sent


async def test_the_preview_of_a_webhook_hides_its_address(make_slack: MakeSlack, fake: FakeSlack) -> None:
    slack = await make_slack(fake.webhook_settings())
    (preview,) = slack.preview(catalog.event(COMPLETED), Delivery("k"))
    assert "fake-webhook-secret" not in repr(preview)
    await slack.handle_event(catalog.event(COMPLETED), Delivery("k"))
    assert fake.messages[0].text == json.loads(preview.body)["text"]


async def test_what_asks_nothing_has_no_preview_and_what_can_never_be_sent_is_rejected(slack: Slack) -> None:
    assert slack.preview(catalog.event("slack.command.status", {"command": "/x"}), Delivery("k")) == ()
    for what in (Notification(type="fax", message="x"), Artifact(type="statue", content={})):
        with pytest.raises(Rejected, match="slack"):
            slack.preview(what, Delivery("k"))


async def test_calls_are_paced_for_each_channel_however_it_is_written(slack: Slack) -> None:
    (budget,) = slack.manifest.budgets
    assert (budget.each, budget.burst) == ("place", 1)
    assert budget.spacing > timedelta(seconds=1)
    for target in ("#general", "general"):
        assert slack.places(Notification(target=target, message="x"), Delivery("k")) == ("general",)
    assert slack.places(catalog.event(COMPLETED), Delivery("k")) == ("deployments",)
    assert slack.places(catalog.event("slack.command.status", {"command": "/x"}), Delivery("k")) == ()


async def test_each_call_is_told_with_its_method_and_answer(slack: Slack, fake: FakeSlack) -> None:
    with listening() as heard:
        await slack.send_notification(Notification(message="x"), Delivery("k"))
        fake.refuse("is_archived")
        with pytest.raises(Rejected):
            await slack.send_notification(Notification(message="x"), Delivery("k2"))
    posted = [one for one in heard if one.request == f"POST {fake.url}/api/chat.postMessage"]
    asked = [one.request for one in heard if one not in posted]
    assert asked == [f"GET {fake.url}/api/auth.test"], "once, for the links to messages"
    assert [one.answer == "ok" for one in posted] == [True, False]
    assert "is_archived" in posted[1].answer
    assert fake.token not in repr(heard)
