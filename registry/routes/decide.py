"""Which routes an event takes, and why it does not take the others. Pure: the same event and time, the same answer.

`eventbus explain` and `eventbus routes test` show these decisions; the dispatcher acts on those that are taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from eventbus.event import Event
from eventbus.topics.integration import IntegrationDrill
from eventbus.topics.noise import NotificationDue
from registry.routes.model import Route, Routing
from registry.routes.scope import Names, names_for, names_of
from registry.routes.windows import contains, next_change


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one route for one event.

    name     of the route
    reason   the first condition that failed, with its value; empty when the route is taken
    is_mute  it would be taken at another time
    """

    name: str
    route: Route
    reason: str = ""
    is_mute: bool = False

    @property
    def taken(self) -> bool:
        """Whether the event goes this way."""
        return not self.reason


def decide(event: Event[Any], routing: Routing, now: datetime) -> list[Decision]:
    """A decision for each route, in the order of the file. `now`: aware, for active and mute windows.

    A route that matches but is mute still stops those below it, as in Alertmanager: what it is mute about is not
    meant for them either.
    """
    names, decisions, stopped = names_of(event, routing), [], ""
    for name, route in routing.routes.items():
        reason = _mismatch(route, event, names, stopped)
        muted = "" if reason else outside_of_windows(route, routing, now)
        if not reason and route.stop:
            stopped = name
        decisions.append(Decision(name, route, reason or muted, bool(muted)))
    return decisions


def _mismatch(route: Route, event: Event[Any], names: Names, stopped: str) -> str:
    if not route.enabled:
        return "enabled: false"
    if asks_nothing(event):
        return "it tells of our own doing"
    if not route.matches(event.topic):
        patterns = ", ".join(route.topics)
        return f"topics: {event.topic} is {'not' if len(route.topics) == 1 else 'none of'} {patterns}"
    if stopped:
        return f"stopped by route {stopped} above"
    if route.when is None:
        return ""
    seen = names_for(route, names)[0] if route.when.reads("severity") else names
    failed = route.when.why_not(seen)
    return "" if failed is None else f"when: {failed}"


def asks_nothing(event: Event[Any]) -> bool:
    """Whether it tells of our own doing, such as what one of our artifacts caused: acting on that might never end."""
    return isinstance(event.data, NotificationDue | IntegrationDrill) or bool(getattr(event.data, "ours", False))


def outside_of_windows(route: Route, routing: Routing, now: datetime) -> str:
    """Why a route is mute at this time by its mute and active windows; empty when it is not."""
    for name in route.mute or ():
        intervals = routing.windows.get(name, ())
        if contains(intervals, now):
            return f"muted by window {name}{_until(next_change(intervals, now))}"
    if route.active is None:
        return ""
    intervals = tuple(interval for name in route.active for interval in routing.windows.get(name, ()))
    if contains(intervals, now):
        return ""
    return f"outside of its active windows {', '.join(route.active)}{_until(next_change(intervals, now))}"


def _until(time: datetime | None) -> str:
    return " for a year or more" if time is None else f" until {time.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
