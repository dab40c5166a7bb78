"""Groups on a bus, with a Slack that counts: one message for many, never none, never two, whatever dies in between."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventbus import DeadLetter, Event, EventBus, catalog
from eventbus.redis.embedded import EmbeddedRedis
from eventbus.topics import DeliveryDeadLettered
from integrations.slack.fake import FakeSlack, Posted
from registry.noise.keeper import group_of
from registry.noise.mute import Silence
from registry.noise.store import NoiseStore
from registry.routes.model import Routing
from registry.unknown import REASON, resolve
from tests.registry.noise.conftest import (
    FAILURES,
    INCIDENTS,
    completed,
    failed,
    new_address,
    opened,
    routing,
    until,
    worker,
)

STEPS_OF_BOTH = 18
"""Of a fire and its end, as `conftest.STEPS` counts: gathered, told, gathered, told, over."""
FIRE_AND_RESOLVE = ["C0GENERAL: add_email: lock timeout", "C0GENERAL: changed to add_email: fixed"]


@pytest.fixture
async def slack() -> Any:
    async with FakeSlack() as service:
        yield service


def shown(message: Posted) -> str:
    """Everything a message says."""
    return str(message.blocks) + message.text


async def told(bus: EventBus, event_id: str) -> list[str]:
    """What the trail of an event says, in words."""
    return [str(line["outcome"]) for line in await bus.trail.read(event_id)]


async def test_a_hundred_failures_within_the_wait_make_one_message(slack: FakeSlack) -> None:
    group = {"by": ["data.environment"], "wait": 3600}
    url, rules = new_address(), routing({"failures": FAILURES | {"group": group}})
    async with worker(url, slack, rules), opened(url) as bus:
        events = [failed(f"m{number}") for number in range(100)]
        await bus.publish_many(events)
        await until(lambda: all_say(bus, events, "grouped"), "all are gathered")
        assert slack.messages == []
        await pass_time(bus)
        await until(lambda: all_say(bus, events, "told"), "the group is told of")
    (message,) = slack.messages
    assert "[100 new] environment=prod" in shown(message)
    assert "... 80 more" in shown(message)


async def pass_time(bus: EventBus) -> None:
    """What waits for its time need not wait longer."""
    (waiting,) = await bus.scheduled()
    assert await bus.cancel(waiting.event.idempotency_key)
    await bus.publish(waiting.event)


async def all_say(bus: EventBus, events: list[Any], outcome: str) -> bool:
    trails = [await told(bus, event.id) for event in events]
    return all(trail[-1:] == [outcome] for trail in trails)


async def test_what_differs_in_a_value_is_told_of_apart(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"failures": FAILURES})
    async with worker(url, slack, rules), opened(url) as bus:
        await bus.publish_many([failed("a", "prod"), failed("b", "staging")])
        await until(lambda: len(slack.messages) == 2, "one message for each environment")
    assert sorted("prod" in shown(message) or "staging" in shown(message) for message in slack.messages)


async def test_fire_and_resolve_are_one_message_that_changes(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"incidents": INCIDENTS})
    async with worker(url, slack, rules) as living, opened(url) as bus:
        await fire_and_resolve(bus, slack)
        await until(lambda: is_over(bus), "nothing is left to do")
    assert slack.effects() == FIRE_AND_RESOLVE
    assert living.steps >= STEPS_OF_BOTH, "a busy machine may meet more times"


async def test_so_it_is_on_a_real_server(slack: FakeSlack, own_redis: EmbeddedRedis) -> None:
    url, rules = f"embedded://{own_redis.home}", routing({"incidents": INCIDENTS})
    async with worker(url, slack, rules), worker(url, slack, rules), opened(url) as bus:
        await fire_and_resolve(bus, slack)
        await until(lambda: is_over(bus), "nothing is left to do")
    assert slack.effects() == FIRE_AND_RESOLVE


async def fire_and_resolve(bus: EventBus, slack: FakeSlack) -> None:
    """A failure that is told, then its end that is told."""
    await bus.publish(failed())
    await until(lambda: slack.messages, "the fire is told")
    await bus.publish(completed())
    await until(lambda: "fixed" in shown(slack.messages[0]), "the end is told")


# -- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_worker_that_dies_at_any_step_neither_repeats_nor_forgets(after: bool) -> None:
    few = asyncio.Semaphore(3)

    async def die(step: int) -> tuple[bool, list[str]]:
        async with few:
            return await dies_at(step, after)

    async with asyncio.TaskGroup() as lives:
        tried = [lives.create_task(die(step)) for step in range(1, STEPS_OF_BOTH + 1)]
    assert [life.result() for life in tried] == [(True, FIRE_AND_RESOLVE)] * STEPS_OF_BOTH


async def dies_at(step: int, after: bool) -> tuple[bool, list[str]]:
    """A failure and its end, while the first worker dies: whether it did, and all that Slack ever did."""
    url, rules = new_address(), routing({"incidents": INCIDENTS})
    async with FakeSlack() as slack, opened(url) as bus, asyncio.TaskGroup() as tasks:
        async with worker(url, slack, rules, deadly=step, after=after) as first:
            telling = tasks.create_task(fire_and_resolve(bus, slack))
            await until(lambda: first.reached.is_set(), f"it dies at step {step}")
        async with worker(url, slack, rules):
            await telling
            await until(lambda: is_over(bus), "nothing is left to do")
        return first.reached.is_set(), slack.effects()


async def is_over(bus: EventBus) -> bool:
    backlog = await bus.backlog("slack")
    return backlog is not None and backlog.is_empty and not await bus.scheduled()


async def test_two_workers_tell_of_a_group_in_one_message(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"incidents": INCIDENTS})
    async with worker(url, slack, rules), worker(url, slack, rules), opened(url) as bus:
        fires = [failed(f"m{number}") for number in range(20)]
        await bus.publish_many(fires)
        await until(lambda: all_say(bus, fires, "told"), "all are told")
        await bus.publish_many([completed(f"m{number}") for number in range(20)])
        await until(lambda: is_over(bus), "nothing fires any more")
    (message,) = slack.messages
    assert "firing]" not in shown(message)
    assert len(slack.effects()) == len(set(slack.effects())), "nothing is said twice"


async def test_a_worker_that_dies_while_slack_answers_has_told_once(slack: FakeSlack) -> None:
    url, rules, held = new_address(), routing({"failures": FAILURES}), slack.hold()
    async with opened(url) as bus:
        async with worker(url, slack, rules):
            await bus.publish(failed())
            await held.committed.wait()
        held.released.set()
        async with worker(url, slack, rules):
            await until(lambda: is_over(bus), "nothing is left to do")
    assert slack.effects() == FIRE_AND_RESOLVE[:1]


async def test_a_restart_between_fire_and_repeat_neither_repeats_nor_forgets(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"incidents": INCIDENTS | {"group": {"wait": 0, "interval": 0.1, "repeat": 2}}})
    async with opened(url) as bus:
        fire = failed()
        async with worker(url, slack, rules):
            await bus.publish(fire)
            await until(lambda: told_at(bus, fire), "the fire is told")
            first = await told_at(bus, fire)
        async with worker(url, slack, rules):
            await until(lambda: told_since(bus, fire, first), "it is repeated")
    second = slack.effects()[1]
    assert second.startswith("C0GENERAL: changed to add_email: lock timeout")


async def told_at(bus: EventBus, event: Event[Any]) -> float:
    """When the last message of an event's group was decided; 0 before there is one."""
    lines = await bus.trail.read(event.id)
    group = await group_of(bus, str(lines[-1]["group"])) if lines else None
    return 0 if group is None or group.told is None else group.told.at


async def told_since(bus: EventBus, event: Event[Any], first: float) -> bool:
    at = await told_at(bus, event)
    assert at == first or at - first >= 2, "not before its time"
    return at > first


async def test_what_fails_at_every_interval_is_told_once_until_it_is_repeated(slack: FakeSlack) -> None:
    """The recipe of docs/routes.md: a group elsewhere is tried anew at each of its times, as in Alertmanager."""
    group = {"wait": 0, "interval": 0.2, "repeat": 3600, "lasts": 3600}
    key, text = "{{ data.group }}-{{ data.event_topic }}", "{{ data.group }}: {{ data.error }}"
    route = {"topics": ["delivery.dead_lettered"], "to": "slack", "dedup_key": key, "text": text, "group": group}
    url, rules = new_address(), routing({"dead": route})
    failing = DeliveryDeadLettered.example().model_copy(
        update={"group": "pagerduty", "event_topic": "notification.due.pagerduty"}
    )
    async with worker(url, slack, rules), opened(url) as bus:
        for times in range(1, 5):
            event = catalog.event(failing)
            await bus.publish(event)
            await until(lambda one=event: all_say(bus, [one], "grouped"), "it is gathered")  # type: ignore[misc]
            await until(lambda n=times: looked_at(bus, 2 * n), "the group was looked at since")  # type: ignore[misc]
    assert slack.effects() == ["C0GENERAL: pagerduty: channel_not_found"]


# -- silences and inhibitions -----------------------------------------------------------------------------------------


def silence(when: str = 'data.environment == "prod"', hours: float = 1) -> Silence:
    now = datetime.now(UTC)
    return Silence.model_validate({"id": "s1", "when": when, "starts": now, "ends": now + timedelta(hours=hours)})


async def test_an_end_is_told_though_a_silence_came_after_the_fire(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"incidents": INCIDENTS})
    async with worker(url, slack, rules), opened(url) as bus:
        await bus.publish(failed())
        await until(lambda: slack.messages, "the fire is told")
        await NoiseStore(bus, rules).put(silence())
        await bus.publish_many([failed("other"), completed()])
        await until(lambda: "fixed" in shown(slack.messages[0]), "the end is told")
    assert slack.effects() == FIRE_AND_RESOLVE, "the other failure is silenced"


async def test_what_a_silence_held_back_is_told_when_it_ends(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"incidents": INCIDENTS})
    async with worker(url, slack, rules), opened(url) as bus:
        store = NoiseStore(bus, rules)
        await store.put(silence())
        await bus.publish(failed())
        await until(lambda: looked_at(bus, 3), "the group is looked at, and not told of")
        assert slack.effects() == []
        await store.expire("s1")
        await until(lambda: slack.messages, "it still fires")


async def looked_at(bus: EventBus, times: int) -> bool:
    return any(getattr(one.event.data, "number", 0) > times for one in await bus.scheduled())


async def test_a_silenced_moment_is_not_told_and_its_trail_says_by_what(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"failures": FAILURES})
    async with worker(url, slack, rules), opened(url) as bus:
        await NoiseStore(bus, rules).put(silence())
        event = failed()
        await bus.publish(event)
        await until(lambda: says(bus, event.id, "not told"), "it is dropped")
        (*_, last) = await bus.trail.read(event.id)
    assert str(last["detail"]).startswith("muted by silence s1 until ")
    assert slack.effects() == []


async def test_a_channel_is_told_that_a_silence_will_end_though_it_mutes_everything(slack: FakeSlack) -> None:
    text = "{{ data.comment }} of {{ data.by }} ends soon"
    url, rules = new_address(), routing({"told": {"topics": ["silence.expiring"], "to": "slack", "text": text}})
    async with worker(url, slack, rules), worker(url, slack, rules), opened(url) as bus:
        now = datetime.now(UTC)
        said = {"id": "s1", "when": "true", "starts": now, "ends": now + timedelta(seconds=2), "by": "ada"}
        await NoiseStore(bus, rules).put(Silence.model_validate({**said, "comment": "the load test"}))
        await until(lambda: slack.messages, "the channel is told")
        assert datetime.now(UTC) < now + timedelta(seconds=60)
        await until(lambda: is_empty(bus), "all of it was told")
    assert slack.effects() == ["C0GENERAL: the load test of ada ends soon"]


async def is_empty(bus: EventBus) -> bool:
    return not await bus.scheduled()


async def test_what_was_cut_from_an_event_mutes_nothing_and_the_trail_says_so(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"failures": FAILURES})
    tables = [f"table-{number}" for number in range(2_000)]
    async with worker(url, slack, rules), opened(url) as bus:
        await NoiseStore(bus, rules).put(silence("'table-1999' not in data.tables"))
        event = failed(tables=tables)
        await bus.publish(event)
        await until(lambda: says(bus, event.id, "told"), "it is told, since the silence does not hold")
        (*_, last) = await bus.trail.read(event.id)
    assert "; not muted by silence s1 until " in str(last["detail"])
    assert str(last["detail"]).endswith(": data.tables was too long to be kept whole")


async def says(bus: EventBus, event_id: str, outcome: str) -> bool:
    return outcome in await told(bus, event_id)


HOST_DOWN = {
    "topics": ["vm.failed", "vm.started"],
    "resolves": "topic == 'vm.started'",
    "mutes": {"topics": ["migration.failed"]},
    "equal": ["data.environment"],
}


def vm(what: str) -> Event[Any]:
    return catalog.event(f"vm.{what}", {"vm_id": "web-1", "environment": "prod", "error": "gone"})


async def test_what_is_inhibited_is_told_once_its_source_is_over(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"incidents": INCIDENTS}, {"host-down": HOST_DOWN})
    async with worker(url, slack, rules), opened(url) as bus:
        await bus.publish(vm("failed"))
        await until(lambda: fires(bus, rules), "the source is seen")
        await bus.publish(failed())
        await until(lambda: looked_at(bus, 3), "the group is looked at, and not told of")
        assert slack.effects() == []
        await bus.publish(vm("started"))
        await until(lambda: slack.messages, "it still fires")


async def fires(bus: EventBus, rules: Routing) -> bool:
    mutes = await NoiseStore(bus, rules).mutes()
    return any(source.fires for sources in mutes.sources.values() for source in sources.values())


# -- routes without groups --------------------------------------------------------------------------------------------

PLAIN = {key: value for key, value in INCIDENTS.items() if key != "group"}


async def test_without_a_group_a_silence_holds_at_once_and_an_end_is_told_all_the_same(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"plain": PLAIN})
    async with opened(url) as bus:
        async with worker(url, slack, rules):
            await bus.publish(failed())
            await until(lambda: slack.messages, "the fire is told")
        await NoiseStore(bus, rules).put(silence())
        async with worker(url, slack, rules):
            quiet, end = failed("other"), completed("other")
            await bus.publish_many([quiet, end, completed()])
            await until(lambda: "fixed" in shown(slack.messages[0]), "the end is told")
            await until(lambda: says(bus, end.id, "muted"), "an end without its fire is muted too")
        trail = await bus.trail.read(quiet.id)
    assert [(line["outcome"], line["route"]) for line in trail] == [("muted", "plain")]
    assert slack.effects() == FIRE_AND_RESOLVE


async def test_an_end_is_told_though_its_fire_was_cut_off_and_then_silenced(slack: FakeSlack) -> None:
    url, rules, held = new_address(), routing({"plain": PLAIN}), slack.hold()
    async with opened(url) as bus:
        async with worker(url, slack, rules):
            await bus.publish(failed())
            await held.committed.wait()
        held.released.set()
        await NoiseStore(bus, rules).put(silence())
        async with worker(url, slack, rules):
            await bus.publish(completed())
            await until(lambda: "fixed" in shown(slack.messages[0]), "the end is told")
    assert slack.effects() == FIRE_AND_RESOLVE


# -- deliveries that fail ---------------------------------------------------------------------------------------------


async def test_what_slack_refused_is_told_anew_at_the_next_time(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"incidents": INCIDENTS})
    slack.refuse("invalid_blocks")
    async with worker(url, slack, rules), opened(url) as bus:
        await bus.publish(failed())
        await until(lambda: slack.messages, "told after all")
        letters = [letter async for letter in bus.dead.find()]
    assert [(letter.topic, letter.reason) for letter in letters] == [("notification.due.slack", "rejected")]
    assert slack.effects() == FIRE_AND_RESOLVE[:1]


@pytest.mark.parametrize("how", ["done", "resend"])
async def test_a_message_in_doubt_is_not_told_again_until_a_person_says_so(slack: FakeSlack, how: Any) -> None:
    url, rules, hook = new_address(), routing({"incidents": INCIDENTS}), slack.webhook_settings()
    slack.swallow("after")  # an incoming webhook can't be asked what became of it
    async with worker(url, slack, rules, settings=hook), opened(url) as bus:
        await bus.publish(failed())
        await until(lambda: doubted(bus), "it is parked")
        await until(lambda: looked_at(bus, 3), "the group goes on")
        assert len(slack.effects()) == 1, "told, though we don't know"
        (letter,) = await doubted(bus)
        assert await resolve(bus, letter, how, routes=rules.routes)
        await until(lambda: says(bus, letter.event_id, "delivered" if how == "resend" else "duplicate"), how)
        assert len(slack.effects()) == (2 if how == "resend" else 1)


async def doubted(bus: EventBus) -> list[DeadLetter]:
    return [letter async for letter in bus.dead.find(reasons=[REASON])]


async def test_a_time_that_was_lost_is_made_up_for_by_the_next_alert(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"incidents": INCIDENTS})
    async with worker(url, slack, rules), opened(url) as bus:
        fire = failed()
        await bus.publish(fire)
        await until(lambda: all_say(bus, [fire], "told"), "the fire is told")
        await until(lambda: lost(bus), "somebody cancels its next time")
        due = datetime.now(UTC) + timedelta(seconds=3 * 0.2)
        await until(lambda: datetime.now(UTC) > due, "its time is past")
        await bus.publish(failed("other"))
        await until(lambda: len(slack.effects()) == 2, "the group goes on")


async def lost(bus: EventBus) -> bool:
    return any([await bus.cancel(one.event.idempotency_key) for one in await bus.scheduled()])


# -- changed settings -------------------------------------------------------------------------------------------------


async def test_a_group_whose_route_is_gone_is_forgotten(slack: FakeSlack) -> None:
    url, rules = new_address(), routing({"incidents": INCIDENTS})
    without = routing({"others": INCIDENTS | {"topics": ["vm.failed"]}})
    async with opened(url) as bus:
        fire = failed()
        async with worker(url, slack, rules):
            await bus.publish(fire)
            await until(lambda: all_say(bus, [fire], "told"), "the fire is told")
        (*_, last) = await bus.trail.read(fire.id)
        async with worker(url, slack, without):
            await until(lambda: is_over(bus), "its last time has come")
        assert await group_of(bus, str(last["group"])) is None
