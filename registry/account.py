"""A configured account of an integration, and what it is asked to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from pydantic import BaseModel

from eventbus import Attempt, Event, Options
from eventbus.gate import Breaker
from eventbus.pattern import common, matches_any
from eventbus.topics.noise import DUE
from integrations.base import WHOLE, Context, Delivery, Integration, Manifest, Notification, Subscribes, Target, What
from integrations.errors import Rejected
from integrations.redact import Redactor
from registry.act import Act, account_of
from registry.drill import DRILL
from registry.noise.group import Alert, digest_of, kept_names
from registry.noise.mute import Mutes
from registry.routes.decide import asks_nothing, decide
from registry.routes.filters import as_text
from registry.routes.model import Grouping, Route, Routing
from registry.routes.render import RenderError, render
from registry.routes.scope import Names, names_on
from registry.unknown import delivery_key

MAX_VALUE = 200
"""Characters of a value that alerts are grouped by."""


@dataclass(slots=True)
class Account:
    """One configured integration.

    topics   what it takes, where the config narrows the manifest's
    timeout  for one call of the adapter
    options  how its subscriptions are served
    dry_run  it says what it would do, and does nothing
    paced    its calls are spaced by the service's budgets
    cap      calls in any minute for each target at most; 0: no cap
    resend   it does again what nobody can say was done
    breaker  when its service is left alone
    fault    why it is not ready; None when it is
    redact   takes its secrets out of what is told
    """

    name: str
    adapter: Integration[Any]
    config: BaseModel
    topics: tuple[str, ...] | None = None
    timeout: timedelta = timedelta(seconds=20)
    options: Options = field(default_factory=lambda: Options(concurrency=16, start="now"))
    dry_run: bool = False
    resend: bool = False
    paced: bool = True
    cap: int = 0
    breaker: Breaker = field(default_factory=Breaker)
    fault: str | None = "not started"
    redact: Redactor = field(init=False)

    def __post_init__(self) -> None:
        self.redact = Redactor(self.config)

    def targets(self, routing: Routing) -> list[tuple[str, Target]]:
        """Its targets, each with the name of its group. None for an adapter that names its own and is not ready.

        An account takes what its adapter does, or what `topics` leaves of that, what routes send to it, the times of
        the groups that they gather, and drills if it has notifications.
        """
        more = [f"{DUE}.{self.name}"] if routing.groups_for(self.name) else []
        more += [f"{DRILL}.{self.name}"] if self.adapter.manifest.notifications else []
        return [
            (account_of(self.name, one.name), replace(one, topics=tuple(dict.fromkeys([*topics, *more]))))
            for one in self._own_targets()
            if (topics := [*one.topics, *(routing.topics_for(self.name) if one.is_whole else ())])
        ]

    def _own_targets(self) -> Sequence[Target]:
        if not isinstance(self.adapter, Subscribes):
            return [Target(WHOLE, self.own_topics)]
        return self.adapter.targets() if self.fault is None else ()

    @property
    def own_topics(self) -> tuple[str, ...]:
        """What it takes where no route decides."""
        if self.topics is None and isinstance(self.adapter, Subscribes):
            return (">",)  # each of its targets has its own
        return self.topics or self.adapter.manifest.handles

    @property
    def takes(self) -> tuple[str, ...]:
        """What it takes by itself, ready or not; see `topics_taken`."""
        if self.fault is None and isinstance(self.adapter, Subscribes):
            return topics_taken(self.adapter.manifest, self.adapter.targets(), self.topics)
        return topics_taken(self.adapter.manifest, targets_of(type(self.adapter), self.config), self.topics)

    def addressed(self, what: What, target: str) -> What | None:
        """What a route has made, for this target; None when it is for another one of the account's own, which gets the
        event as well if it takes its topic."""
        if not isinstance(what, Notification) or not isinstance(self.adapter, Subscribes):
            return what
        if what.target in {"", target}:
            return what.model_copy(update={"target": target})
        return None if what.target in {one.name for one in self.adapter.targets()} else what

    def act(self, what: What, delivery: Delivery, **origin: Any) -> Act:
        """One call in this account's manner. `origin`: event, route, attempt and dry_run, where it has them."""
        origin["dry_run"] = self.dry_run or origin.get("dry_run", False)
        manner = {
            "breaker": self.breaker,
            "resend": self.resend,
            "paced": self.paced,
            "redact": self.redact,
            "cap": self.cap,
            **origin,
        }
        return Act(self.name, self.adapter, what, delivery, self.timeout, **manner)


def topics_taken(manifest: Manifest, targets: Sequence[Target] | None, topics: Sequence[str] | None) -> tuple[str, ...]:
    """What an account takes by itself, where no route decides: the topics of its targets as far as its own `topics`
    leave them; without targets its own `topics`, else what its manifest says."""
    if targets is None:
        return tuple(topics or manifest.handles)
    asked = dict.fromkeys(pattern for one in targets for pattern in one.topics)
    if topics is None:
        return tuple(asked)
    return tuple(dict.fromkeys(both for one in asked for other in topics if (both := common(one, other))))


def targets_of(adapter: type[Integration[Any]], config: BaseModel | None) -> Sequence[Target] | None:
    """The targets that an adapter names with these settings, before it is initialised; None for one that names none, or
    that can't say so early, as without settings."""
    try:
        made = adapter()
        if not isinstance(made, Subscribes):
            return None
        made.context = cast("Context[Any]", SimpleNamespace(config=config))
        return list(made.targets())
    except Exception:  # noqa: BLE001  an adapter may raise anything, and may want to be initialised first
        return None


@dataclass(frozen=True, slots=True)
class Held:
    """An act that silences or inhibitions hold back, unless it ends something that was begun (`resolves`)."""

    act: Act
    event: Event[Any]
    reason: str
    resolves: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """What is not told at once but gathered into a group.

    act     what it would be alone; its key stands for the gathering
    group   identifies the group, whose alerts agree in `values`
    thread  what the alert is about
    """

    act: Act
    group: str
    values: Mapping[str, str]
    thread: str
    alert: Alert


def plan(
    account: Account,
    target: str,
    event: Event[Any],
    attempt: Attempt,
    routing: Routing,
    now: datetime,
    mutes: Mutes | None = None,
) -> list[Act | Held | Member | Rejected]:
    """What an event asks of a target of an account: by the routes to it, else by the adapter itself. Pure.

    `mutes`: what is kept quiet now; groups ask for that when they are told of. A Rejected stands for a route that makes
    something of the event that its integration can't take; the other routes go on.
    """
    name, number = account.name, attempt.number
    if asks_nothing(event):
        return []
    if not routing.takes_over(name, event.topic):
        if not matches_any(account.own_topics, event.topic):
            return []
        delivery = Delivery(delivery_key(name, target, event.id), target, number, thread=event.key or "")
        return [account.act(event, delivery, event=event, attempt=attempt)]
    planned: list[Act | Held | Member | Rejected] = []
    for decision in decide(event, routing, now):
        route = decision.route
        if route.to != name or not (decision.taken or (decision.is_mute and route.group)):
            continue
        if route.group and getattr(event.data, "event_topic", "") == f"{DUE}.{name}":
            continue  # a group that tells of its own failures would never end
        try:
            made = render(event, decision, routing, account.adapter.manifest.artifacts)
        except RenderError as error:
            planned.append(Rejected(str(error)))
            continue
        what = account.addressed(made.what, target)
        if what is None:
            continue
        key = delivery_key(name, target, event.id, decision.name)
        delivery = Delivery(key, target, number, thread=made.thread)
        origin = {"event": event, "route": decision.name, "attempt": attempt, "dry_run": route.dry_run}
        act = account.act(what, delivery, **origin)
        planned.append(_on_route(act, route, event, attempt, routing, now, mutes or Mutes()))
    return planned


def _on_route(
    act: Act, route: Route, event: Event[Any], attempt: Attempt, routing: Routing, now: datetime, mutes: Mutes
) -> Act | Held | Member:
    if route.group is None and mutes.is_empty:
        return act
    names = names_on(act.route, route, event, routing)
    resolves = route.resolves is not None and route.resolves.why_not(names) is None
    if route.group is None:
        reason = mutes.why(names, now)
        return Held(act, event, reason, resolves) if reason else act
    if not isinstance(act.what, Notification):
        raise TypeError(f"route {act.route} groups what is no notification")  # the model of routes refuses that
    kept, cut = kept_names(names)
    alert = Alert(
        status="resolved" if resolves else "firing" if route.has_ends else "momentary",
        event_id=event.id,
        sequence=attempt.sequence,
        since=now.timestamp(),
        at=now.timestamp(),
        what=act.what,
        names=kept,
        cut=cut,
    )
    values = values_of(route.group, names)
    group = digest_of(act.integration, act.delivery.target, act.route, act.what.target, *values.values())
    return Member(act, group, values, act.delivery.thread or event.id, alert)


def values_of(rules: Grouping, names: Names) -> dict[str, str]:
    """What a group has in common, under the last word of each expression: data.environment is `environment`.

    Values that agree in their first MAX_VALUE characters count as equal.
    """
    found: dict[str, str] = {}
    for expression in rules.by:
        label = expression.source.strip()
        short = label.rpartition(".")[2] if re.fullmatch(r"[a-z_][\w.]*", label) else label
        found[label if short in found else short] = as_text(expression.value(names), MAX_VALUE)
    return found
