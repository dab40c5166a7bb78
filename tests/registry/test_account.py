"""What an event asks of an account: by its routes, else by the adapter; each act once, whatever fails beside it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from eventbus import Attempt, Event, EventBus, catalog
from eventbus.topics import DeliveryDeadLettered, GitHubWebhook, NotificationDue, TaskFailed
from integrations.base import (
    Artifact,
    Delivery,
    DeliveryResult,
    Health,
    Integration,
    Manifest,
    Notification,
    Target,
    What,
)
from integrations.errors import NotReady, Rejected
from registry.account import Account, Held, Member, plan
from registry.act import Act
from registry.metrics import Metrics
from registry.noise.mute import Mutes, Silence
from registry.registry import Registry
from registry.routes.model import Route, Routing
from registry.routes.windows import TimeInterval

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
TAKEN = Attempt("desk", "1-1", "worker", 1, 3, 1)
FAILED = catalog.event(TaskFailed(task_id="42", name="nightly", error="2 of 310 tests failed", environment="staging"))


class Nothing(BaseModel):
    """Nothing to set."""


class Ticket(BaseModel):
    """The content of a ticket."""

    title: str
    priority: int = 0


class Desk(Integration[Nothing]):
    """Keeps what it was given. `faults` come first, by the text they are for."""

    manifest = Manifest(
        name="desk",
        title="Desk",
        config=Nothing,
        handles=("vm.*",),
        notifications=("message",),
        artifacts={"ticket": Ticket},
        effects="keyed",
    )

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []
        self.faults: dict[str, list[Exception]] = {}

    async def _make(self, text: str, delivery: Delivery) -> DeliveryResult:
        if self.faults.get(text):
            raise self.faults[text].pop(0)
        self.made.append((text, delivery.thread))
        return DeliveryResult.delivered(text)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        return await self._make(event.topic, delivery)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        return await self._make(notification.message, delivery)

    async def create_artifact(self, artifact: Artifact, delivery: Delivery) -> DeliveryResult:
        return await self._make(str(artifact.content["title"]), delivery)

    async def health(self) -> Health:
        return Health("healthy")


def routing(**routes: dict[str, Any]) -> Routing:
    """Routes as they stand in a file."""
    return Routing({name: Route.model_validate({"to": "desk", **route}) for name, route in routes.items()})


def planned_acts(account: Account, rules: Routing, event: Event[Any] = FAILED) -> list[Act]:
    """What is asked of an account, nothing of which is grouped or held back."""
    planned = plan(account, "default", event, TAKEN, rules, NOON)
    acts = [act for act in planned if isinstance(act, Act)]
    assert len(acts) == len(planned)
    return acts


def planned(rules: Routing, event: Event[Any] = FAILED, desk: Desk | None = None) -> list[tuple[str, What, str]]:
    """The acts, as route, thing and key."""
    acts = planned_acts(Account("desk", desk or Desk(), Nothing()), rules, event)
    assert all(act.attempt is TAKEN and act.event is event and act.delivery.attempt == 3 for act in acts)
    return [(act.route, act.what, act.delivery.key) for act in acts]


SAYS = {"topics": ["task.failed"], "text": "{{ data.error }}"}


def test_without_routes_the_adapter_decides() -> None:
    created = catalog.event("vm.created", {"vm_id": "1"})
    assert planned(routing(), created) == [("", created, f"desk:default:{created.id}")]
    assert planned(routing()) == [], "it takes no task.failed by itself"


def test_where_a_route_fits_the_topic_only_routes_decide() -> None:
    created = catalog.event("vm.created", {"vm_id": "1"})
    assert planned(routing(quiet={"topics": ["vm.*"], "when": "data.vm_id == '2'", "text": "x"}), created) == []


def test_each_route_is_an_act_with_a_key_of_its_own() -> None:
    ticket = {"topics": ["task.*"], "artifact": "ticket", "content": {"title": "{{ data.name }}"}}
    (says, note, one), (files, made, two) = planned(routing(says=SAYS, files=ticket))
    assert (says, files) == ("says", "files")
    assert isinstance(note, Notification)
    assert note.message == "2 of 310 tests failed"
    assert made == Artifact(type="ticket", content={"title": "nightly"})
    assert (one, two) == (f"desk:default:{FAILED.id}:says", f"desk:default:{FAILED.id}:files")


def test_a_route_without_words_gives_the_event_itself() -> None:
    assert planned(routing(own={"topics": ["task.failed"]})) == [("own", FAILED, f"desk:default:{FAILED.id}:own")]


def test_the_routes_of_others_are_not_ours() -> None:
    assert planned(routing(theirs={**SAYS, "to": "pager"})) == []


def test_a_thread_is_the_routes_dedup_key_or_the_events_key() -> None:
    account = Account("desk", Desk(), Nothing())
    rules = routing(own=SAYS, named={**SAYS, "dedup_key": "env-{{ data.environment }}"})
    acts = planned_acts(account, rules)
    assert [act.delivery.thread for act in acts] == ["task_id:42", "env-staging"]


def test_a_dry_route_stays_dry_and_a_dry_account_makes_all_dry() -> None:
    rules = routing(dry={**SAYS, "dry_run": True}, wet=SAYS)
    for account_is_dry, expected in ((False, [True, False]), (True, [True, True])):
        account = Account("desk", Desk(), Nothing(), dry_run=account_is_dry)
        assert [act.dry_run for act in planned_acts(account, rules)] == expected


def test_half_an_artifact_is_refused() -> None:
    ticket = {"topics": ["task.*"], "artifact": "ticket", "content": {"title": "x", "priority": "{{ data.error }}"}}
    account = Account("desk", Desk(), Nothing())
    refused, act = plan(account, "default", FAILED, TAKEN, routing(files=ticket, says=SAYS), NOON)
    assert isinstance(refused, Rejected)
    assert "route files: content.priority" in refused.detail
    assert isinstance(act, Act), "and the other routes go on"
    assert act.route == "says"


def test_a_group_does_not_gather_what_it_fails_to_tell() -> None:
    """Else a route that tells of dead letters to a service that refuses makes dead letters for ever."""
    letter = DeliveryDeadLettered.example()
    assert letter is not None
    example = letter.model_dump(mode="json")
    route = {"topics": ["delivery.dead_lettered"], "text": "{{ data.error }}", "group": {"by": []}}
    for topic, gathered in (("vm.created", 1), ("notification.due.desk", 0), ("notification.due.pagerduty", 1)):
        event = catalog.event("delivery.dead_lettered", {**example, "event_topic": topic})
        account = Account("desk", Desk(), Nothing())
        assert len(plan(account, "default", event, TAKEN, routing(alarm=route), NOON)) == gathered


@pytest.mark.parametrize(("ours", "acts"), [(True, 0), (False, 1)])
def test_what_our_own_artifacts_caused_asks_nothing_of_anybody(ours: bool, acts: int) -> None:
    example = GitHubWebhook.example().model_dump(mode="json")
    event = catalog.event("github.issue_comment.created", {**example, "ours": ours})
    assert len(planned(routing(echo={"topics": ["github.>"]}), event)) == acts


# -- grouped and muted ------------------------------------------------------------------------------------------------

GROUPED = {**SAYS, "group": {"by": ["data.environment", "data.nope.environment", "topic"]}}


def member(rules: Routing, event: Event[Any] = FAILED) -> Member:
    """What becomes of an event that one route groups."""
    (one,) = plan(Account("desk", Desk(), Nothing()), "default", event, TAKEN, rules, NOON)
    assert isinstance(one, Member)
    return one


def test_a_route_that_groups_makes_an_alert_of_what_it_would_say() -> None:
    one = member(routing(says=GROUPED))
    assert one.values == {"environment": "staging", "data.nope.environment": "", "topic": "task.failed"}
    assert (one.thread, one.alert.status, one.alert.sequence) == ("task_id:42", "momentary", TAKEN.sequence)
    assert one.alert.what.message == "2 of 310 tests failed"
    assert one.act.delivery.key == f"desk:default:{FAILED.id}:says"
    assert (one.alert.names["route"], one.alert.names["to"]) == ("says", "desk")


def test_an_alert_fires_or_is_resolved_where_it_can_end() -> None:
    resolves = {**GROUPED, "resolves": "data.name == 'nightly'"}
    assert member(routing(says=resolves)).alert.status == "resolved"
    assert member(routing(says={**GROUPED, "resolves": "data.name == 'x'"})).alert.status == "firing"
    assert member(routing(says={**GROUPED, "group": {"lasts": 60}})).alert.status == "firing"


def test_a_group_is_its_route_its_values_and_its_target() -> None:
    groups = {
        member(routing(says=GROUPED)).group,
        member(routing(other=GROUPED)).group,
        member(routing(says={**GROUPED, "group": {"by": ["data.name"]}})).group,
        member(routing(says={**GROUPED, "target": "#{{ data.environment }}"})).group,
    }
    assert len(groups) == 4
    assert member(routing(says=GROUPED)).group in groups


def test_a_route_that_is_mute_still_gathers_since_muting_counts_later() -> None:
    windows = {"always": (TimeInterval(),)}
    rules = replace(routing(says={**GROUPED, "mute": ["always"]}, plain={**SAYS, "mute": ["always"]}), windows=windows)
    assert member(rules).act.route == "says"


def test_what_is_silenced_is_held_with_the_reason_and_only_on_routes() -> None:
    quiet = {"id": "s1", "when": "true", "starts": NOON, "ends": NOON + timedelta(hours=1)}
    mutes, account = Mutes([Silence.model_validate(quiet)]), Account("desk", Desk(), Nothing())
    resolving = {**SAYS, "resolves": "topic == 'task.failed'"}
    held = plan(account, "default", FAILED, TAKEN, routing(says=SAYS, ends=resolving), NOON, mutes)
    assert [(one.act.route, one.resolves) for one in held if isinstance(one, Held)] == [("says", False), ("ends", True)]
    assert all(isinstance(one, Held) and one.reason.startswith("muted by silence s1") for one in held)
    created = catalog.event("vm.created", {"vm_id": "1"})
    (own,) = plan(account, "default", created, TAKEN, routing(), NOON, mutes)
    assert isinstance(own, Act)


def test_an_account_takes_the_times_of_its_own_groups_and_they_ask_nothing() -> None:
    account = Account("desk", Desk(), Nothing(), topics=(">",))
    assert account.targets(routing(says=SAYS)) == [
        ("desk", Target("default", (">", "task.failed", "integration.drill.desk")))
    ]
    ((_, target),) = account.targets(routing(says=GROUPED))
    assert target.topics == (">", "task.failed", "notification.due.desk", "integration.drill.desk")
    time = catalog.event("notification.due.desk", NotificationDue.example())
    assert plan(account, "default", time, TAKEN, routing(all={**SAYS, "topics": [">"]}), NOON) == []


class Choosy(Desk):
    """Names a target of its own."""

    def __init__(self, named: str) -> None:
        super().__init__()
        self.named = named

    def targets(self) -> list[Target]:
        return [Target(self.named, ("vm.created",))]


@pytest.mark.parametrize(
    ("name", "group", "topics"),
    [
        ("default", "desk", ("vm.created", "task.failed", "integration.drill.desk")),
        ("front", "desk.front", ("vm.created", "integration.drill.desk")),
    ],
)
def test_routes_add_topics_to_an_account_that_chooses_its_own_but_to_none_of_its_targets(
    name: str, group: str, topics: tuple[str, ...]
) -> None:
    account = Account("desk", Choosy(name), Nothing(), fault=None)
    assert account.targets(routing(says=SAYS)) == [(group, Target(name, topics))]


class Endpoints(BaseModel):
    """Topics by endpoint."""

    endpoints: dict[str, tuple[str, ...]]


class Posting(Desk):
    """Its settings name its targets."""

    manifest = replace(Desk.manifest, config=Endpoints)

    def targets(self) -> list[Target]:
        config: Any = self.config
        return [Target(name, topics) for name, topics in config.endpoints.items()]


class Late(Desk):
    """Can't name its targets before it is initialised."""

    def targets(self) -> list[Target]:
        raise RuntimeError("not yet")


ENDPOINTS = Endpoints(endpoints={"a": ("vm.*", "task.failed"), "b": ("task.failed", "shop.>")})


@pytest.mark.parametrize(
    ("adapter", "config", "topics", "taken"),
    [
        (Desk, Nothing(), None, ("vm.*",)),
        (Desk, Nothing(), ("a.b", "c.>"), ("a.b", "c.>")),
        (Posting, ENDPOINTS, None, ("vm.*", "task.failed", "shop.>")),
        (Posting, ENDPOINTS, ("*.failed", "shop.*.paid"), ("vm.failed", "task.failed", "shop.failed", "shop.*.paid")),
        (Posting, ENDPOINTS, ("nothing.here",), ()),
        (Late, Nothing(), None, ("vm.*",)),
    ],
)
def test_what_an_account_takes_by_itself_is_known_before_it_is_started(
    adapter: type[Desk], config: BaseModel, topics: tuple[str, ...] | None, taken: tuple[str, ...]
) -> None:
    assert Account("desk", adapter(), config, topics).takes == taken


def test_an_account_that_is_ready_is_asked_itself() -> None:
    assert Account("desk", Choosy("front"), Nothing(), fault=None).takes == ("vm.created",)
    assert Account("desk", Choosy("front"), Nothing()).takes == ("vm.*",)


async def test_acts_that_worked_are_not_done_again_with_those_that_failed() -> None:
    desk = Desk()
    desk.faults = {"second": [NotReady("starting"), NotReady("starting")]}
    rules = routing(a={**SAYS, "text": "first"}, b={**SAYS, "text": "second"}, c={**SAYS, "text": "third"})
    async with EventBus.open("memory://") as bus:
        registry = Registry(bus, Metrics(), serve=True, routing=rules)
        registry.register(Account("desk", desk, Nothing()))
        await registry.start()
        await bus.publish(FAILED)
        await bus.run_until_idle()
        await registry.stop()
        assert [letter async for letter in bus.dead.find()] == []
        trail = [(line["route"], line["outcome"]) for line in await bus.trail.read(FAILED.id)]
    assert desk.made == [(text, "task_id:42") for text in ("first", "third", "second")]
    assert trail.count(("b", "retry")) == 2
    assert trail.count(("a", "delivered")) == 1


async def test_one_refused_act_makes_a_dead_letter_once_all_others_are_done() -> None:
    desk = Desk()
    desk.faults = {"first": [Rejected("no")] * 9, "second": [NotReady("starting")]}
    rules = routing(a={**SAYS, "text": "first"}, b={**SAYS, "text": "second"})
    async with EventBus.open("memory://") as bus:
        registry = Registry(bus, Metrics(), serve=True, routing=rules)
        registry.register(Account("desk", desk, Nothing()))
        await registry.start()
        await bus.publish(FAILED)
        await bus.run_until_idle()
        await registry.stop()
        (letter,) = [letter async for letter in bus.dead.find()]
    assert (letter.reason, letter.error) == ("rejected", "Rejected: no")
    assert [text for text, _ in desk.made] == ["second"]
