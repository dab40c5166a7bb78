"""What the doctor finds about endpoints: each check sees well and ill on the stand-in."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from integrations.base import Examined, Finding
from integrations.testing.context import make_context
from integrations.webhook import Webhook
from integrations.webhook.book import Book
from integrations.webhook.fake import FakeReceiver
from integrations.webhook.standing import Off

Connect = Callable[..., Awaitable[Webhook]]


@pytest.fixture
async def receiver() -> AsyncIterator[FakeReceiver]:
    async with FakeReceiver() as receiver:
        yield receiver


@pytest.fixture
async def connect(receiver: FakeReceiver) -> AsyncIterator[Connect]:
    """Makes adapters with the receiver as their endpoint, with settings of it changed."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> Webhook:
            (endpoint,) = receiver.settings()["endpoints"]
            webhook, context = Webhook(), make_context(Webhook, {"endpoints": [endpoint | changes]})
            stack.push_async_callback(context.http.close)
            stack.push_async_callback(webhook.close)
            await webhook.initialize(context)
            return webhook

        yield make


async def found(adapter: Webhook) -> dict[str, Finding]:
    assert isinstance(adapter, Examined)
    return {one.about: one for one in await adapter.examine()}


async def test_all_is_well_and_nothing_is_sent(receiver: FakeReceiver, connect: Connect) -> None:
    every = await found(await connect())
    assert {about: one.level for about, one in every.items()} == {
        "endpoint receiver": "ok",
        "way to receiver": "ok",
        "clock": "ok",
        "signature of receiver": "ok",
    }
    assert receiver.received == []


async def test_an_endpoint_that_is_off_or_failing_is_found(connect: Connect) -> None:
    webhook = await connect()
    book = Book(webhook.context.store)
    await book.failed("receiver", 1_768_208_400)
    finding = (await found(webhook))["endpoint receiver"]
    assert (finding.level, finding.what) == ("warn", "every attempt since 2026-01-12 09:00+00:00 failed: 1")
    await book.switch_off("receiver", Off(1_768_208_400, "they moved"))
    finding = (await found(webhook))["endpoint receiver"]
    assert (finding.level, finding.what) == ("fail", "switched off since 2026-01-12 09:00+00:00: they moved")
    assert finding.fix.endswith("eventbus webhooks enable receiver")


async def test_an_address_that_the_guard_refuses_is_found(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    async def private(host: str, port: int) -> list[Any]:
        return [ipaddress.ip_address("10.0.0.7")]

    monkeypatch.setattr("integrations.guard._addresses", private)
    webhook = await connect(url="https://inside.example.com/canary", allow_private=[])
    finding = (await found(webhook))["way to receiver"]
    assert (finding.level, "10.0.0.7" in finding.what) == ("fail", True)
    assert "canary" not in repr(finding)


async def test_a_receiver_that_is_gone_or_behind_a_proxy_that_says_so_is_found(
    receiver: FakeReceiver, connect: Connect
) -> None:
    webhook = await connect()
    receiver.go_down(502)
    assert (await found(webhook))["way to receiver"].level == "fail"
    gone = await connect(url="http://127.0.0.1:1/hook")
    assert (await found(gone))["way to receiver"].level == "fail"


@pytest.mark.parametrize(("seconds", "level"), [(30, "ok"), (-90, "warn"), (400, "fail")])
async def test_a_clock_that_is_off_is_found(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, seconds: float, level: str
) -> None:
    now = time.time
    monkeypatch.setattr("integrations.findings.time.time", lambda: now() + seconds)
    assert (await found(await connect()))["clock"].level == level


@pytest.mark.parametrize(
    ("secret", "form", "level"), [(None, "standard", "warn"), ("short", "plain", "warn"), ("f" * 32, "plain", "ok")]
)
async def test_what_is_not_signed_or_weakly_is_found(
    connect: Connect, secret: str | None, form: str, level: str
) -> None:
    assert (await found(await connect(secret=secret, format=form)))["signature of receiver"].level == level


async def test_a_way_that_everybody_can_read_is_found(connect: Connect) -> None:
    webhook = await connect(url="http://receiver.invalid/hook", allow_private=[])
    levels = [one for one in await webhook.examine() if one.about == "way to receiver"]
    assert "is not encrypted" in levels[-1].what
