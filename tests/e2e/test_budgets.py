"""Ten thousand things queued for a service leave at a pace that it never has to refuse: hours, in virtual time.

The clock of the gate's Redis and that of the stand-ins is one that the test turns, so the real budgets meet the real
rules. What is played is the dispatcher's part: ask the gate, wait as it says, call.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import Message

from eventbus import catalog
from eventbus.gate import Gate
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.topics import TaskFailed
from integrations.base import Delivery, Integration
from integrations.github import GitHub
from integrations.github.fake import FakeGitHub
from integrations.pagerduty import PagerDuty
from integrations.pagerduty.fake import FakePagerDuty
from integrations.slack import Slack
from integrations.slack.fake import FakeSlack
from integrations.testing.context import make_context
from integrations.testing.fake import FakeService
from registry.act import Act

QUEUED = 10_000
HANDS = 2
"""Calls that all workers together have in hand."""
UNDER_WAY = 0.02, 0.15
"""Seconds that a call takes to arrive, at least and at most: what leaves evenly arrives less so."""
CALL = timedelta(seconds=20)

EVENT = catalog.event(TaskFailed(task_id="t", error="x", pull_request="https://github.com/acme/api/pull/7"))
CLOCKS = (
    "fakeredis.commands_mixins.server_mixin.time",
    "fakeredis._socket._base.time",
    "integrations.github.fake.time",
    "integrations.pagerduty.fake.time",
    "integrations.slack.fake.time",
)


class Clock:
    """In the place of the module `time`."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    monotonic = time


@dataclass(frozen=True)
class Limited:
    """A service with limits, and the request that its stand-in counts."""

    adapter: type[Integration[Any]]
    fake: Callable[[], FakeService]
    request: Callable[[Any], tuple[str, dict[str, str], dict[str, Any]]]


def _github() -> FakeGitHub:
    github = FakeGitHub()
    github.secondary_limit, github.hourly_limit = 80, 500
    github.limit = 10 * QUEUED  # it is renewed each hour, which the stand-in knows nothing of
    return github


def _comment(github: FakeGitHub) -> tuple[str, dict[str, str], dict[str, Any]]:
    path, signed = "/repos/acme/api/issues/7/comments", {"authorization": f"Bearer {github.token}"}
    return path, signed, {"body": "x"}


def _alert(pagerduty: FakePagerDuty) -> tuple[str, dict[str, str], dict[str, Any]]:
    payload = {"summary": "x", "severity": "error", "source": "x"}
    body = {"routing_key": pagerduty.routing_key, "event_action": "trigger", "dedup_key": "k", "payload": payload}
    return "/v2/enqueue", {}, body


def _message(slack: FakeSlack) -> tuple[str, dict[str, str], dict[str, Any]]:
    signed = {"authorization": f"Bearer {slack.token}", "content-type": "application/json"}
    return "/api/chat.postMessage", signed, {"channel": "deployments", "text": "x"}


LIMITED = (
    Limited(GitHub, _github, _comment),
    Limited(PagerDuty, FakePagerDuty, _alert),
    Limited(Slack, lambda: FakeSlack(rate_limit=True), _message),
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for name in CLOCKS:
        monkeypatch.setattr(name, clock)
    return clock


@pytest.mark.parametrize("limited", LIMITED, ids=lambda limited: limited.adapter.manifest.name)
async def test_ten_thousand_queued_notifications_meet_no_rate_limit(limited: Limited, clock: Clock) -> None:
    async with limited.fake() as fake:
        schedule, began = Schedule(limited, fake, clock), clock.now
        least = await schedule.play()
    assert schedule.statuses.total() == QUEUED
    assert set(schedule.statuses) <= {200, 201, 202}, f"refused: {schedule.statuses}"
    assert least <= clock.now - began < 1.05 * least, "not as fast as the budget allows"


class Schedule:
    """The hands of all workers at one account: each asks the gate, waits as it is told, calls, and asks again."""

    def __init__(self, limited: Limited, fake: FakeService, clock: Clock) -> None:
        self.statuses: Counter[int] = Counter()
        self._limited, self._fake, self._clock = limited, fake, clock
        self._service = Starlette(routes=[*fake.routes()])
        self._chance = random.Random(7)
        self._left = QUEUED
        self._numbers = itertools.count()
        self._steps: list[tuple[float, int, Callable[[], Awaitable[None]]]] = []

    async def play(self) -> float:
        """Until all are called. The seconds that the budgets themselves ask for."""
        adapter = self._limited.adapter()
        await adapter.initialize(make_context(self._limited.adapter, self._fake.settings()))
        act = Act(adapter.manifest.name, adapter, EVENT, Delivery("k", thread=EVENT.key or ""), CALL, EVENT)
        self._account, self._costs = act.account, act.costs()
        connection = await Connection.open("memory://")
        self._gate = Gate(connection, ShardKeys("budgets"))
        for _ in range(HANDS):
            self._then(0, self._ask)
        while self._steps:
            self._clock.now, _, step = heapq.heappop(self._steps)
            await step()
        await connection.close()
        await adapter.close()
        await adapter.context.http.close()
        return max((cost.spacing * (QUEUED - cost.burst)).total_seconds() for cost in self._costs)

    def _then(self, seconds: float, step: Callable[[], Awaitable[None]]) -> None:
        heapq.heappush(self._steps, (self._clock.now + seconds, next(self._numbers), step))

    async def _ask(self) -> None:
        if not self._left:
            return
        turn = await self._gate.enter(self._account, self._costs, probe=CALL)
        if turn.is_open:
            self._left -= 1
            self._then(turn.after.total_seconds() + self._chance.uniform(*UNDER_WAY), self._arrive)
        else:
            self._then(turn.after.total_seconds(), self._ask)

    async def _arrive(self) -> None:
        path, headers, body = self._limited.request(self._fake)
        self.statuses[await self._call(path, headers, json.dumps(body).encode())] += 1
        self._then(self._chance.uniform(*UNDER_WAY), self._ask)

    async def _call(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """The status that the stand-in answers a POST with. Its own rules are asked, without a connection."""
        status = 0

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": path, "headers": raw, "query_string": b""}
        await self._service(scope, receive, send)
        return status
