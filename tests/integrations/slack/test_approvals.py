from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics.approval import ApprovalGranted, Vote
from integrations.base import Artifact, Delivery, Earlier, InboundReply, Outcome
from integrations.errors import Misconfigured, NotReady, OutcomeUnknown, Rejected
from integrations.slack import Slack
from integrations.slack.approvals import Approval, Approvals, Asked, standing
from integrations.slack.fake import FakeSlack, Signed, refusal
from integrations.slack.plan import key_mark
from integrations.testing.context import MemoryStore

MakeSlack = Callable[..., Awaitable[Slack]]
DELIVERY = Delivery("slack:default:e-1")
ID = key_mark(DELIVERY.key)
WHEN = datetime(2026, 1, 12, 10, 30, tzinfo=UTC)


def approval(**content: Any) -> Artifact:
    return Artifact(type="approval", content={"title": "Deploy?", "subject": "deploy:7"} | content)


async def ask(slack: Slack, **content: Any) -> Artifact:
    artifact = approval(**content)
    await slack.create_artifact(artifact, DELIVERY)
    return artifact


async def press(slack: Slack, fake: FakeSlack, action: str, user: str, *, after: float = 0) -> InboundReply:
    return await later(slack, fake, fake.press(fake.messages[0], action, user=user), after)


async def later(slack: Slack, fake: FakeSlack, signed: Signed, seconds: float) -> InboundReply:
    """The click as it arrives when so many seconds have passed."""
    at = int(signed.inbound().received_at + seconds)
    return await slack.receive(fake.sign(signed.body, signed.headers["Content-Type"], at=at).inbound())


async def handle(slack: Slack, reply: InboundReply) -> list[str]:
    """What the worker does with the events, in order."""
    return [(await slack.handle_event(event, Delivery(event.id))).detail for event in reply.events]


def topics(reply: InboundReply) -> list[str]:
    return [event.topic for event in reply.events]


def said(fake: FakeSlack) -> str:
    return str(fake.messages[0].blocks)


# -- asking --------------------------------------------------------------------------------------------------------


async def test_an_approval_has_two_buttons_and_says_who_may_decide_until_when(slack: Slack, fake: FakeSlack) -> None:
    result = await slack.create_artifact(
        approval(text="<!channel> 1.4.2", approvers=["U0ADA", "U0BOB"], quorum=2, channel="#vms"), DELIVERY
    )
    (message,) = fake.messages
    assert (message.channel, result.reference) == ("C0VMS", message.ts)
    buttons = message.blocks[-1]["elements"]
    assert [(b["action_id"], b["style"]) for b in buttons] == [("approve", "primary"), ("reject", "danger")]
    assert "<@U0ADA>, <@U0BOB>" in said(fake)
    assert "*Approvals needed*\\n2" in said(fake)
    assert "&lt;!channel&gt; 1.4.2" in said(fake)


@pytest.mark.parametrize(
    "content",
    [
        {"title": ""},
        {"approvers": ["<!channel>"]},
        {"approvers": ["@ada"]},
        {"approvers": ["U0ADA"], "quorum": 2},
        {"approvers": ["U0ADA", "U0ADA"], "quorum": 2},
        {"quorum": 0},
        {"expires_in": 0},
        {"expires_in": 40 * 86400},
        {"colour": "red"},
    ],
)
async def test_an_approval_that_can_never_be_granted_or_asked_is_rejected(
    slack: Slack, fake: FakeSlack, content: dict[str, Any]
) -> None:
    with pytest.raises(Rejected, match="approval"):
        await slack.create_artifact(approval(**content), DELIVERY)
    assert fake.messages == []


async def test_an_approval_whose_buttons_nobody_would_hear_is_not_asked_for(
    make_slack: MakeSlack, fake: FakeSlack
) -> None:
    settings = fake.settings()
    del settings["signing_secret"]
    for kind in (settings, fake.webhook_settings()):
        with pytest.raises(Misconfigured, match="signing_secret"):
            await (await make_slack(kind)).create_artifact(approval(), DELIVERY)


async def test_an_approval_whose_answer_was_lost_is_found_and_can_be_decided(slack: Slack, fake: FakeSlack) -> None:
    assert await slack.find(approval(), DELIVERY) is None
    fake.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await slack.create_artifact(approval(), DELIVERY)
    found = await slack.find(approval(), DELIVERY)
    assert found is not None
    assert found.reference == fake.messages[0].ts
    await handle(slack, await press(slack, fake, "approve", "U0ADA"))
    assert "Granted: Deploy?" in said(fake)


async def test_the_messages_of_the_same_thread_stay_known(slack: Slack) -> None:
    delivery = Delivery("k", thread="t", earlier=Earlier("1", None, {"general": "x"}))
    result = await slack.create_artifact(approval(), delivery)
    assert result.state == {"general": "x"}


# -- deciding ------------------------------------------------------------------------------------------------------


async def test_an_approved_approval_is_granted_and_its_message_says_by_whom(slack: Slack, fake: FakeSlack) -> None:
    await ask(slack)
    reply = await press(slack, fake, "approve", "U0ADA")
    assert topics(reply) == ["approval.voted", "approval.granted"]
    granted = reply.events[1].data
    assert isinstance(granted, ApprovalGranted)
    assert (granted.approval_id, granted.subject) == (ID, "deploy:7")
    assert [(v.user_id, v.decision) for v in granted.votes] == [("U0ADA", "approve")]
    assert {event.key for event in reply.events} == {f"approval_id:{ID}"}
    await handle(slack, reply)
    assert "Approved by <@U0ADA> at " in said(fake)
    assert "elements': [{'type': 'button'" not in said(fake)
    assert len(fake.messages) == 1


async def test_one_person_rejects_for_all(slack: Slack, fake: FakeSlack) -> None:
    await ask(slack, quorum=3)
    await handle(slack, await press(slack, fake, "approve", "U0ADA"))
    reply = await press(slack, fake, "reject", "U0BOB")
    assert topics(reply) == ["approval.voted", "approval.rejected"]
    await handle(slack, reply)
    assert "Rejected: Deploy?" in said(fake)
    assert "Rejected by <@U0BOB>" in said(fake)


async def test_a_quorum_needs_different_people(slack: Slack, fake: FakeSlack) -> None:
    await ask(slack, quorum=2)
    first = await press(slack, fake, "approve", "U0ADA")
    assert topics(first) == ["approval.voted"]
    await handle(slack, first)
    assert "Approved by <@U0ADA>" in said(fake)
    assert "button" in said(fake)
    again = await press(slack, fake, "approve", "U0ADA")
    assert topics(again) == ["approval.voted", "slack.action.approval"]
    assert again.events[0].idempotency_key == first.events[0].idempotency_key
    await handle(slack, again)
    assert fake.responses[-1].text.startswith("You voted already: approved at ")
    assert topics(await press(slack, fake, "approve", "U0BOB")) == ["approval.voted", "approval.granted"]


async def test_a_vote_cannot_be_changed(slack: Slack, fake: FakeSlack) -> None:
    await ask(slack, quorum=2)
    await press(slack, fake, "approve", "U0ADA")
    reply = await press(slack, fake, "reject", "U0ADA")
    assert topics(reply) == ["slack.action.approval"]
    await handle(slack, reply)
    assert fake.responses[-1].text.startswith("You voted already: approved at ")
    assert fake.responses[-1].response_type == "ephemeral"


async def test_a_click_of_somebody_who_may_not_decide_counts_for_nothing(slack: Slack, fake: FakeSlack) -> None:
    await ask(slack, approvers=["U0ADA"])
    for action in ("approve", "reject"):
        reply = await press(slack, fake, action, "U0BOB")
        assert topics(reply) == ["slack.action.approval"]
        await handle(slack, reply)
        assert "not among those" in fake.responses[-1].text
    assert topics(await press(slack, fake, "approve", "U0ADA")) == ["approval.voted", "approval.granted"]


async def test_a_late_click_is_answered_for_its_sender_only(slack: Slack, fake: FakeSlack) -> None:
    await ask(slack)
    pressed = fake.press(fake.messages[0], "reject", user="U0BOB")
    granted = await press(slack, fake, "approve", "U0ADA")
    for _ in ("before the worker has handled it", "after"):
        reply = await later(slack, fake, pressed, 1)
        assert topics(reply) == ["slack.action.approval"]
        await handle(slack, reply)
        assert "approved already" in fake.responses[-1].text
        await handle(slack, granted)


async def test_a_click_that_could_not_be_published_gives_the_same_events_again(slack: Slack, fake: FakeSlack) -> None:
    await ask(slack)
    first, again = [await press(slack, fake, "approve", "U0ADA", after=n) for n in (0, 5)]
    assert [e.idempotency_key for e in first.events] == [f"approval:{ID}:U0ADA", f"approval:{ID}"]
    same = again.events[: len(first.events)]
    assert [(e.idempotency_key, e.data) for e in same] == [(e.idempotency_key, e.data) for e in first.events]


class Crowded(MemoryStore):
    """Two people's votes are written after both have read, and before either of them reads on."""

    def __init__(self) -> None:
        super().__init__()
        self.both = asyncio.Barrier(2)

    async def put(self, name: str, value: JsonValue, *, lifetime: timedelta | None = None) -> None:
        is_vote = name.startswith("vote:")
        if is_vote:
            await self.both.wait()
        await super().put(name, value, lifetime=lifetime)
        if is_vote:
            await self.both.wait()


async def test_people_who_press_at_the_same_moment_grant_it_once() -> None:
    approvals = Approvals(Crowded())
    await approvals.ask(ID, Approval(title="Deploy?", quorum=2))
    now = datetime.now(UTC)
    async with asyncio.timeout(10):
        pressed = await asyncio.gather(*(approvals.press(ID, user, "approve", now) for user in ("U0ADA", "U0BOB")))
    ends = [event for events, _ in pressed for event in events if event.topic == "approval.granted"]
    assert ends
    assert len({(event.idempotency_key, event.data.model_dump_json()) for event in ends}) == 1


async def test_of_two_ends_the_one_that_was_published_is_shown(slack: Slack, fake: FakeSlack) -> None:
    await ask(slack)
    await press(slack, fake, "reject", "U0BOB")
    vote = Vote(user_id="U0ADA", decision="approve", at=WHEN)
    published = catalog.event(ApprovalGranted(approval_id=ID, title="Deploy?", votes=(vote,)))
    await slack.handle_event(published, Delivery("k"))
    assert "Granted: Deploy?" in said(fake)
    assert "U0BOB" not in said(fake)
    assert topics(await press_again(slack, fake)) == ["slack.action.approval"]


async def press_again(slack: Slack, fake: FakeSlack) -> InboundReply:
    action = {"type": "button", "action_id": "reject", "block_id": f"approval:{ID}", "action_ts": "1.2"}
    return await slack.receive(fake.button_click("reject", user="U0EVE", actions=[action]).inbound())


async def test_a_button_of_a_notification_that_is_called_approve_decides_nothing(slack: Slack, fake: FakeSlack) -> None:
    await ask(slack)
    reply = await slack.receive(fake.button_click("approve", ID).inbound())
    assert topics(reply) == ["slack.action.approve"]


async def test_an_approval_that_nobody_remembers_is_explained(slack: Slack, fake: FakeSlack) -> None:
    reply = await press_again(slack, fake)
    await handle(slack, reply)
    assert "not known any more" in fake.responses[-1].text


async def test_an_approval_of_another_account_is_left_alone(slack: Slack) -> None:
    for event in (catalog.event(ApprovalGranted.example()), catalog.event("approval.odd", {"a": 1})):
        assert (await slack.handle_event(event, Delivery("k"))).outcome is Outcome.SKIPPED


async def test_a_decision_that_overtakes_the_note_of_the_message_waits_for_it(slack: Slack, fake: FakeSlack) -> None:
    await ask(slack)
    reply = await press(slack, fake, "approve", "U0ADA")
    await slack.context.store.delete(f"posted:{ID}")
    with pytest.raises(NotReady):
        await slack.handle_event(reply.events[1], Delivery("k"))


async def test_a_message_that_is_gone_keeps_nothing_from_being_decided(slack: Slack, fake: FakeSlack) -> None:
    await ask(slack)
    reply = await press(slack, fake, "approve", "U0ADA")
    fake.messages.clear()
    assert "its message is gone" in (await handle(slack, reply))[1]


# -- expiry --------------------------------------------------------------------------------------------------------


async def test_a_click_after_the_time_grants_nothing_and_ends_the_approval(slack: Slack, fake: FakeSlack) -> None:
    await ask(slack, expires_in=60)
    reply = await press(slack, fake, "approve", "U0ADA", after=62)
    assert topics(reply) == ["approval.expired", "slack.action.approval"]
    assert reply.events[0].idempotency_key == f"approval:{ID}"
    await handle(slack, reply)
    assert "Expired: Deploy?" in said(fake)
    assert "button" not in said(fake)
    assert "time for this is over" in fake.responses[-1].text
    assert topics(await press_again(slack, fake)) == ["slack.action.approval"]


async def due(slack: Slack, artifact: Artifact) -> tuple[Event[Any], datetime | None]:
    result = await slack.create_artifact(artifact, DELIVERY)
    (following,) = await slack.follow(artifact, DELIVERY, result)
    return following


async def test_the_end_of_the_time_is_to_be_published_when_it_comes(slack: Slack, fake: FakeSlack) -> None:
    event, at = await due(slack, approval(expires_in=60))
    assert event.topic == "approval.due"
    assert at is not None
    assert timedelta(seconds=50) < at - datetime.now(UTC) <= timedelta(seconds=60)
    result = await slack.handle_event(event, Delivery("due"))
    ((expired, now),) = await slack.follow(event, Delivery("due"), result)
    assert (expired.topic, expired.idempotency_key, now) == ("approval.expired", f"approval:{ID}", None)
    await slack.handle_event(expired, Delivery("expired"))
    assert "Nobody decided until" in said(fake)


async def test_what_was_decided_in_time_does_not_expire(slack: Slack, fake: FakeSlack) -> None:
    artifact = approval()
    event, _ = await due(slack, artifact)
    reply = await press(slack, fake, "approve", "U0ADA")
    for _ in ("before the worker has handled it", "after"):
        result = await slack.handle_event(event, Delivery("due"))
        assert (result.outcome, await slack.follow(event, Delivery("due"), result)) == (Outcome.SKIPPED, ())
        await handle(slack, reply)


async def test_a_second_attempt_does_not_move_the_time(slack: Slack) -> None:
    first = await due(slack, approval(expires_in=60))
    assert (await due(slack, approval(expires_in=60)))[1] == first[1]


# -- the rule itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("votes", "quorum", "stands"),
    [
        ("", 1, "open"),
        ("a", 1, "granted"),
        ("a", 2, "open"),
        ("aa", 2, "granted"),
        ("r", 2, "rejected"),
        ("ar", 2, "rejected"),
        ("ar", 1, "granted"),
        ("ra", 1, "rejected"),
        ("aar", 2, "granted"),
    ],
)
def test_the_earliest_votes_decide(votes: str, quorum: int, stands: str) -> None:
    asked = Asked(id="x", what=Approval(title="t", quorum=quorum), expires_at=WHEN + timedelta(hours=1))
    cast = [
        Vote(user_id=f"U{n}", decision="approve" if v == "a" else "reject", at=WHEN + timedelta(seconds=n))
        for n, v in enumerate(votes)
    ]
    assert standing(asked, cast[::-1], WHEN) == stands
    late = standing(asked, cast, WHEN + timedelta(hours=1))
    assert late == ("expired" if stands == "open" else stands)


async def test_the_largest_approval_is_taken_in_every_state(slack: Slack, fake: FakeSlack) -> None:
    people = [f"U{n:030d}" for n in range(20)]
    await ask(slack, title="&" * 140, text="&" * 3000, approvers=people, quorum=20)
    for user in people:
        await handle(slack, await press(slack, fake, "approve", user))
    assert "Granted" in fake.messages[0].text
    assert refusal({"text": fake.messages[0].text, "blocks": fake.messages[0].blocks}) is None
