"""What is said when PagerDuty does not do as asked: silence, no connection and a refusal are three different things."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from integrations.base import Delivery, Notification, Severity
from integrations.errors import OutcomeUnknown, Rejected, Unreachable
from integrations.pagerduty import client
from integrations.pagerduty.fake import FakePagerDuty
from tests.integrations.pagerduty.conftest import Connect

ALERT = Notification(message="lock timeout", severity=Severity.CRITICAL)


async def test_silence_leaves_open_whether_somebody_was_paged_and_says_how_long_was_waited(
    fake: FakePagerDuty, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real limit is ten seconds, which nobody who publishes waits for."""
    assert timedelta(seconds=10) == client.TIMEOUT
    monkeypatch.setattr(client, "TIMEOUT", timedelta(seconds=0.2))
    adapter, held = await connect(), fake.hold()
    async with asyncio.timeout(5):
        with pytest.raises(OutcomeUnknown, match=r"did not answer within 0\.2 s"):
            await adapter.send_notification(ALERT, Delivery("key"))
    held.released.set()


async def test_a_refused_connection_means_that_surely_nobody_was_paged(connect: Connect) -> None:
    adapter = await connect(base_url="http://127.0.0.1:1")
    with pytest.raises(Unreachable):
        await adapter.send_notification(ALERT, Delivery("key"))


async def test_a_refusal_is_told_in_pagerdutys_words(fake: FakePagerDuty, connect: Connect) -> None:
    fake.fail(400, body='{"status": "invalid event", "message": "Event object is invalid", "errors": ["no summary"]}')
    with pytest.raises(Rejected, match="no summary"):
        await (await connect()).send_notification(ALERT, Delivery("key"))
