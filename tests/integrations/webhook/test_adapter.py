"""`webhook` against receivers that verify, refuse, fail, hang and are gone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from eventbus.catalog import catalog
from eventbus.topics import DeliveryDeadLettered, TaskFailed
from integrations.base import Artifact, Delivery, Notification, Outcome, Target
from integrations.errors import (
    AuthFailed,
    IntegrationError,
    Misconfigured,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.testing.context import make_context
from integrations.webhook import Webhook
from integrations.webhook.config import Format
from integrations.webhook.fake import FakeReceiver
from integrations.webhook.render import message_id

EVENT = catalog.event(TaskFailed(task_id="task-42", error="2 of 310 tests failed"))
DELIVERY = Delivery("key-1", "receiver")


@asynccontextmanager
async def webhook(settings: dict[str, Any]) -> AsyncIterator[Webhook]:
    adapter, context = Webhook(), make_context(Webhook, settings)
    await adapter.initialize(context)
    try:
        yield adapter
    finally:
        await adapter.close()
        await context.http.close()


def endpoint(receiver: FakeReceiver, **changes: Any) -> dict[str, Any]:
    one: dict[str, Any] = receiver.settings()["endpoints"][0]
    return one | changes


@pytest.fixture
async def receiver() -> AsyncIterator[FakeReceiver]:
    async with FakeReceiver() as receiver:
        yield receiver


@pytest.fixture
async def adapter(receiver: FakeReceiver) -> AsyncIterator[Webhook]:
    async with webhook(receiver.settings()) as adapter:
        yield adapter


# -- delivering --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["standard", "cloudevents", "plain"])
async def test_an_event_arrives_signed_in_every_format(form: Format) -> None:
    async with FakeReceiver(form) as receiver, webhook(receiver.settings()) as adapter:
        result = await adapter.handle_event(EVENT, DELIVERY)
    assert (result.outcome, result.reference) == (Outcome.DELIVERED, message_id("key-1"))
    assert result.detail == f"{receiver.url} answered 204"
    assert [one.content["data"]["task_id"] for one in receiver.received] == ["task-42"]


@pytest.mark.parametrize("form", ["standard", "cloudevents", "plain"])
async def test_a_wrong_secret_is_refused_and_counts_as_our_credentials(form: Format) -> None:
    async with FakeReceiver(form) as receiver:
        wrong = endpoint(receiver, secret="whsec_" + "A" * 32)
        async with webhook({"endpoints": [wrong]}) as adapter:
            with pytest.raises(AuthFailed, match="answered 401"):
                await adapter.handle_event(EVENT, DELIVERY)
    assert receiver.received == []


async def test_a_receiver_that_changes_over_accepts_the_old_secret_still(receiver: FakeReceiver) -> None:
    old = receiver.secret.get_secret_value()
    rotating = endpoint(receiver, secret="whsec_" + "A" * 32, previous_secrets=[old])
    async with webhook({"endpoints": [rotating]}) as adapter:
        await adapter.handle_event(EVENT, DELIVERY)
    assert len(receiver.effects()) == 1


async def test_a_repeat_has_the_same_id_and_the_same_bytes(receiver: FakeReceiver, adapter: Webhook) -> None:
    receiver.swallow("after")
    with pytest.raises(OutcomeUnknown):
        await adapter.handle_event(EVENT, DELIVERY)
    await adapter.handle_event(EVENT, Delivery("key-1", "receiver", attempt=2))
    first, second = receiver.requests
    assert first.body == second.body
    assert (len(receiver.received), len(receiver.effects()), receiver.repeats) == (2, 1, 1)


async def test_another_delivery_is_another_effect(receiver: FakeReceiver, adapter: Webhook) -> None:
    await adapter.handle_event(EVENT, DELIVERY)
    await adapter.handle_event(EVENT, Delivery("key-2", "receiver"))
    assert (len(receiver.effects()), receiver.repeats) == (2, 0)


async def test_only_the_endpoint_of_the_delivery_hears_of_it(receiver: FakeReceiver) -> None:
    async with FakeReceiver() as other:
        both = {"endpoints": [endpoint(receiver), endpoint(other, name="other", topics=["task.*"])]}
        async with webhook(both) as adapter:
            assert adapter.targets() == [Target("receiver", (">",)), Target("other", ("task.*",))]
            await adapter.handle_event(EVENT, Delivery("key-1", "other"))
    assert (len(receiver.requests), len(other.effects())) == (0, 1)


async def test_an_endpoint_that_is_not_in_the_settings_is_named(adapter: Webhook) -> None:
    with pytest.raises(Misconfigured, match="no endpoint 'removed': name one of receiver"):
        await adapter.handle_event(EVENT, Delivery("key-1", "removed"))


async def test_the_bookkeeping_of_deliveries_is_skipped_unless_it_is_named(receiver: FakeReceiver) -> None:
    dead = DeliveryDeadLettered.example()
    async with webhook(receiver.settings()) as adapter:
        result = await adapter.handle_event(catalog.event(dead), DELIVERY)
        assert (result.outcome, receiver.requests) == (Outcome.SKIPPED, [])
    async with webhook({"endpoints": [endpoint(receiver, topics=["delivery.*"])]}) as adapter:
        result = await adapter.handle_event(catalog.event(dead), DELIVERY)
        assert (result.outcome, len(receiver.effects())) == (Outcome.DELIVERED, 1)


async def test_the_headers_of_an_endpoint_are_sent(receiver: FakeReceiver) -> None:
    with_headers = endpoint(receiver, headers={"Authorization": "Bearer abc"})
    async with webhook({"endpoints": [with_headers]}) as adapter:
        await adapter.handle_event(EVENT, DELIVERY)
    assert receiver.requests[0].headers["authorization"] == "Bearer abc"


async def test_a_notification_goes_to_the_endpoint_it_names_or_to_the_only_one(receiver: FakeReceiver) -> None:
    async with FakeReceiver() as other:
        async with webhook({"endpoints": [endpoint(receiver), endpoint(other, name="other")]}) as adapter:
            await adapter.send_notification(Notification(message="hello", target="other"), Delivery("key-1"))
            with pytest.raises(Misconfigured, match="name one of receiver, other"):
                await adapter.send_notification(Notification(message="hello"), Delivery("key-2"))
        async with webhook(receiver.settings()) as adapter:
            await adapter.send_notification(Notification(message="hello"), Delivery("key-3"))
    assert receiver.effects() == [f"{message_id('key-3')} notification"]
    assert other.effects() == [f"{message_id('key-1')} notification"]
    assert other.received[0].content["data"]["message"] == "hello"


async def test_there_are_no_artifacts(adapter: Webhook) -> None:
    with pytest.raises(Rejected, match="makes no artifact 'issue'"):
        await adapter.create_artifact(Artifact(type="issue", content={}), Delivery("key-1"))


# -- what an answer means ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, Rejected),
        (302, Rejected),
        (304, Rejected),
        (307, Rejected),
        (308, Rejected),
        (400, Rejected),
        (401, AuthFailed),
        (403, AuthFailed),
        (404, Rejected),
        (408, NotReady),
        (409, Rejected),
        (410, Rejected),
        (413, Rejected),
        (422, Rejected),
        (425, NotReady),
        (429, RateLimited),
        (500, ServiceFault),
        (502, ServiceFault),
        (503, NotReady),
        (504, ServiceFault),
    ],
)
async def test_an_answer_has_one_meaning_and_its_wait_is_kept(
    receiver: FakeReceiver, adapter: Webhook, status: int, kind: type[IntegrationError]
) -> None:
    receiver.fail(status, headers={"Retry-After": "7", "Location": f"{receiver.url}/elsewhere"})
    with pytest.raises(IntegrationError) as caught:
        await adapter.handle_event(EVENT, DELIVERY)
    assert type(caught.value) is kind
    assert f"{receiver.url} answered {status}" in caught.value.detail
    assert "/hook" not in caught.value.detail
    again = kind in (NotReady, RateLimited, ServiceFault)
    assert caught.value.retry_after == (timedelta(seconds=7) if again else None)
    assert len(receiver.requests) == 1, "neither followed nor tried again"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_delivered(receiver: FakeReceiver, adapter: Webhook, status: int) -> None:
    receiver.fail(status)
    assert (await adapter.handle_event(EVENT, DELIVERY)).outcome is Outcome.DELIVERED


async def test_a_redirect_and_a_receiver_that_had_enough_say_what_to_do(
    receiver: FakeReceiver, adapter: Webhook
) -> None:
    receiver.fail(307)
    with pytest.raises(Rejected, match="redirects are not followed; give endpoint receiver its final address"):
        await adapter.handle_event(EVENT, DELIVERY)
    receiver.fail(410)
    with pytest.raises(Rejected, match="asks to be disabled; remove endpoint receiver"):
        await adapter.handle_event(EVENT, DELIVERY)


async def test_an_endpoint_has_its_own_time_limit(receiver: FakeReceiver) -> None:
    held = receiver.hold()
    async with webhook({"endpoints": [endpoint(receiver, timeout=0.2)]}) as adapter:
        with pytest.raises(OutcomeUnknown, match=r"within 0\.2 s"):
            await adapter.handle_event(EVENT, DELIVERY)
    assert held.committed.is_set(), "no answer came in time, and yet it was done: that is why it is unknown"
    held.released.set()


async def test_a_receiver_that_is_gone_surely_did_nothing(receiver: FakeReceiver) -> None:
    settings = receiver.settings()
    async with FakeReceiver() as gone:
        settings["endpoints"][0]["url"] = f"{gone.url}/hook"
    async with webhook(settings) as adapter:
        with pytest.raises(Unreachable):
            await adapter.handle_event(EVENT, DELIVERY)


async def test_the_address_is_not_shown_even_where_the_receiver_repeats_it(receiver: FakeReceiver) -> None:
    path = "/hooks/canary/of/ours?token=canary"
    async with webhook({"endpoints": [endpoint(receiver, url=receiver.url + path)]}) as adapter:
        receiver.fail(404, body=f"Cannot POST {path}")
        with pytest.raises(Rejected) as caught:
            await adapter.handle_event(EVENT, DELIVERY)
    assert caught.value.detail == f"{receiver.url} answered 404: Cannot POST [hidden]"


# -- health ------------------------------------------------------------------------------------------------------------


async def test_health_delivers_nothing(receiver: FakeReceiver, adapter: Webhook) -> None:
    health = await adapter.health()
    assert (health.state, receiver.received) == ("healthy", [])
    assert [(request.method, request.status) for request in receiver.requests] == [("HEAD", 405)]
    assert health.latency_ms is not None


@pytest.mark.parametrize(
    ("status", "state"),
    [(200, "healthy"), (401, "healthy"), (500, "healthy"), (502, "unhealthy"), (503, "unhealthy"), (504, "unhealthy")],
)
async def test_only_the_answer_of_a_gateway_means_that_nobody_is_there(
    receiver: FakeReceiver, adapter: Webhook, status: int, state: str
) -> None:
    receiver.fail(status)
    assert (await adapter.health()).state == state


async def test_health_is_degraded_while_one_of_two_is_down_and_names_it(receiver: FakeReceiver) -> None:
    async with FakeReceiver() as other:
        both = {"endpoints": [endpoint(receiver), endpoint(other, name="other")]}
        async with webhook(both) as adapter:
            other.go_down()
            health = await adapter.health()
            assert (health.state, health.detail) == ("degraded", f"other: {other.url} answered 503")
            receiver.go_down()
            assert (await adapter.health()).state == "unhealthy"


async def test_health_is_told_within_five_seconds_however_many_receivers_hang(receiver: FakeReceiver) -> None:
    held = [receiver.hold() for _ in range(20)]
    hanging = [endpoint(receiver, name=f"number-{number}") for number in range(20)]
    async with webhook({"endpoints": hanging}) as adapter:
        started = time.monotonic()
        health = await adapter.health()
    assert time.monotonic() - started < 5
    assert health.state == "unhealthy"
    assert "/hook" not in health.detail
    for one in held:
        one.released.set()
