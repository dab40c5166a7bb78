"""One integration in trouble troubles no other: they do not notice, people hear of it, and later all is made up."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from eventbus import Backoff, EventBus, Options
from eventbus.gate import Breaker
from integrations.base import Integration
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.pagerduty import PagerDuty
from integrations.pagerduty.fake import FakePagerDuty
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack
from integrations.testing.fake import FakeService
from integrations.webhook import Webhook
from integrations.webhook.fake import FakeReceiver
from registry.account import Account
from registry.metrics import Metrics
from registry.registry import Registry
from registry.routes.model import Route, Routing
from registry.settings import Settings
from service.gateway.app import build_app
from service.http import serving
from service.wiring import Runtime
from tests.conftest import wait_until
from tests.e2e.services import NO_LIMIT, Answers, happened, numbers

MS = timedelta(milliseconds=1)
PATIENCE = 50.0
FOR_EVER = timedelta(seconds=60)
"""The longest that an endpoint may be given to answer: longer than the healthy get for everything."""
OPTIONS = Options(start="earliest", max_attempts=NO_LIMIT, backoff=Backoff(10 * MS, 100 * MS))
BREAKER = Breaker(first=100 * MS, longest=200 * MS)
"""The minutes of the real one, in tenths of seconds."""


def account(
    adapter: type[Integration[Any]], fake: FakeService, *topics: str, settings: dict[str, Any] | None = None, **how: Any
) -> Account:
    """An account in front of this stand-in, as quick to try again as a test needs it."""
    config = adapter.manifest.config.model_validate({**fake.settings(), **(settings or {})})
    manner: dict[str, Any] = {"options": OPTIONS, "breaker": BREAKER, "paced": False, **how}
    return Account(adapter.manifest.name, adapter(), config, topics=topics or None, **manner)


@asynccontextmanager
async def worker(
    url: str, namespace: str, *accounts: Account, routing: Routing | None = None
) -> AsyncIterator[tuple[EventBus, Registry]]:
    """A worker in this process, at work."""
    async with EventBus.open(url, namespace=namespace) as bus:
        registry = Registry(bus, Metrics(), serve=True, routing=routing)
        for one in accounts:
            registry.register(one)
        await registry.start()
        running = asyncio.create_task(bus.run())
        try:
            yield bus, registry
        finally:
            bus.stop()
            await running
            await registry.stop()


async def left(bus: EventBus, *groups: str) -> list[int]:
    """How many deliveries each group has not finished."""
    found = [await bus.backlog(group) for group in groups]
    return [backlog.left for backlog in found if backlog is not None]


async def finished(bus: EventBus, *groups: str) -> None:
    """Wait until these groups have nothing left, and see that they gave nothing up."""

    async def is_finished() -> bool:
        return await left(bus, *groups) == [0] * len(groups)

    await wait_until(is_finished, f"{groups} are finished", PATIENCE)
    assert [letter async for letter in bus.dead.find(groups=groups)] == []


# -- others do not notice ----------------------------------------------------------------------------------------------

EVENTS, TASKS = 100, 20


def in_order_and_once(seen: Iterable[int]) -> None:
    """Every event, none twice; those of one task in the order they were published in."""
    seen = list(seen)
    assert Counter(seen) == Counter(range(EVENTS))
    for task in range(TASKS):
        of_task = [number for number in seen if number % TASKS == task]
        assert of_task == sorted(of_task), f"task {task} is out of order: {of_task}"


async def test_the_healthy_get_everything_while_one_hangs_and_one_is_rate_limited(
    redis_url: str, namespace: str
) -> None:
    """Then the sick recover, and get everything in order and once."""
    hanging, receiver, slack = Answers(hangs=True), FakeReceiver(), FakeSlack()
    hanging.take_over(receiver, "/hook")
    async with receiver, slack, FakePagerDuty() as pagerduty, FakeGitHub() as github:
        for number in range(TASKS):
            github.open_pull("acme/api", f"branch-{number}", "main", number=100 + number)
        endpoint = receiver.settings()["endpoints"][0] | {"timeout": FOR_EVER.total_seconds()}
        slack.fail(429, times=NO_LIMIT // 1000, headers={"Retry-After": "1"})
        accounts = (
            account(Webhook, receiver, "task.failed", settings={"endpoints": [endpoint]}, timeout=FOR_EVER),
            account(Slack, slack, "task.failed", settings={"thread_mode": "new"}),
            account(PagerDuty, pagerduty, "task.failed"),
            account(GitHub, github, "task.failed"),
        )
        async with worker(redis_url, namespace, *accounts) as (bus, _):
            await bus.publish_many(happened(number, number % TASKS) for number in range(EVENTS))
            await finished(bus, "pagerduty", "github")
            await wait_until(lambda: hanging.asked and slack.requests, "the sick were tried")
            assert min(await left(bus, "webhook.receiver", "slack")) >= EVENTS

            slack.come_back()
            hanging.go_on()
            await finished(bus, "webhook.receiver", "slack")
    in_order_and_once(n for alert in pagerduty.alerts for one in alert.log for n in numbers(one["payload"]["summary"]))
    assert sorted(n for one in github.comments for n in numbers(one.body)) == [*range(EVENTS - TASKS, EVENTS)]
    in_order_and_once(n for message in slack.messages for n in numbers(str(message.blocks)))
    in_order_and_once(n for one in _firsts(receiver) for n in numbers(one))


def _firsts(receiver: FakeReceiver) -> list[str]:
    """What arrived, repeats left out, in the order of the first arrivals."""
    return list({one.webhook_id: str(one.content) for one in reversed(receiver.received)}.values())[::-1]


# -- left alone, tried by one, told to people --------------------------------------------------------------------------

WORKERS, PROBES = 3, 6


async def test_a_failing_service_meets_single_probes_of_all_workers_and_people_hear_of_it_elsewhere(
    redis_url: str, namespace: str
) -> None:
    one_at_a_time = replace(OPTIONS, concurrency=1)

    def accounts() -> Sequence[Account]:
        return (
            account(PagerDuty, pagerduty, "task.failed", options=one_at_a_time),
            account(Slack, slack, "integration.degraded", "integration.recovered"),
        )

    async with FakePagerDuty() as pagerduty, FakeSlack() as slack:
        pagerduty.go_down()
        workers = [worker(redis_url, namespace, *accounts()) for _ in range(WORKERS)]
        async with workers[0] as (bus, _), workers[1], workers[2]:
            await bus.publish_many(map(happened, range(EVENTS)))
            await wait_until(lambda: slack.messages, "people hear that it is degraded", PATIENCE)
            (message,) = slack.messages
            assert "pagerduty" in message.text
            assert "503" in str(message.blocks)
            before = len(pagerduty.requests)
            await wait_until(lambda: len(pagerduty.requests) >= before + PROBES, "it is probed", PATIENCE)
            at = [one.at for one in pagerduty.requests[before:]]
            gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
            assert min(gaps) >= BREAKER.first.total_seconds(), f"two probes at once: {gaps}"

            pagerduty.come_back()
            await finished(bus, "pagerduty", "slack")
            told = [one.topic async for one in bus.past(since=datetime.now(UTC) - timedelta(hours=1))]
    assert [topic for topic in told if topic.startswith("integration.")] == [
        "integration.degraded",
        "integration.recovered",
    ]
    assert sorted(n for one in pagerduty.alerts for n in numbers(one.log[0]["payload"]["summary"])) == [*range(EVENTS)]
    assert len(slack.effects()) == 2
    assert "recovered" in slack.messages[0].text.lower()


# -- loops -------------------------------------------------------------------------------------------------------------


async def test_a_comment_of_ours_that_comes_back_as_a_webhook_asks_nothing_of_anybody(
    redis_url: str, namespace: str
) -> None:
    """A comment of somebody else on the same pull request is told to everybody who wants it."""
    route = Route.model_validate({"topics": ["github.>"], "to": "slack", "text": "{{ topic }}"})
    async with FakeGitHub() as github, FakeSlack() as slack, FakeReceiver() as receiver:
        endpoint = receiver.settings()["endpoints"][0] | {"topics": ["github.>"]}
        accounts = (
            account(GitHub, github),
            account(Slack, slack, "vm.*"),
            account(Webhook, receiver, settings={"endpoints": [endpoint]}),
        )
        everybody = "github", "slack", "webhook.receiver"
        routing = Routing(routes={"comments": route})
        async with worker(redis_url, namespace, *accounts, routing=routing) as (bus, registry):
            github.open_pull("acme/api", "branch", "main", number=101)
            await bus.publish(happened(1))
            await finished(bus, *everybody)
            made = effects(github, slack, receiver)
            assert made == [1, 0, 0]
            async with gateway(bus, registry) as post:
                await post(github.raw_webhook("issue_comment", github.issue_comment_created(github.comments[0])))
                await finished(bus, *everybody)
                assert effects(github, slack, receiver) == made

                theirs = github.remark("acme/api#101", "Thanks!")
                await post(github.raw_webhook("issue_comment", github.issue_comment_created(theirs)))
                await finished(bus, *everybody)
                assert effects(github, slack, receiver) == [1, 1, 1]
            topics = [one.topic async for one in bus.past(since=datetime.now(UTC) - timedelta(hours=1))]
            assert topics.count("github.issue_comment.created") == 2, "it was not published at all"


def effects(*fakes: FakeService) -> list[int]:
    return [len(fake.effects()) for fake in fakes]


@asynccontextmanager
async def gateway(bus: EventBus, registry: Registry) -> AsyncIterator[Callable[[tuple[dict[str, str], bytes]], Any]]:
    """The HTTP server that GitHub calls; what it yields posts a webhook there."""
    app = build_app(Runtime(Settings(), bus, registry, Metrics()))
    async with serving(app, "127.0.0.1", 0) as port, httpx.AsyncClient(trust_env=False) as http:

        async def post(webhook: tuple[dict[str, str], bytes]) -> None:
            headers, body = webhook
            answer = await http.post(f"http://127.0.0.1:{port}/api/v1/webhooks/github", headers=headers, content=body)
            assert answer.status_code == 202, answer.text

        yield post
