"""CloudWatch in front of its stand-in: what is there afterwards, and what an answer means."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import MigrationCompleted, MigrationStarted
from integrations.base import Delivery, Notification, Outcome
from integrations.cloudwatch import CloudWatch, client
from integrations.cloudwatch import fake as fake_module
from integrations.cloudwatch.fake import SHAPES, FakeCloudWatch
from integrations.errors import AuthFailed, IntegrationError, NotReady, RateLimited, Rejected, ServiceFault
from integrations.testing.rig import connected

DELIVERY = Delivery("key-1")


@pytest.fixture
async def fake() -> AsyncIterator[FakeCloudWatch]:
    async with FakeCloudWatch() as fake:
        yield fake


@pytest.fixture
async def cloudwatch(fake: FakeCloudWatch) -> AsyncIterator[CloudWatch]:
    async with connected(CloudWatch, fake) as adapter:
        assert isinstance(adapter, CloudWatch)
        yield adapter


def completed() -> Event[Any]:
    return catalog.event(MigrationCompleted(migration="add_email", environment="production", duration_ms=2310))


async def test_a_duration_is_put_signed_and_acknowledged(fake: FakeCloudWatch, cloudwatch: CloudWatch) -> None:
    result = await cloudwatch.handle_event(completed(), DELIVERY)
    assert (result.outcome, result.reference) == (Outcome.DELIVERED, "request-1")
    (datum,) = fake.data
    assert (datum["Namespace"], datum["MetricName"], datum["Value"]) == ("Confiture", "MigrationDuration", 2310)


async def test_what_nothing_measures_is_skipped(fake: FakeCloudWatch, cloudwatch: CloudWatch) -> None:
    result = await cloudwatch.handle_event(catalog.event(MigrationStarted(migration="m")), DELIVERY)
    assert (result.outcome, result.detail) == (Outcome.SKIPPED, "no measure asks for migration.started")
    assert fake.requests == []


@pytest.mark.parametrize("what", ["key", "secret", "region"])
async def test_a_signature_that_is_not_right_puts_nothing(fake: FakeCloudWatch, what: str) -> None:
    wrong = {
        "key": {"access_key_id": "B" * 20},
        "secret": {"secret_access_key": "x"},
        "region": {"region": "eu-west-1"},
    }
    async with connected(CloudWatch, fake, fake.settings() | wrong[what]) as adapter:
        with pytest.raises(AuthFailed, match="check access_key_id and secret_access_key"):
            await adapter.handle_event(completed(), DELIVERY)
    assert fake.data == []


async def test_a_clock_that_is_wrong_is_named_as_a_likely_cause(
    fake: FakeCloudWatch, cloudwatch: CloudWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = SimpleNamespace(time=lambda: time.time() + 600, monotonic=time.monotonic)
    monkeypatch.setattr(fake_module, "time", ahead)
    with pytest.raises(AuthFailed, match="set this machine's clock by a time server"):
        await cloudwatch.handle_event(completed(), DELIVERY)
    assert (await cloudwatch.health()).state == "unhealthy"


@pytest.mark.parametrize("code", sorted(client.AUTH))
@pytest.mark.parametrize("status", [400, 403])
async def test_credentials_that_are_refused_are_told_with_what_to_do(
    fake: FakeCloudWatch, cloudwatch: CloudWatch, code: str, status: int
) -> None:
    fake.fail(status, body=json.dumps({"__type": SHAPES + code, "message": "no"}))
    with pytest.raises(AuthFailed) as caught:
        await cloudwatch.handle_event(completed(), DELIVERY)
    assert caught.value.detail.endswith(client.AUTH[code])


@pytest.mark.parametrize("code", ["Throttling", "ThrottlingException", "RequestLimitExceeded", "LimitExceeded"])
async def test_throttling_is_a_limit_though_its_status_is_400(
    fake: FakeCloudWatch, cloudwatch: CloudWatch, code: str
) -> None:
    fake.fail(400, body=json.dumps({"__type": code, "message": "Rate exceeded"}))
    with pytest.raises(RateLimited) as caught:
        await cloudwatch.handle_event(completed(), DELIVERY)
    assert caught.value.retry_after == timedelta(seconds=1)


@pytest.mark.parametrize(
    ("status", "body", "headers", "error"),
    [
        (400, {"__type": f"{SHAPES}InvalidParameterValueException", "message": "Unit"}, {}, Rejected),
        (400, {}, {"x-amzn-query-error": "Throttling;Sender"}, RateLimited),
        (400, {"__type": "ThrottlingException:http://internal.amazon.com/"}, {}, RateLimited),
        (400, {"__type": "RequestTimeoutException"}, {}, NotReady),
        (413, {"__type": "RequestEntityTooLargeException"}, {}, Rejected),
        (429, {}, {}, RateLimited),
        (500, {"__type": f"{SHAPES}InternalServiceFault"}, {}, ServiceFault),
        (503, {}, {}, ServiceFault),
        (403, {}, {}, AuthFailed),
    ],
)
async def test_the_code_of_an_answer_decides_before_its_status(
    fake: FakeCloudWatch,
    cloudwatch: CloudWatch,
    status: int,
    body: dict[str, str],
    headers: dict[str, str],
    error: type[IntegrationError],
) -> None:
    fake.fail(status, body=json.dumps(body), headers=headers)
    with pytest.raises(error):
        await cloudwatch.handle_event(completed(), DELIVERY)


@pytest.mark.parametrize("body", ["", "[]", "<ErrorResponse/>", '{"__type": 7}', "null"])
async def test_an_answer_of_somebody_else_is_refused_and_shown(
    fake: FakeCloudWatch, cloudwatch: CloudWatch, body: str
) -> None:
    fake.fail(404, body=body)
    with pytest.raises(Rejected, match="CloudWatch answered 404"):
        await cloudwatch.handle_event(completed(), DELIVERY)


async def test_health_puts_nothing_and_another_service_at_the_address_is_not_healthy(
    fake: FakeCloudWatch, cloudwatch: CloudWatch
) -> None:
    assert (await cloudwatch.health()).state == "healthy"
    fake.fail(404, body="<html>")
    assert (await cloudwatch.health()).state == "unhealthy"
    fake.fail(400, body=json.dumps({"__type": "AccessDeniedException", "message": "not authorized"}))
    health = await cloudwatch.health()
    assert (health.state, "cloudwatch:PutMetricData" in health.detail) == ("unhealthy", True)
    assert fake.data == []


async def test_the_doctor_looks_at_credentials_rights_and_clock(fake: FakeCloudWatch, cloudwatch: CloudWatch) -> None:
    found = [(one.about, one.level) for one in await cloudwatch.examine()]
    assert found == [("credentials", "ok"), ("rights", "ok"), ("clock", "ok")]
    fake.reject_credentials = True
    assert [(one.about, one.level) for one in await cloudwatch.examine()][1] == ("rights", "fail")
    assert fake.data == []


async def test_requests_are_spaced_a_tenth_below_the_quota(fake: FakeCloudWatch) -> None:
    async with connected(CloudWatch, fake, fake.settings() | {"max_per_second": 500}) as adapter:
        (budget,) = adapter.budgets(completed(), DELIVERY)
    assert (budget.count, budget.per, budget.each) == (450, timedelta(seconds=1), "account")


async def test_it_notifies_nobody(cloudwatch: CloudWatch) -> None:
    with pytest.raises(Rejected, match="cloudwatch sends no notifications"):
        await cloudwatch.send_notification(Notification(message="m"), DELIVERY)
