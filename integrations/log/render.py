"""What a log line says of an event, a notification or an artifact. Pure.

A value becomes one line of bounded length without control characters, so that no payload can forge a line, colour a
terminal or fill a disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from eventbus.event import Event
from integrations.base import Artifact, Notification

MAX_VALUE_CHARACTERS = 200
MAX_FIELDS = 30

Line = dict[str, Any]


def describe_event(event: Event[Any], *, data: bool) -> Line:
    """The fields of an event's line."""
    line = {"topic": event.topic, "event_id": event.id, "source": event.source, "ordering_key": event.key}
    return _line(line, event.model_dump(mode="json", include={"data"})["data"] if data else None)


def describe_notification(notification: Notification, *, data: bool) -> Line:
    """The fields of a notification's line."""
    content = notification.model_dump(mode="json", exclude={"type", "target", "severity"}, exclude_defaults=True)
    line = {"kind": notification.type, "target": notification.target, "severity": notification.severity.value}
    return _line(line, content if data else None)


def describe_artifact(artifact: Artifact, *, data: bool) -> Line:
    """The fields of an artifact's line."""
    return _line({"kind": artifact.type}, artifact.content if data else None)


def _line(fields: Mapping[str, Any], data: Mapping[str, Any] | None) -> Line:
    line = {name: _value(value) for name, value in fields.items() if value}
    return line if data is None else line | {"data": _data(data)}


def _data(data: Mapping[str, Any]) -> Line:
    shown = {one_line(name): _value(value) for name, value in list(data.items())[:MAX_FIELDS]}
    left_out = len(data) - len(shown)
    return shown | ({"...": f"{left_out} more fields"} if left_out > 0 else {})


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return one_line(value if isinstance(value, str) else to_json(value).decode())


def one_line(value: str) -> str:
    """The text, cut, with what is not printable written as an escape."""
    cut = value[:MAX_VALUE_CHARACTERS]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return shown if cut == value else f"{shown}... ({len(value):,} characters)"
