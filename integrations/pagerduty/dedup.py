"""The dedup key: which alert an event belongs to. Pure.

PagerDuty applies an event to the open alert of the same key, so a key must be the same for the failure and the success
of one thing, and different for every other thing. A key that is the same for everything lets one success close every
alert; a key with a time or an id in it opens an alert for each event and never closes one. Both are refused.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from eventbus.event import Event
from integrations.pagerduty.redact import cleaned

MAX_CHARACTERS = 255
"""Events API v2, "Send an Alert Event": the maximum permitted length of dedup_key."""

WITH_ENVIRONMENT = "with_environment"
PRESETS = {WITH_ENVIRONMENT: "{domain}-{subject}-{environment}", "without_environment": "{domain}-{subject}"}

_FIELD = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_SHARED = frozenset({"domain", "topic", "environment", "source", "error_type", "severity"})
"""Fields that many things have in common: a key of these alone names no thing."""
_PASSING = frozenset({"id", "event_id", "time", "timestamp", "now", "date", "datetime", "attempt", "error"}) | {
    "started_at",
    "ended_at",
    "completed_at",
    "failed_at",
    "duration_ms",
    "correlation_id",
    "traceparent",
}
"""Fields that differ between the failure and the success of one thing."""
_IDENTIFYING = ("integration", "group")
"""The fields that name the thing in events of the bus about itself, some of which have no ordering key."""


def check_template(value: str) -> str:
    """A preset's name or a template, as it is. Raises ValueError saying what is wrong with it."""
    template = PRESETS.get(value, value)
    names = set(_FIELD.findall(template))
    if re.search(r"[{}]", _FIELD.sub("", template)):
        raise ValueError("holds a { or } that is no field: write a field as {migration}")
    if passing := sorted(names & _PASSING):
        raise ValueError(
            f"holds {{{passing[0]}}}, which is different for every event: each failure would open an incident of its "
            "own and no success would ever resolve it; name what stays the same, such as {migration} or {task_id}"
        )
    if not names - _SHARED:
        raise ValueError(
            "is the same for many things: one success would resolve the alerts of all of them; "
            f"use {' or '.join(PRESETS)}, or a template with a field that names the thing, such as {{migration}}"
        )
    return value


def dedup_key(event: Event[Any], thread: str, template: str, environment: str) -> str:
    """The key of an event's alert: what a route made of it, else the template, else the preset with_environment.

    `thread` is a route's own where it differs from the event's ordering key. A template with a field that the event
    lacks does not fit the event: a key with a hole in it would be shared by strangers.
    """
    if thread and thread != event.key:
        return fitted(thread)
    fields = _fields(event, environment)
    for candidate in (PRESETS.get(template, template), PRESETS[WITH_ENVIRONMENT]):
        if all(fields.get(name) for name in _FIELD.findall(candidate)):
            return fitted(_FIELD.sub(lambda found: fields[found[1]], candidate))
    raise AssertionError("the preset's fields are always there")


def warning(key: str, event: Event[Any]) -> str:
    """Why a route's key is none that a later event can have; empty when nothing is wrong with it.

    A date or a number alone proves nothing: migrations are named by them. This event's own id or time does.
    """
    seconds = str(int(event.time.timestamp()))
    if event.id in key or seconds in key or event.time.isoformat()[:19] in key:
        return "the dedup key holds this event's id or time: no later event will resolve its incident"
    return ""


def fitted(text: str) -> str:
    """A key of at most MAX_CHARACTERS: a longer one is cut, with a digest of the whole in place of its end."""
    text = cleaned(text)
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[: MAX_CHARACTERS - 33]}-{digest(text)}"


def digest(text: str) -> str:
    """32 hexadecimal characters that stand for a text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def _fields(event: Event[Any], environment: str) -> dict[str, str]:
    data = event.data if isinstance(event.data, dict) else event.data.model_dump(mode="json")
    fields = {name: str(value) for name, value in data.items() if isinstance(value, str | int) and value != ""}
    subject = event.key.partition(":")[2] or event.key if event.key else ""
    named = next((fields[name] for name in _IDENTIFYING if name in fields), "")
    return fields | {
        "domain": event.topic.partition(".")[0],
        "topic": event.topic,
        "environment": environment,
        "source": event.source,
        # What nothing names stands alone: its own id, so that it is never taken for another.
        "subject": subject or named or event.subject or event.id,
    }
