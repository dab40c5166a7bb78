"""Webhooks: who may send one, what becomes of it, and what is no news."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
import structlog.testing

from eventbus.codec import decode, encode
from eventbus.topics import AlertFiring, AlertResolved
from integrations.alertmanager.config import AlertmanagerConfig
from integrations.alertmanager.fake import FakeAlertmanager
from integrations.alertmanager.inbound import MAX_ALERTS, MAX_BYTES, REMEMBER, Inbox, parse
from integrations.errors import Malformed, TooLarge, Unauthorized


@pytest.fixture(scope="module")
def sender() -> Iterator[FakeAlertmanager]:
    """Only its webhooks are used here, so it is never started."""
    fake = FakeAlertmanager()
    yield fake
    fake._socket.close()


def inbox(sender: FakeAlertmanager, **settings: Any) -> Inbox:
    config = AlertmanagerConfig.model_validate(sender.settings() | settings)
    return Inbox(config, structlog.get_logger())


async def test_an_alert_that_fires_becomes_an_event(sender: FakeAlertmanager) -> None:
    alert = sender.alert()
    reply = await inbox(sender).receive(sender.webhook(sender.message(alert)))
    (event,) = reply.events
    assert (event.topic, event.key) == ("alertmanager.alert.firing", f"alertmanager:{alert['fingerprint']}")
    assert (event.source, event.subject) == ("https://alertmanager.example.com", alert["fingerprint"])
    assert event.time == datetime(2026, 1, 12, 10, 30, 0, 123456, tzinfo=UTC)
    assert isinstance(event.data, AlertFiring)
    assert (event.data.name, event.data.severity, event.data.ours) == ("DiskAlmostFull", "critical", False)
    assert (event.data.labels, event.data.annotations) == (alert["labels"], alert["annotations"])
    assert event.data.url == alert["generatorURL"]
    assert (reply.status, reply.remember) == (200, REMEMBER)
    assert decode(event.topic, encode(event)) == event


async def test_every_alert_of_a_message_is_an_event_of_its_own(sender: FakeAlertmanager) -> None:
    alerts = [sender.alert("resolved" if n else "firing", labels={"alertname": "A", "n": str(n)}) for n in range(2)]
    events = (await inbox(sender).receive(sender.webhook(sender.message(*alerts, alerts[0])))).events
    assert [event.topic for event in events] == ["alertmanager.alert.firing", "alertmanager.alert.resolved"]
    assert isinstance(events[1].data, AlertResolved)
    assert events[1].data.ends_at == events[1].time == datetime(2026, 1, 12, 10, 42, 0, 500_000, tzinfo=UTC)


async def test_an_alert_that_is_too_large_for_the_bus_takes_no_other_along(sender: FakeAlertmanager) -> None:
    huge = sender.alert(labels={"alertname": "B"}) | {"annotations": {f"a{n}": "z" * 10_000 for n in range(40)}}
    reply = await inbox(sender).receive(sender.webhook(sender.message(huge, sender.alert(labels={"alertname": "A"}))))
    assert [getattr(event.data, "name", None) for event in reply.events] == ["A"]


# -- once --------------------------------------------------------------------------------------------------------------


async def test_what_alertmanager_repeats_has_the_name_it_had_and_what_was_said_first_stays(
    sender: FakeAlertmanager,
) -> None:
    """It sends an alert again while it fires; a value in an annotation has changed then, and so may group and receiver
    have."""
    alert = sender.alert()
    louder = alert | {"annotations": {"summary": "3 % are left"}, "generatorURL": "https://other.example.com/"}
    messages = [sender.message(alert), sender.message(louder, receiver="other", groupKey="{}:{}")]
    replies = [await inbox(sender).receive(sender.webhook(message)) for message in messages]
    assert len({event.idempotency_key for reply in replies for event in reply.events}) == 1
    assert all(reply.first_wins for reply in replies)


async def test_what_begins_or_ends_another_time_is_news(sender: FakeAlertmanager) -> None:
    alerts = [
        sender.alert(),
        sender.alert("resolved"),
        sender.alert("resolved", endsAt="2026-01-12T10:50:00Z"),
        sender.alert(startsAt="2026-01-13T10:30:00Z"),
    ]
    box = inbox(sender)
    keys = [(await box.receive(sender.webhook(sender.message(alert)))).events[0].idempotency_key for alert in alerts]
    assert len(set(keys)) == len(alerts)


async def test_the_same_moment_in_another_zone_is_no_news(sender: FakeAlertmanager) -> None:
    box, alerts = inbox(sender), [sender.alert(), sender.alert(startsAt="2026-01-12T11:30:00.123456+01:00")]
    keys = {(await box.receive(sender.webhook(sender.message(alert)))).events[0].idempotency_key for alert in alerts}
    assert len(keys) == 1


# -- whose doing -------------------------------------------------------------------------------------------------------


async def test_an_alert_that_we_sent_is_known_for_ours(sender: FakeAlertmanager) -> None:
    async def is_ours(labels: dict[str, str], **settings: Any) -> bool:
        alert = sender.alert(labels={"alertname": "A", **labels})
        (event,) = (await inbox(sender, **settings).receive(sender.webhook(sender.message(alert)))).events
        return bool(event.data.ours)

    assert await is_ours({"sent_by": "eventbus"})
    assert await is_ours({"sent_by": "bus-2"}, sent_by="bus-2")
    assert not await is_ours({"sent_by": "eventbus"}, sent_by="bus-2")
    assert not await is_ours({})


# -- who may send one --------------------------------------------------------------------------------------------------


async def test_the_scheme_may_be_written_in_any_case(sender: FakeAlertmanager) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        request = sender.webhook(sender.message(), authorization=f"{scheme} {sender.webhook_token}")
        assert (await inbox(sender).receive(request)).status == 200


async def test_a_user_and_a_password_will_do(sender: FakeAlertmanager) -> None:
    box = inbox(sender, webhook_token="", webhook_username="am", webhook_password="canary:1")
    proof = base64.b64encode(b"am:canary:1").decode()
    assert (await box.receive(sender.webhook(sender.message(), authorization=f"Basic {proof}"))).status == 200
    for wrong in ("am:canary", "am:canary:2", ":canary:1", "AM:canary:1"):
        forged = f"Basic {base64.b64encode(wrong.encode()).decode()}"
        with pytest.raises(Unauthorized):
            await box.receive(sender.webhook(sender.message(), authorization=forged))


async def test_while_the_token_is_replaced_either_will_do(sender: FakeAlertmanager) -> None:
    box = inbox(sender, webhook_token="new", previous_webhook_tokens=["old"])
    for token in ("new", "old"):
        await box.receive(sender.webhook(sender.message(), authorization=f"Bearer {token}"))
    with pytest.raises(Unauthorized):
        await box.receive(sender.webhook(sender.message(), authorization="Bearer older"))


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "canary-webhook-token", "Basic canary-webhook-token"])
async def test_a_forged_proof_publishes_nothing_and_learns_nothing(sender: FakeAlertmanager, given: str) -> None:
    request = sender.webhook(b"not even JSON")
    with pytest.raises(Unauthorized, match=r"^not authorized$"):
        await inbox(sender).receive(replace(request, headers={**request.headers, "authorization": given}))


async def test_without_a_token_everything_is_refused_and_the_log_says_why(sender: FakeAlertmanager) -> None:
    closed = inbox(sender, webhook_token="", previous_webhook_tokens=["old"])
    for given in ("Bearer ", "Bearer old"):
        with pytest.raises(Unauthorized) as caught:
            await closed.receive(sender.webhook(sender.message(), authorization=given))
        assert "neither webhook_token nor webhook_username is set" in caught.value.reason


# -- what is not a message ---------------------------------------------------------------------------------------------


def changed(sender: FakeAlertmanager, **alert: Any) -> bytes:
    return json.dumps(sender.message(sender.alert() | alert)).encode()


@pytest.mark.parametrize(
    "alert",
    [
        {"fingerprint": ""},
        {"fingerprint": "../../x"},
        {"fingerprint": None},
        {"labels": {}},
        {"labels": {"a": 1}},
        {"labels": None},
        {"annotations": ["x"]},
        {"startsAt": "soon"},
        {"startsAt": "2026-01-12T10:30:00"},
        {"endsAt": "0001-01-01T00:00:00+23:00"},
        {"endsAt": "9999-12-31T23:59:59-23:00"},
        {"status": None},
    ],
)
async def test_an_alert_that_is_none_is_malformed(sender: FakeAlertmanager, alert: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        await inbox(sender).receive(sender.webhook(changed(sender, **alert)))


@pytest.mark.parametrize("version", ["3", "5", 4, None])
async def test_another_version_is_malformed(sender: FakeAlertmanager, version: Any) -> None:
    with pytest.raises(Malformed, match="version 4"):
        await inbox(sender).receive(sender.webhook(sender.message(sender.alert(), version=version)))


def test_a_refusal_never_repeats_the_body() -> None:
    with pytest.raises(Malformed) as caught:
        parse(b'{"version": "canary", "alerts": [{"status": "canary", "labels": {"a": ["canary"]}}]}')
    assert "canary" not in f"{caught.value.detail} {caught.value.reason}"


async def test_a_message_that_is_too_large_is_refused(sender: FakeAlertmanager) -> None:
    with pytest.raises(TooLarge, match="set max_alerts"):
        await inbox(sender).receive(sender.webhook(b" " * (MAX_BYTES + 1)))
    many = sender.message(*(sender.alert(labels={"n": str(n)}) for n in range(MAX_ALERTS + 1)))
    with pytest.raises(TooLarge, match="set max_alerts"):
        await inbox(sender).receive(sender.webhook(many))


async def test_alerts_that_alertmanager_left_out_are_said_in_the_log(sender: FakeAlertmanager) -> None:
    with structlog.testing.capture_logs() as lines:
        await inbox(sender).receive(sender.webhook(sender.message(sender.alert(), truncatedAlerts=7)))
    assert [(line["log_level"], line["count"]) for line in lines] == [("warning", 7)]


async def test_an_odd_address_is_left_out_and_a_long_annotation_is_cut(sender: FakeAlertmanager) -> None:
    alert = sender.alert(generatorURL="javascript:alert(1)", annotations={"summary": "x" * 50_000})
    message = sender.message(alert, externalURL="http://" + "x" * 3000)
    (event,) = (await inbox(sender).receive(sender.webhook(message))).events
    assert (event.data.url, event.source) == (None, "/alertmanager")
    assert len(event.data.annotations["summary"]) == 10_000


def test_events_are_remembered_longer_than_an_alert_is_repeated() -> None:
    # docs/configuration.md: repeat_interval is 4h by default, and Alertmanager keeps its data for 120h.
    assert timedelta(days=5) < REMEMBER
