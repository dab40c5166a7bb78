"""What a taken route gives its integration: the event itself, a notification or an artifact, and the thread it is of.

Pure. A notification is always made, with gaps where the event has none of what was asked for: a message with a hole is
better than none. An artifact that does not fit its type is an error, since half an artifact may do harm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic import BaseModel, JsonValue, ValidationError

from eventbus.catalog import explain
from eventbus.event import Event
from integrations.base import Action, Artifact, Notification, Severity, What
from registry.routes.decide import Decision
from registry.routes.filters import cut
from registry.routes.model import Route, RouteAction, Routing
from registry.routes.scope import Names, names_for, names_of
from registry.routes.template import Note, Template

MAX_ACTION_TEXT = 75
MAX_ACTION_VALUE = 2_000
"""The limits of `integrations.base.Action`, which has them from the button element of Slack's Block Kit reference."""
MAX_THREAD = 200
"""A longer thread ends in a digest of the whole: PagerDuty's dedup_key, the shortest of those we know, takes 255."""


class RenderError(Exception):
    """A route made something that its integration can't take. The text names route and field."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What goes out by one route.

    thread  what it is about: the route's dedup_key, or the event's ordering key; empty: stands alone
    notes   what was missing, cut or mistaken, each with its field: `title: data.version is null`
    """

    what: What
    thread: str
    notes: tuple[Note, ...] = ()


def render(
    event: Event[Any], decision: Decision, routing: Routing, artifacts: Mapping[str, type[BaseModel]] | None = None
) -> Rendered:
    """What a route makes of an event. `artifacts`: types and models of the integration's manifest; None: unchecked.

    Raises RenderError for an artifact that does not fit its type.
    """
    route = decision.route
    names, notes = names_for(route, names_of(event, routing))
    pen = _Pen(names)
    pen.note("severity", notes)
    thread = _thread(event, route, pen)
    what: What = event
    if route.text is not None:
        what = _notification(event, route, pen)
    elif route.artifact is not None:
        what = _artifact(decision.name, route.artifact, route.content, pen, artifacts)
    return Rendered(what, thread, tuple(pen.notes))


class _Pen:
    """Writes templates and collects what is to be noted, by field."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.notes: list[Note] = []

    def write(self, field: str, template: Template | None) -> str:
        if template is None:
            return ""
        made = template.render(self.names)
        self.note(field, made.notes, lines=template.source.count("\n"))
        return made.text.strip()

    def note(self, field: str, notes: tuple[Note, ...], lines: int = 0) -> None:
        for note in notes:
            where = f"{field} line {note.line}" if lines and note.line else field
            self.notes.append(replace(note, text=f"{where}: {note.text}"))


def _thread(event: Event[Any], route: Route, pen: _Pen) -> str:
    """A key with a hole in it would put together what does not belong together: then the event's own holds."""
    own = event.key or ""
    before = len(pen.notes)
    key = pen.write("dedup_key", route.dedup_key)
    if not key or len(pen.notes) > before:
        return own
    if len(key) <= MAX_THREAD:
        return key
    return f"{key[: MAX_THREAD - 17]}#{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _notification(event: Event[Any], route: Route, pen: _Pen) -> Notification:
    fields = {label: pen.write(f"fields.{label}", template) for label, template in route.fields.items()}
    return Notification(
        type=route.notification or "message",
        target=pen.write("target", route.target),
        message=pen.write("text", route.text) or event.topic,
        title=pen.write("title", route.title) or None,
        severity=Severity(pen.names["severity"]),
        fields={label: value for label, value in fields.items() if value},
        url=pen.write("url", route.url) or None,
        actions=tuple(_action(n, action, pen) for n, action in enumerate(route.actions)),
    )


def _action(n: int, action: RouteAction, pen: _Pen) -> Action:
    return Action(
        text=cut(pen.write(f"actions.{n}.text", action.text) or action.action_id, MAX_ACTION_TEXT),
        action_id=action.action_id,
        value=pen.write(f"actions.{n}.value", action.value)[:MAX_ACTION_VALUE],
        style=action.style,
    )


def _artifact(
    name: str, kind: str, content: Mapping[str, Any], pen: _Pen, artifacts: Mapping[str, type[BaseModel]] | None
) -> Artifact:
    filled = {key: value for key, of in content.items() if (value := _filled(f"content.{key}", of, pen)) != ""}
    if artifacts is not None:
        _fits(name, kind, filled, artifacts, pen)
    return Artifact(type=kind, content=filled)


def _filled(at: str, value: Any, pen: _Pen) -> JsonValue:
    """The content with its templates written; entries that come out empty are left out."""
    if isinstance(value, Template):
        return pen.write(at, value)
    if isinstance(value, Mapping):
        made = {key: _filled(f"{at}.{key}", of, pen) for key, of in value.items()}
        return {key: of for key, of in made.items() if of != ""}
    if isinstance(value, list):
        return [of for of in (_filled(f"{at}.{n}", of, pen) for n, of in enumerate(value)) if of != ""]
    return cast("JsonValue", value)


def _fits(name: str, kind: str, content: JsonValue, artifacts: Mapping[str, type[BaseModel]], pen: _Pen) -> None:
    model = artifacts.get(kind)
    if model is None:
        raise RenderError(f"route {name}: artifact: no {kind!r} is made; there is: {', '.join(artifacts) or 'none'}")
    try:
        model.model_validate(content)
    except ValidationError as error:
        because = "".join(f" ({note.text})" for note in pen.notes[:3])
        raise RenderError(f"route {name}: content.{explain(error)}{because}") from None
