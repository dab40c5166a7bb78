from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import structlog.testing

from eventbus.errors import Unavailable
from integrations.base import Artifact, Delivery, InboundReply
from integrations.errors import IntegrationError, Misconfigured, NotReady, RateLimited, Unreachable
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack

MakeSlack = Callable[..., Awaitable[Slack]]


class Gateway:
    """Takes what came; `refuse` makes it fail first, `hold` keeps it from becoming durable."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.asked = 0
        self.refusals = 0
        self.durable = asyncio.Event()
        self.durable.set()

    async def accept(self, reply: InboundReply) -> None:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("Redis is away")
        self.asked += 1
        await self.durable.wait()
        self.topics += [event.topic for event in reply.events]


@pytest.fixture
async def slack(make_slack: MakeSlack, fake: FakeSlack) -> Slack:
    return await make_slack(fake.socket_settings())


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@asynccontextmanager
async def listening(slack: Slack, fake: FakeSlack, gateway: Gateway) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(slack.listen(gateway.accept))
    async with asyncio.timeout(10):
        await fake.socket.connected.wait()
        yield task
    task.cancel()
    await asyncio.wait([task])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # the condition is the other side's
            await asyncio.sleep(0.005)


async def test_commands_buttons_and_events_come_in_and_are_acknowledged(
    slack: Slack, fake: FakeSlack, gateway: Gateway
) -> None:
    await slack.create_artifact(Artifact(type="approval", content={"title": "Deploy?"}), Delivery("k"))
    async with listening(slack, fake, gateway):
        sent = [
            await fake.socket.send(signed)
            for signed in (
                fake.slash_command("/eventbus-status"),
                fake.event_callback({"type": "app_mention", "text": "hi"}),
                fake.press(fake.messages[0], "approve"),
            )
        ]
        await until(lambda: len(fake.socket.acknowledged) == 3)
    assert sorted(gateway.topics) == [
        "approval.granted",
        "approval.voted",
        "slack.app_mention",
        "slack.command.status",
    ]
    said = {one["envelope_id"]: one.get("payload", {}) for one in fake.socket.acknowledged}
    assert set(said) == set(sent)
    assert said[sent[0]]["response_type"] == "ephemeral"
    assert said[sent[1]] == {}


async def test_nothing_is_acknowledged_before_it_is_durable(slack: Slack, fake: FakeSlack, gateway: Gateway) -> None:
    gateway.durable.clear()
    async with listening(slack, fake, gateway):
        await fake.socket.send(fake.slash_command("/eventbus-status"))
        await fake.socket.send(fake.slash_command("/eventbus-help"))
        await until(lambda: gateway.asked == 2)
        assert (gateway.topics, fake.socket.acknowledged) == ([], [])
        gateway.durable.set()
        await until(lambda: len(fake.socket.acknowledged) == 2)
    assert gateway.topics == ["slack.command.status"]


async def test_what_could_not_be_published_is_left_to_come_again(
    slack: Slack, fake: FakeSlack, gateway: Gateway
) -> None:
    gateway.refusals = 1
    signed = fake.event_callback({"type": "app_mention", "text": "hi"})
    async with listening(slack, fake, gateway):
        first = await fake.socket.send(signed)
        await until(lambda: gateway.refusals == 0)
        second = await fake.socket.send(fake.slash_command("/eventbus-help"))
        await until(lambda: fake.socket.acknowledged)
        await fake.socket.send(signed, again=first)
        await until(lambda: len(fake.socket.acknowledged) == 2)
    assert [one["envelope_id"] for one in fake.socket.acknowledged] == [second, first]
    assert gateway.topics == ["slack.app_mention"]


async def test_nonsense_ends_nothing(slack: Slack, fake: FakeSlack, gateway: Gateway) -> None:
    async with listening(slack, fake, gateway):
        for text in (
            "",
            "{",
            "[1]",
            '"x"',
            "[" * 5000,
            '{"envelope_id": "e", "payload": {"command": 7}}',
            '{"type": 1}',
        ):
            await fake.socket.say(text)
        sent = await fake.socket.send(fake.slash_command("/eventbus-help"))
        await until(lambda: fake.socket.acknowledged)
    assert [one["envelope_id"] for one in fake.socket.acknowledged] == [sent]


async def test_a_connection_that_slack_ends_is_finished_in_order(
    slack: Slack, fake: FakeSlack, gateway: Gateway
) -> None:
    gateway.durable.clear()
    async with listening(slack, fake, gateway) as task:
        await fake.socket.send(fake.slash_command("/eventbus-status"))
        await fake.socket.disconnect()
        gateway.durable.set()
        await task
        await until(lambda: fake.socket.acknowledged)
    fake.socket.connected.clear()
    async with listening(slack, fake, gateway):
        await fake.socket.send(fake.slash_command("/eventbus-status"))
        await until(lambda: len(fake.socket.acknowledged) == 2)


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (lambda fake: fake.go_down(), IntegrationError),
        (lambda fake: fake.fail(429, headers={"Retry-After": "30"}), RateLimited),
        (lambda fake: fake.refuse("invalid_auth"), IntegrationError),
    ],
)
async def test_without_a_socket_the_error_says_what_to_do(
    slack: Slack, fake: FakeSlack, gateway: Gateway, trouble: Callable[[FakeSlack], None], kind: type[IntegrationError]
) -> None:
    trouble(fake)
    with pytest.raises(kind):
        await slack.listen(gateway.accept)


async def test_a_socket_that_is_refused_is_not_shown_with_its_ticket(
    slack: Slack, fake: FakeSlack, gateway: Gateway
) -> None:
    address = await fake.socket.open()
    for stale, kind in ((f"{address}x", NotReady), ("ws://127.0.0.1:1/fake-ticket-secret", Unreachable)):
        fake.fail(200, body=f'{{"ok": true, "url": "{stale}"}}', headers={"content-type": "application/json"})
        with structlog.testing.capture_logs() as logs, pytest.raises(kind) as caught:
            await slack.listen(gateway.accept)
        assert "ticket" not in repr(caught.value) + repr(logs)


async def test_socket_mode_needs_its_token(make_slack: MakeSlack, gateway: Gateway) -> None:
    with pytest.raises(Misconfigured, match="app_token"):
        await (await make_slack()).listen(gateway.accept)
