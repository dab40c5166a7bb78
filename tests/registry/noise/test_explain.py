"""What `eventbus explain` says of events whose route groups: where they wait, what mutes them, where they went."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus import EventBus
from integrations.slack.fake import FakeSlack
from registry.explain import GroupStory, explain
from registry.noise.mute import Silence
from registry.noise.store import NoiseStore
from registry.routes.model import Routing
from tests.registry.noise.conftest import FAILURES, INCIDENTS, failed, new_address, opened, routing, until, worker

LATER = {"by": ["data.environment"], "wait": 600}


@pytest.fixture
async def slack() -> Any:
    async with FakeSlack() as service:
        yield service


async def of_slack(bus: EventBus, event_id: str, rules: Routing) -> GroupStory:
    """What is said of the integration."""
    story = await explain(bus, event_id, rules)
    return next(one for one in story.groups if one.group == "slack")


async def stands(bus: EventBus, event_id: str, rules: Routing, stand: str) -> bool:
    return (await of_slack(bus, event_id, rules)).stand == stand


async def test_an_event_that_waits_says_in_which_group_and_until_when(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"incidents": INCIDENTS | {"group": LATER}})
    async with worker(url, slack, rules), opened(url) as bus:
        event, began = failed(), datetime.now(UTC)
        await bus.publish(event)
        await until(lambda: stands(bus, event.id, rules, "grouped"), "it is gathered")
        said = (await of_slack(bus, event.id, rules)).detail
        where, _, at = said.rpartition(" ")
        assert where == "in the group environment=prod, looked at next at"
        assert timedelta(seconds=598) < datetime.fromisoformat(at) - began < timedelta(seconds=660)

        end = datetime.now(UTC) + timedelta(hours=1)
        quiet = {"id": "s1", "when": "route == 'incidents'", "starts": began, "ends": end, "by": "ada"}
        await NoiseStore(bus, rules).put(Silence.model_validate(quiet))
        said = (await of_slack(bus, event.id, rules)).detail
        assert said.endswith(f"; muted by silence s1 (ada) until {end:%Y-%m-%dT%H:%M:%SZ}")


async def test_an_event_whose_place_a_later_one_took_says_so(slack: FakeSlack) -> None:
    url, rules = (
        new_address(),
        routing({"incidents": INCIDENTS | {"group": LATER, "dedup_key": "{{ data.migration }}"}}),
    )
    async with worker(url, slack, rules), opened(url) as bus:
        first, second = failed(), failed()
        for event in (first, second):
            await bus.publish(event)
            await until(lambda one=event: stands(bus, one.id, rules, "grouped"), "it is gathered")  # type: ignore[misc]
        assert (await of_slack(bus, first.id, rules)).detail.startswith("in the group environment=prod, which is told")


async def test_an_event_that_was_told_says_with_how_many_and_why(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"failures": FAILURES | {"group": LATER | {"wait": 1}}})
    async with worker(url, slack, rules), opened(url) as bus:
        events = [failed(f"m{number}") for number in range(3)]
        await bus.publish_many(events)
        await until(lambda: stands(bus, events[0].id, rules, "told"), "it is told")
        said = await of_slack(bus, events[0].id, rules)
    assert said.detail == "first notification, in one message with 2 more"
    assert [line["outcome"] for line in said.lines] == ["grouped", "told"]


async def test_the_time_of_a_group_asks_nothing_of_routes(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"incidents": INCIDENTS, "all": {"topics": [">"], "to": "slack", "text": "x"}})
    async with worker(url, slack, rules), opened(url) as bus:
        await bus.publish(failed())
        await until(lambda: bus.scheduled(), "its group has a time")
        time = (await bus.scheduled())[0].event
        await until(lambda: bus.find(time.id), "the time comes")
        story = await explain(bus, time.id, rules)
        lines = await bus.trail.read(time.id)
    assert [one.reason for one in story.routes] == ["it tells of our own doing"] * 2
    assert "all" not in [line["route"] for line in lines]
