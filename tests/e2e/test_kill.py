"""Workers are killed again and again while events flow to four integrations. The stand-ins hold the truth."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from eventbus import Event, EventBus, catalog
from eventbus.topics import TaskCompleted
from integrations.github.fake import FakeGitHub
from integrations.slack.fake import FakeSlack
from integrations.webhook.fake import FakeReceiver
from service.process import Child

EVENTS = 2_000
KILLS = 50
TASKS = 400  # events of one task are ordered
PULLS = 40
WORKERS = 2
LEASE_SECONDS = 3.0
"""A call may take two thirds of it, and so may a look through two thousand messages for one that may be there."""
PATIENCE_SECONDS = 240.0
SOON = {"paced": False, "breaker_seconds": 0.5}
"""A busy machine misses the short time-out of a call, and a breaker that opens would leave the service alone."""


@dataclass
class Stage:
    """What runs."""

    slack: FakeSlack
    github: FakeGitHub
    receiver: FakeReceiver
    bus: EventBus
    workers: list[Child]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Two workers as processes of their own, stand-ins on real ports, a real Redis."""
    address = f"embedded://{tmp_path / 'redis'}"
    async with FakeSlack() as slack, FakeGitHub() as github, FakeReceiver() as receiver, EventBus.open(address) as bus:
        settings = {
            "events": {"url": address},
            "integrations": {
                # As fast as the workers can: limits are not the subject. A task's events change one comment at GitHub;
                # in Slack each leaves a message.
                "slack": {**slack.settings(), "thread_mode": "new", **SOON},
                "github": {**github.settings(), **SOON},
                "webhook": {**receiver.settings(), **SOON},
                "log": {},
            },
            # Kills come from outside here, so no event is to be blamed for them however often it is in hand.
            "worker": {"lease_seconds": LEASE_SECONDS, "port": 0, "retry_base_seconds": 0.1, "poison_limit": 100},
            "log": {"format": "json"},
        }
        github.limit = 1_000_000  # its rate limits are not the subject
        for number in range(PULLS):
            github.open_pull("acme/api", f"branch-{number}", "main", number=100 + number)
        config = tmp_path / "eventbus.yaml"
        config.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "service", "worker", "--config", str(config)]
        workers = [Child(f"worker-{n}", command, {}, tmp_path) for n in range(WORKERS)]
        for worker in workers:
            await worker.start()
        for worker in workers:
            await worker.wait_for("working", 60)
        yield Stage(slack, github, receiver, bus, workers)
        await asyncio.gather(*(worker.stop() for worker in workers))


async def test_nothing_is_lost_and_github_and_webhook_see_nothing_twice(stage: Stage) -> None:
    """kill -9 at 50 random instants; then every effect is counted where it was made."""
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 1_000_000))
    print(f"KILL_SEED={seed}")  # noqa: T201  shown when the test fails
    chance = random.Random(seed)
    events = [_event(stage, n) for n in range(EVENTS)]

    publishing = asyncio.create_task(_publish(stage.bus, events))
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.1, 1.2))
        worker = chance.choice(stage.workers)
        worker.kill(signal.SIGKILL)
        await worker.wait()
        await worker.start()
    await publishing
    await _until_all_arrived(stage)

    webhooks = Counter(one.webhook_id for one in stage.receiver.received)
    comments = Counter(n for comment in stage.github.comments for n in _numbers(comment.body))
    messages = Counter(n for message in stage.slack.messages for n in _numbers(str(message.blocks)))
    everything = set(range(EVENTS))
    assert {_number_of(one.content) for one in stage.receiver.received} == everything, "a webhook is lost"
    assert len(webhooks) == EVENTS, "an event was sent under two webhook ids"
    assert set(comments) == set(range(EVENTS - TASKS, EVENTS)), "a task's comment does not say how it ended"
    assert [n for n, count in comments.items() if count > 1] == [], "a comment is doubled"
    assert set(messages) == everything, "a Slack message is lost"
    assert [n for n, count in messages.items() if count > 1] == [], "a Slack message is doubled"
    assert _first_arrivals_are_in_order(stage), "events of one task arrived out of order"


def _event(stage: Stage, number: int) -> Event[TaskCompleted]:
    pull = f"{stage.github.web}/acme/api/pull/{100 + number % PULLS}"
    return catalog.event(TaskCompleted(task_id=f"task-{number % TASKS}", name=f"number-{number}-", pull_request=pull))


async def _publish(bus: EventBus, events: list[Event[TaskCompleted]]) -> None:
    for start in range(0, len(events), 50):
        await bus.publish_many(events[start : start + 50])
        await asyncio.sleep(0.5)


async def _until_all_arrived(stage: Stage) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        for group in ("slack", "github", "webhook.receiver", "log"):
            while True:
                backlog = await stage.bus.backlog(group)
                assert backlog is not None, f"group {group} was never declared"
                assert backlog.dead == 0, [f"{one.reason}: {one.error}" async for one in stage.bus.dead.find()]
                if backlog.is_empty:
                    break
                await asyncio.sleep(0.1)


def _numbers(text: str) -> list[int]:
    return [int(found) for found in set(re.findall(r"number-(\d+)-", text))]


def _number_of(content: dict[str, object]) -> int:
    (number,) = _numbers(str(content["data"]))
    return number


def _first_arrivals_are_in_order(stage: Stage) -> bool:
    seen: dict[str, int] = {}
    last: dict[int, int] = {}
    for one in stage.receiver.received:
        if one.webhook_id in seen:
            continue
        number = seen[one.webhook_id] = _number_of(one.content)
        if last.get(number % TASKS, -1) > number:
            return False
        last[number % TASKS] = number
    return True
