"""What two configurations would have sent for the same events: messages that appear, vanish or change.

Pure. Each event is decided at its own time, so that windows count as they did then. What an integration does in its
own layout is one message whose words are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from eventbus.event import Event
from eventbus.pattern import matches_any
from integrations.base import Artifact, Notification, What
from registry.routes.decide import Decision, asks_nothing, decide
from registry.routes.model import Routing
from registry.routes.render import RenderError, render

OWN_LAYOUT = "in the integration's own layout"


@dataclass(frozen=True)
class Plan:
    """One configuration. `accounts`: the enabled integrations, with the patterns each takes by itself."""

    routing: Routing
    accounts: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """What would leave for one event by one route; `route` is empty where an integration acts by itself."""

    route: str
    to: str
    kind: str
    target: str
    thread: str
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `before` is None for what appears, `after` for what vanishes."""

    event: Event[Any]
    before: Message | None
    after: Message | None

    @property
    def kind(self) -> Literal["appear", "vanish", "change"]:
        """In a word."""
        if self.before is None:
            return "appear"
        return "vanish" if self.after is None else "change"


def compare(events: Iterable[Event[Any]], old: Plan, new: Plan) -> Iterator[Change]:
    """The differences, event by event."""
    for event in events:
        yield from _changes(event, messages(event, old), messages(event, new))


def messages(event: Event[Any], plan: Plan) -> list[Message]:
    """What a configuration sends for an event. Dry-run routes send nothing.

    Of a route that groups it is what the event would look like if it were told of alone.
    """
    if asks_nothing(event):
        return []
    taken = [decision for decision in decide(event, plan.routing, event.time) if decision.taken]
    found = [
        _message(event, decision, plan.routing)
        for decision in taken
        if decision.route.to in plan.accounts and not decision.route.dry_run
    ]
    for account, patterns in plan.accounts.items():
        if matches_any(patterns, event.topic) and not plan.routing.takes_over(account, event.topic):
            found.append(Message("", account, "event", "", event.key or "", OWN_LAYOUT))
    return found


def _message(event: Event[Any], decision: Decision, routing: Routing) -> Message:
    try:
        rendered = render(event, decision, routing)
    except RenderError as error:
        return Message(decision.name, decision.route.to, "fault", "", "", str(error))
    kind, target, text = _described(rendered.what)
    return Message(decision.name, decision.route.to, kind, target, rendered.thread, text)


def _described(what: What) -> tuple[str, str, str]:
    if isinstance(what, Notification):
        return what.type, what.target, what.model_dump_json(exclude={"type", "target"}, exclude_defaults=True, indent=2)
    if isinstance(what, Artifact):
        return what.type, "", what.model_dump_json(include={"content"}, indent=2)
    return "event", "", OWN_LAYOUT


def _changes(event: Event[Any], before: list[Message], after: list[Message]) -> Iterator[Change]:
    """Pairs what is the same, then what is of one thread at one place, then what is of one route; the rest came or
    went."""
    same: list[Callable[[Message], Hashable]] = [
        lambda m: (m.to, m.kind, m.target, m.thread, m.text),
        lambda m: (m.to, m.kind, m.target, m.thread),
        lambda m: (m.to, m.route),
    ]
    for level, key in enumerate(same):
        for old in list(before):
            new = next((other for other in after if key(other) == key(old)), None)
            if new is not None:
                before.remove(old)
                after.remove(new)
                if level:
                    yield Change(event, old, new)
    yield from (Change(event, old, None) for old in before)
    yield from (Change(event, None, new) for new in after)
