"""A configured account of an integration, and what it is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from eventbus import Attempt, Event, Options
from eventbus.gate import Breaker
from eventbus.pattern import matches_any
from integrations.base import Delivery, Integration, Subscribes, Target, What
from integrations.errors import Rejected
from registry.act import Act
from registry.routes.decide import decide
from registry.routes.model import Routing
from registry.routes.render import RenderError, render
from registry.unknown import delivery_key


@dataclass(slots=True)
class Account:
    """One configured integration.

    topics   what it takes, where the config narrows the manifest's
    timeout  for one call of the adapter
    options  how its subscriptions are served
    dry_run  it says what it would do, and does nothing
    paced    its calls are spaced by the service's budgets
    resend   it does again what nobody can say was done
    breaker  when its service is left alone
    fault    why it is not ready; None when it is
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
    breaker: Breaker = field(default_factory=Breaker)
    fault: str | None = "not started"

    def targets(self, routing: Routing) -> list[tuple[str, Target]]:
        """Its targets, each with the name of its group. None for an adapter that names its own and is not ready.

        An account takes what its adapter does, or what `topics` leaves of that, and what routes send to it.
        """
        if isinstance(self.adapter, Subscribes):
            named = self.adapter.targets() if self.fault is None else ()
            return [(f"{self.name}.{target.name}", target) for target in named]
        topics = tuple(dict.fromkeys([*self.own_topics, *routing.topics_for(self.name)]))
        return [(self.name, Target("default", topics))] if topics else []

    @property
    def own_topics(self) -> tuple[str, ...]:
        """What it takes where no route decides."""
        if self.topics is None and isinstance(self.adapter, Subscribes):
            return (">",)  # each of its targets has its own
        return self.topics or self.adapter.manifest.handles

    def act(self, what: What, delivery: Delivery, **origin: Any) -> Act:
        """One call in this account's manner. `origin`: event, route, attempt and dry_run, where it has them."""
        origin["dry_run"] = self.dry_run or origin.get("dry_run", False)
        manner = {"breaker": self.breaker, "resend": self.resend, "paced": self.paced, **origin}
        return Act(self.name, self.adapter, what, delivery, self.timeout, **manner)


def plan(
    account: Account, target: str, event: Event[Any], attempt: Attempt, routing: Routing, now: datetime
) -> list[Act]:
    """The acts that an event asks of a target of an account: by the routes to it, else by the adapter itself. Pure.

    Raises Rejected when a route makes something of the event that its integration can't take.
    """
    name, number = account.name, attempt.number
    if getattr(event.data, "ours", False):
        return []  # it tells of what one of our own artifacts caused: acting on that might never end
    if not routing.takes_over(name, event.topic):
        if not matches_any(account.own_topics, event.topic):
            return []
        delivery = Delivery(delivery_key(name, target, event.id), target, number, thread=event.key or "")
        return [account.act(event, delivery, event=event, attempt=attempt)]
    acts = []
    for taken in (one for one in decide(event, routing, now) if one.taken and one.route.to == name):
        try:
            made = render(event, taken, routing, account.adapter.manifest.artifacts)
        except RenderError as error:
            raise Rejected(str(error)) from error
        delivery = Delivery(delivery_key(name, target, event.id, taken.name), target, number, thread=made.thread)
        dry_run = taken.route.dry_run
        acts.append(account.act(made.what, delivery, event=event, route=taken.name, attempt=attempt, dry_run=dry_run))
    return acts
