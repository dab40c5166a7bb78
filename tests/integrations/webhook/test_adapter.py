"""`webhook` against receivers that verify, refuse, fail, hang and are gone."""

from __future__ import annotations

import asyncio
import re
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import JsonValue, ValidationError

from eventbus.catalog import catalog
from eventbus.errors import Unavailable
from eventbus.topics import DeliveryDeadLettered, TaskFailed
from integrations.base import Artifact, Delivery, Notification, Outcome, Target
from integrations.errors import (
    AuthFailed,
    Disabled,
    IntegrationError,
    Misconfigured,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.http import Http
from integrations.testing.context import MemoryStore, make_context
from integrations.webhook import Webhook
from integrations.webhook.book import Book
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
        (410, Disabled),
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
    assert f"answered {status}" in caught.value.detail
    assert "/hook" not in caught.value.detail
    again = kind in (NotReady, RateLimited, ServiceFault)
    wait = timedelta(minutes=1) if kind is Disabled else timedelta(seconds=7) if again else None
    assert caught.value.retry_after == wait
    assert len(receiver.requests) == 1, "neither followed nor tried again"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_delivered(receiver: FakeReceiver, adapter: Webhook, status: int) -> None:
    receiver.fail(status)
    assert (await adapter.handle_event(EVENT, DELIVERY)).outcome is Outcome.DELIVERED


async def test_a_redirect_is_refused_and_says_what_to_do(receiver: FakeReceiver, adapter: Webhook) -> None:
    receiver.fail(307, headers={"Location": "http://169.254.169.254/latest/meta-data/"})
    with pytest.raises(Rejected, match="redirects are not followed; give endpoint receiver its final address"):
        await adapter.handle_event(EVENT, DELIVERY)
    assert len(receiver.requests) == 1


async def test_a_receiver_may_want_no_more_attempts_of_one_message(receiver: FakeReceiver, adapter: Webhook) -> None:
    receiver.fail(503, headers={"webhook-delivery": "abort-message", "Retry-After": "7"})
    with pytest.raises(Rejected, match="answered 503 and wants no more attempts of this message"):
        await adapter.handle_event(EVENT, DELIVERY)
    assert (await adapter.handle_event(EVENT, Delivery("key-2", "receiver"))).outcome is Outcome.DELIVERED


@pytest.mark.parametrize(("retries", "attempt", "kind"), [(2, 2, ServiceFault), (2, 3, Rejected), (0, 1, Rejected)])
async def test_an_endpoint_may_allow_fewer_attempts(
    receiver: FakeReceiver, retries: int, attempt: int, kind: type[IntegrationError]
) -> None:
    async with webhook({"endpoints": [endpoint(receiver, retries=retries)]}) as adapter:
        receiver.fail(500)
        with pytest.raises(kind):
            await adapter.handle_event(EVENT, Delivery("key-1", "receiver", attempt=attempt))


async def test_a_limit_or_a_bad_secret_is_waited_for_however_few_attempts_are_allowed(receiver: FakeReceiver) -> None:
    async with webhook({"endpoints": [endpoint(receiver, retries=0)]}) as adapter:
        for status, kind in ((429, RateLimited), (401, AuthFailed)):
            receiver.fail(status)
            with pytest.raises(kind):
                await adapter.handle_event(EVENT, Delivery("key-1", "receiver", attempt=9))


# -- switched off ------------------------------------------------------------------------------------------------------


async def held(adapter: Webhook, key: str = "key-1") -> Disabled:
    with pytest.raises(Disabled) as caught:
        await adapter.handle_event(EVENT, Delivery(key, "receiver"))
    return caught.value


@asynccontextmanager
async def beside(adapter: Webhook) -> AsyncIterator[Webhook]:
    """Another worker with the same book, or the same one after a restart."""
    other = Webhook()
    await other.initialize(adapter.context)
    try:
        yield other
    finally:
        await other.close()


async def test_a_receiver_that_is_gone_is_switched_off_at_once_and_its_event_is_held(
    receiver: FakeReceiver, adapter: Webhook
) -> None:
    receiver.gone = True
    error = await held(adapter)
    assert "the receiver answered 410: it wants no more webhooks" in error.detail
    assert error.detail.endswith("eventbus webhooks enable receiver")
    receiver.gone = False
    async with beside(adapter) as other:
        again = await held(other, "key-2")
    assert again.since == error.since, "one occasion, told once"
    assert len(receiver.requests) == 1, "nothing is sent while it is off"
    await Book(adapter.context.store).switch_on("receiver")
    assert (await adapter.handle_event(EVENT, DELIVERY)).outcome is Outcome.DELIVERED


async def test_many_at_once_meet_one_switch(receiver: FakeReceiver, adapter: Webhook) -> None:
    receiver.gone = True
    errors = await asyncio.gather(*(held(adapter, f"key-{number}") for number in range(20)))
    assert len({error.since for error in errors}) == 1


async def test_a_receiver_that_accepts_and_disables_itself_has_got_this_one(
    receiver: FakeReceiver, adapter: Webhook
) -> None:
    receiver.wish = "disable"
    assert (await adapter.handle_event(EVENT, DELIVERY)).outcome is Outcome.DELIVERED
    assert "webhook-delivery: disable" in (await held(adapter, "key-2")).detail
    assert len(receiver.received) == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The wall clock that adapter and client read."""
    clock = Clock()
    monkeypatch.setattr("integrations.webhook.client.time.time", clock)
    return clock


class Clock:
    """A day is over in no time."""

    def __init__(self) -> None:
        self.now = time.time()
        self.began = self.now

    def __call__(self) -> float:
        return self.now

    def after(self, days: float) -> None:
        self.now = self.began + days * 86_400


async def failing(receiver: FakeReceiver, adapter: Webhook) -> IntegrationError:
    receiver.fail(500)
    with pytest.raises(IntegrationError) as caught:
        await adapter.handle_event(EVENT, DELIVERY)
    return caught.value


async def test_five_days_of_failures_switch_it_off_and_a_restart_does_not_forget_them(
    receiver: FakeReceiver, adapter: Webhook, clock: Clock
) -> None:
    for day in range(5):
        clock.after(day)
        async with beside(adapter) as other:
            assert isinstance(await failing(receiver, other), ServiceFault)
    clock.after(4.99)
    assert isinstance(await failing(receiver, adapter), ServiceFault)
    clock.after(5)
    error = await failing(receiver, adapter)
    assert isinstance(error, Disabled)
    assert re.search(r"7 attempts since .* failed and none succeeded", error.detail)
    async with beside(adapter) as other:
        assert (await held(other)).since == error.since


async def test_one_success_clears_the_clock(receiver: FakeReceiver, adapter: Webhook, clock: Clock) -> None:
    for day in range(12):
        clock.after(day)
        assert isinstance(await failing(receiver, adapter), ServiceFault)
        if day == 4:
            async with beside(adapter) as other:  # whoever it is
                await other.handle_event(EVENT, DELIVERY)
        if day == 8:
            await adapter.handle_event(EVENT, DELIVERY)


async def test_how_many_days_the_endpoint_says(receiver: FakeReceiver, clock: Clock) -> None:
    both = [endpoint(receiver, disable_after_days=0.5), endpoint(receiver, name="never", disable_after_days=0)]
    async with webhook({"endpoints": both}) as adapter:
        await failing(receiver, adapter)
        clock.after(0.5)
        assert isinstance(await failing(receiver, adapter), Disabled)
        for day in range(30):
            clock.after(day)
            receiver.fail(500)
            with pytest.raises(ServiceFault):
                await adapter.handle_event(EVENT, Delivery("key-1", "never"))


async def test_one_endpoint_that_is_off_holds_no_other(receiver: FakeReceiver) -> None:
    async with (
        FakeReceiver() as other,
        webhook({"endpoints": [endpoint(receiver), endpoint(other, name="other")]}) as adapter,
    ):
        receiver.gone = True
        await held(adapter)
        assert (await adapter.handle_event(EVENT, Delivery("key-1", "other"))).outcome is Outcome.DELIVERED
        health = await adapter.health()
    assert health.state == "degraded"
    assert "receiver is switched off since" in health.detail


class LostStore(MemoryStore):
    """A Redis that goes away while the request is under way."""

    is_away = False

    async def get(self, name: str) -> JsonValue:
        if self.is_away:
            raise Unavailable("away")
        return await super().get(name)

    async def put(self, name: str, value: JsonValue, *, lifetime: timedelta | None = None) -> None:
        raise Unavailable("away")


async def test_an_attempt_does_not_fail_because_it_can_not_be_written_down(
    receiver: FakeReceiver, adapter: Webhook
) -> None:
    store = LostStore()
    async with beside_with(adapter, store) as other:
        assert (await other.handle_event(EVENT, DELIVERY)).outcome is Outcome.DELIVERED
        assert isinstance(await failing(receiver, other), ServiceFault)
        receiver.gone = True
        assert "410" in (await held(other)).detail
        receiver.gone = False
        store.is_away = True
        sent = len(receiver.requests)
        with pytest.raises(Unavailable):
            await other.handle_event(EVENT, DELIVERY)
        assert len(receiver.requests) == sent, "nobody knows whether it is switched off: nothing is sent"
        assert (await other.health()).state == "healthy"


@asynccontextmanager
async def beside_with(adapter: Webhook, store: MemoryStore) -> AsyncIterator[Webhook]:
    other = Webhook()
    await other.initialize(replace(adapter.context, store=store))
    try:
        yield other
    finally:
        await other.close()


# -- attempts ----------------------------------------------------------------------------------------------------------


async def test_every_attempt_is_written_down_with_what_it_met(receiver: FakeReceiver, adapter: Webhook) -> None:
    before = time.time()
    await adapter.handle_event(EVENT, DELIVERY)
    for status, headers in ((429, {"Retry-After": "7"}), (404, {})):
        receiver.fail(status, body=f"says {status}", headers=headers)
        with pytest.raises(IntegrationError):
            await adapter.handle_event(EVENT, Delivery("key-2", "receiver", attempt=3))
    receiver.swallow("before")
    with pytest.raises(OutcomeUnknown):
        await adapter.send_notification(Notification(message="hello"), Delivery("key-3"))
    receiver.gone = True
    await held(adapter)
    await held(adapter)  # not sent, so no attempt
    found = await Book(adapter.context.store).attempts("receiver")
    assert [(one.outcome, one.status, one.number) for one in found] == [
        ("delivered", 204, 1),
        ("retry", 429, 3),
        ("rejected", 404, 3),
        ("retry", None, 1),
        ("held", 410, 1),
    ]
    assert [one.said for one in found][1:3] == ["says 429", "says 404"]
    assert [(one.topic, one.event_id) for one in found[:1]] == [(EVENT.topic, EVENT.id)]
    assert (found[3].topic, found[3].event_id, found[3].webhook_id) == ("notification", "", message_id("key-3"))
    assert found[1].not_before == pytest.approx(found[1].at + 7)
    assert all(before <= one.at <= time.time() and one.ms > 0 for one in found)


async def test_what_is_written_down_holds_no_secret_even_where_the_receiver_repeats_it(receiver: FakeReceiver) -> None:
    path = "/hooks/canary/of/ours?token=canary"
    secret = endpoint(receiver, url=receiver.url + path, headers={"Authorization": "Bearer canary-canary-canary"})
    async with webhook({"endpoints": [secret]}) as adapter:
        receiver.fail(404, body=f"Cannot POST {path} as Bearer canary-canary-canary")
        with pytest.raises(Rejected):
            await adapter.handle_event(EVENT, DELIVERY)
        (tried,) = await Book(adapter.context.store).attempts("receiver")
    assert tried.said.startswith("Cannot POST")
    assert "canary" not in repr(tried)


# -- what a receiver could do to us ------------------------------------------------------------------------------------


async def test_an_answer_without_an_end_is_cut_and_counts_as_what_its_status_says(
    receiver: FakeReceiver, adapter: Webhook
) -> None:
    receiver.talk = "endless"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = await adapter.handle_event(EVENT, DELIVERY)
    assert result.outcome is Outcome.DELIVERED
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024, "KiB"


async def test_an_answer_that_drips_ends_with_the_time_limit(receiver: FakeReceiver) -> None:
    receiver.talk = "slow"
    async with webhook({"endpoints": [endpoint(receiver, timeout=0.3)]}) as adapter:
        with pytest.raises(OutcomeUnknown, match=r"within 0\.3 s"):
            await adapter.handle_event(EVENT, DELIVERY)


async def test_an_endpoint_is_given_no_more_time_than_the_call_has(receiver: FakeReceiver) -> None:
    """Cut off by the dispatcher, the attempt would be in no book and start no clock."""
    held_back = receiver.hold()
    context = make_context(Webhook, {"endpoints": [endpoint(receiver, timeout=60)]})
    async with Http(timeout=timedelta(seconds=1)) as http:
        adapter = Webhook()
        await adapter.initialize(replace(context, http=http))
        with pytest.raises(OutcomeUnknown, match=r"within 0\.5 s"):
            await adapter.handle_event(EVENT, DELIVERY)
        (tried,) = await Book(context.store).attempts("receiver")
        await adapter.close()
    await context.http.close()
    held_back.released.set()
    assert tried.outcome == "retry"


async def test_an_endpoint_on_this_machine_needs_an_exception(receiver: FakeReceiver) -> None:
    with pytest.raises(ValidationError, match=r"127\.0\.0\.1 is not public"):
        make_context(Webhook, {"endpoints": [endpoint(receiver, allow_private=[])]})


async def test_a_name_that_leads_to_this_machine_is_not_connected_to_nor_by_health(
    receiver: FakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = socket.getaddrinfo

    def answer(host: str, *rest: Any, **more: Any) -> Any:
        return really("127.0.0.1" if host == "receiver.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    named = endpoint(receiver, url=receiver.url.replace("127.0.0.1", "receiver.example") + "/hook", allow_private=[])
    allowed = named | {"name": "allowed", "allow_private": ["receiver.example"]}
    async with webhook({"endpoints": [named, allowed]}) as adapter:
        await adapter.handle_event(EVENT, Delivery("key-1", "allowed"))
        for _ in range(2):  # the connection that the other endpoint has left is not used
            with pytest.raises(Unreachable, match=r"receiver\.example has the address 127\.0\.0\.1"):
                await adapter.handle_event(EVENT, DELIVERY)
        assert "not public" in (await adapter.health()).detail
    assert [request.method for request in receiver.requests] == ["POST", "HEAD"]


# -- what is known before anything is sent -----------------------------------------------------------------------------


async def test_a_preview_is_the_body_that_is_sent_and_shows_no_secret(receiver: FakeReceiver) -> None:
    settings = {"endpoints": [endpoint(receiver, headers={"Authorization": "Bearer canary"})]}
    async with webhook(settings) as adapter:
        (preview,) = adapter.preview(EVENT, DELIVERY)
        (told,) = adapter.preview(Notification(message="hello"), Delivery("key-2"))
        assert receiver.requests == []
        await adapter.handle_event(EVENT, DELIVERY)
        await adapter.send_notification(Notification(message="hello"), Delivery("key-2"))
    assert [preview.body, told.body] == [request.body.decode() for request in receiver.requests]
    assert (preview.doing, preview.request) == ("webhook to receiver", f"POST {receiver.url}")
    assert "/hook" not in repr(preview)
    assert "canary" not in repr(preview)


async def test_a_preview_of_what_is_not_sent_is_empty_and_of_an_artifact_refused(adapter: Webhook) -> None:
    assert adapter.preview(catalog.event(DeliveryDeadLettered.example()), DELIVERY) == ()
    with pytest.raises(Rejected):
        adapter.preview(Artifact(type="issue", content={}), DELIVERY)


async def test_a_place_is_an_endpoint_and_its_budget_what_it_says(receiver: FakeReceiver) -> None:
    two = [endpoint(receiver, max_per_minute=600), endpoint(receiver, name="free")]
    async with webhook({"endpoints": two}) as adapter:
        assert adapter.places(EVENT, DELIVERY) == ("receiver",)
        assert adapter.places(Notification(message="hello", target="free"), Delivery("key-1")) == ("free",)
        (budget,) = adapter.budgets(EVENT, DELIVERY)
        assert (budget.count, budget.per, budget.burst, budget.each) == (600, timedelta(minutes=1), 60, "place")
        assert adapter.budgets(EVENT, Delivery("key-1", "free")) == ()
        assert adapter.places(Artifact(type="issue", content={}), DELIVERY) == ()


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
