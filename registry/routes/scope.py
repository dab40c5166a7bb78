"""What the templates of a route can see of an event: plain JSON under the names that docs/routes.md lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventbus.event import Event
from integrations.base import Severity
from registry.routes.filters import Unknown, as_text
from registry.routes.model import WORDS, Route, Routing, SeverityTable
from registry.routes.template import Note

Names = dict[str, Any]

ENVELOPE = frozenset({"id", "time", "source", "subject", "key", "correlation_id"})
"""The fields of the envelope that templates see as `event`."""


def names_of(event: Event[Any], routing: Routing) -> Names:
    """What every route sees of the event."""
    dumped = event.model_dump(mode="json", include=set(ENVELOPE) | {"data"})
    data = dumped.pop("data")
    return {
        "topic": event.topic,
        "event": dumped,
        "data": data,
        "runbook": routing.runbook(data.get("environment"), data.get("error_type")),
    }


def names_for(route: Route, names: Names) -> tuple[Names, tuple[Note, ...]]:
    """The names with the route's own severity, and what is to be noted about that."""
    severity, notes = severity_of(route, names)
    return {**names, "severity": severity.value}, notes


def names_on(name: str, route: Route, event: Event[Any], routing: Routing) -> Names:
    """What silences and inhibitions see of an event on a route."""
    return {**names_for(route, names_of(event, routing))[0], "route": name, "to": route.to}


def severity_of(route: Route, names: Mapping[str, Any]) -> tuple[Severity, tuple[Note, ...]]:
    """A word that is none of them counts as error: too loud rather than unheard."""
    if route.severity is None:
        return Severity.INFO, ()
    if isinstance(route.severity, SeverityTable):
        table, value = route.severity, route.severity.by.value(names)
        return table.map.get(as_text(value), table.default), _note(value)
    made = route.severity.render(names)
    word = made.text.strip().lower()
    if word in WORDS:
        return WORDS[word], made.notes
    if not word:
        return Severity.INFO, made.notes
    return Severity.ERROR, (*made.notes, Note(1, f"{word[:40]!r} is no severity; there is: {', '.join(WORDS)}", True))


def _note(value: object) -> tuple[Note, ...]:
    return (Note(1, value.reason, value.is_mistake),) if isinstance(value, Unknown) else ()
