from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from eventbus.catalog import catalog
from eventbus.topics import MigrationCompleted, SlackCommand, TaskFailed, VmCreated, VmStopped, WebhookReceived
from integrations import base
from integrations.base import Action, Delivery, Health, Inbound, Notification, Outcome, Reconciles
from integrations.errors import Rejected
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack

MakeSlack = Callable[..., Awaitable[Slack]]
DELIVERY = Delivery("slack:e-1")


async def test_an_event_becomes_one_message_in_the_channel_its_topic_is_routed_to(
    make_slack: MakeSlack, fake: FakeSlack
) -> None:
    slack = await make_slack(fake.settings() | {"channels": {"vm.*": "#vms"}})
    result = await slack.handle_event(catalog.event(VmCreated.example()), DELIVERY)
    await slack.handle_event(catalog.event(TaskFailed.example()), DELIVERY)
    assert [m.channel for m in fake.messages] == ["C0VMS", "C0DEPLOYS"]
    assert (result.outcome, result.reference) == (Outcome.DELIVERED, fake.messages[0].ts)


async def test_an_event_that_asks_for_nothing_is_skipped_with_a_reason(slack: Slack, fake: FakeSlack) -> None:
    for event in (
        catalog.event(WebhookReceived.example()),
        catalog.event("slack.command.dance", SlackCommand.example().model_dump()),
        catalog.event("slack.command.status", {"command": "/eventbus-status"}),
    ):
        result = await slack.handle_event(event, DELIVERY)
        assert result.outcome is Outcome.SKIPPED
        assert result.detail
    assert fake.requests == []


async def test_a_channel_that_does_not_exist_is_rejected_with_what_to_do(
    make_slack: MakeSlack, fake: FakeSlack
) -> None:
    slack = await make_slack(fake.settings() | {"default_channel": "#nowhere"})
    with pytest.raises(Rejected, match=r"#nowhere.*channel_not_found.*/invite"):
        await slack.handle_event(catalog.event(MigrationCompleted.example()), DELIVERY)


async def test_the_status_command_is_answered_with_the_true_health_of_each_component(
    make_slack: MakeSlack, fake: FakeSlack
) -> None:
    slack = await make_slack(components={"redis": Health("healthy"), "github": Health("unhealthy", "token expired")})
    reply = await slack.receive(fake.slash_command("/eventbus-status").inbound())
    result = await slack.handle_event(reply.events[0], DELIVERY)
    assert result.outcome is Outcome.DELIVERED
    (answered,) = fake.responses
    assert answered.text == "1 of 2 components not healthy"
    assert "github: unhealthy, token expired" in answered.blocks[1]["text"]["text"]
    assert fake.messages == []


async def test_the_list_command_is_answered_with_what_events_told(slack: Slack, fake: FakeSlack) -> None:
    await slack.handle_event(catalog.event(VmCreated(vm_id="vm-1", vm_name="my-vm")), DELIVERY)
    await slack.handle_event(catalog.event(VmStopped(vm_id="vm-1")), DELIVERY)
    await slack.handle_event(catalog.event(VmCreated(vm_id="vm-2")), DELIVERY)
    reply = await slack.receive(fake.slash_command("/eventbus-vm-list").inbound())
    await slack.handle_event(reply.events[0], DELIVERY)
    (answered,) = fake.responses
    assert answered.text == "Total: 2 VMs"
    shown = answered.blocks[1]["text"]["text"]
    assert "my-vm (vm-1) - stopped" in shown
    assert "vm-2 (vm-2) - created" in shown


async def test_a_machine_is_remembered_even_while_slack_is_down(slack: Slack, fake: FakeSlack) -> None:
    fake.go_down()
    event = catalog.event(VmCreated(vm_id="vm-1"))
    with pytest.raises(Exception, match="503"):
        await slack.handle_event(event, DELIVERY)
    assert list(await slack.context.store.items("vm:")) == ["vm:vm-1"]


async def test_a_command_with_an_answering_address_elsewhere_is_rejected(slack: Slack, fake: FakeSlack) -> None:
    data = SlackCommand(command="/eventbus-status", response_url="https://evil.example/take")
    with pytest.raises(Rejected, match="not one of Slack's"):
        await slack.handle_event(catalog.event("slack.command.status", data), DELIVERY)


async def test_a_button_sent_and_pressed_comes_back_as_an_event(slack: Slack, fake: FakeSlack) -> None:
    approve = Action(text="Approve", action_id="approve", value="task-1", style="primary")
    await slack.send_notification(
        Notification(target="#general", message="Task completed. What next?", actions=(approve,)), Delivery("k")
    )
    (button,) = fake.messages[0].blocks[-1]["elements"]
    reply = await slack.receive(fake.button_click(button["action_id"], button["value"]).inbound())
    assert [(e.topic, e.data.value) for e in reply.events] == [("slack.action.approve", "task-1")]


async def test_a_kind_of_notification_that_is_not_offered_is_rejected(slack: Slack) -> None:
    with pytest.raises(Rejected, match="it sends: message"):
        await slack.send_notification(Notification(type="fax", message="x"), Delivery("k"))


async def test_health_is_asked_of_slack_with_our_token(slack: Slack, fake: FakeSlack) -> None:
    health = await slack.health()
    assert (health.state, health.detail) == ("healthy", "eventbus in Fake Team")
    assert health.latency_ms is not None
    fake.reject_credentials = True
    assert (await slack.health()).state == "unhealthy"
    assert "token_revoked" in (await slack.health()).detail
    fake.reject_credentials = False
    fake.fail(429)
    assert (await slack.health()).state == "degraded"
    fake.go_down()
    assert (await slack.health()).state == "unhealthy"
    fake.come_back()
    assert (await slack.health()).state == "healthy"


async def test_health_gives_up_in_time(slack: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "HEALTH_SECONDS", 0)
    health = await slack.health()
    assert health.state == "unhealthy"
    assert "did not answer within" in health.detail


async def test_the_health_of_a_webhook_says_that_it_was_not_verified(make_slack: MakeSlack, fake: FakeSlack) -> None:
    slack = await make_slack(fake.webhook_settings())
    health = await slack.health()
    assert (health.state, fake.requests) == ("healthy", [])
    assert "not verified" in health.detail


async def test_the_manifest_says_what_the_adapter_does(slack: Slack) -> None:
    assert isinstance(slack, Inbound)
    assert isinstance(slack, Reconciles)
    assert (slack.manifest.effects, slack.manifest.emits) == ("searchable", Slack.manifest.emits)
    assert "slack.command.*" in slack.manifest.handles
    assert all(field.description for field in slack.manifest.config.model_fields.values())


async def test_close_may_be_called_twice_and_before_initialize() -> None:
    slack = Slack()
    await slack.close()
    await slack.close()


async def test_the_message_posted_is_the_message_rendered(slack: Slack, fake: FakeSlack) -> None:
    event = catalog.event(MigrationCompleted.example(), id="e-7")
    await slack.handle_event(event, DELIVERY)
    assert "event e-7" in json.dumps(fake.messages[0].blocks)
