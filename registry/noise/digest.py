"""The words of a group's message. Pure.

One alert is told of as its route renders it. Several become one message: how many fire and how many are resolved, one
line for each, the highest severity of those that fire, and what they have in common as fields. Services cut and escape
it as any other notification.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue

from integrations.base import Notification, Severity
from registry.noise.group import Alert, Flush, Group
from registry.routes.filters import cut
from registry.routes.model import Grouping
from registry.routes.template import GroupTemplate

MAX_LINES = 20
MAX_LINE = 300
RESOLVE = "resolve"
"""The kind of notification by which a service that has one is told that all of it is over."""

_LOUDEST = tuple(Severity)


def digest(flush: Flush, rules: Grouping, kind: str | None, kinds: Collection[str]) -> Notification:
    """The message for what is told at one time of a group.

    kind   that the route names itself
    kinds  those that the integration sends: an end is told as `resolve` where there is such a kind
    """
    alerts = list(flush.alerts.values())
    firing = [one for one in alerts if one.status != "resolved"]
    over = not firing and kind is None and RESOLVE in kinds
    made = _alone(alerts[0]) if len(alerts) == 1 and not flush.group.beyond else _several(flush.group, alerts, rules)
    return made.model_copy(update={"type": RESOLVE}) if over else made


def _alone(alert: Alert) -> Notification:
    """As the route renders its latest event. An end that no event told has only the words of its beginning."""
    what = alert.what
    if alert.status != "resolved" or not alert.by_time:
        return what
    title = f"[resolved] {what.title or _line(alert)}"
    return what.model_copy(update={"title": title, "severity": Severity.INFO})


def _several(group: Group, alerts: list[Alert], rules: Grouping) -> Notification:
    firing = [one for one in alerts if one.status != "resolved"]
    resolved = [one for one in alerts if one.status == "resolved"]
    names = _names(group, firing, resolved)
    urls = {one.what.url for one in alerts}
    first = alerts[0].what
    return Notification(
        type=first.type,
        target=first.target,
        title=_written(rules.title, names) or _title(group, alerts),
        message=_written(rules.text, names) or _lines(firing, resolved, group.beyond),
        severity=min((one.what.severity for one in firing), key=_LOUDEST.index, default=Severity.INFO),
        fields={name: value for name, value in group.values.items() if value},
        url=urls.pop() if len(urls) == 1 else None,
    )


def _title(group: Group, alerts: list[Alert]) -> str:
    words = {"firing": "firing", "momentary": "new", "resolved": "resolved"}
    counted = ((sum(one.status == status for one in alerts), word) for status, word in words.items())
    return f"[{', '.join(f'{count} {word}' for count, word in counted if count)}] {group.label or group.route}"


def _lines(firing: list[Alert], resolved: list[Alert], beyond: int) -> str:
    lines = [_line(one) for one in firing] + [f"resolved: {_line(one)}" for one in resolved]
    more = len(lines) - MAX_LINES + beyond if len(lines) > MAX_LINES else beyond
    return "\n".join([*lines[:MAX_LINES], *([f"... {more:,} more"] if more else [])])


def _line(alert: Alert) -> str:
    return cut((alert.what.title or alert.what.message).partition("\n")[0], MAX_LINE)


def _written(template: GroupTemplate | None, names: Mapping[str, Any]) -> str:
    return "" if template is None else template.render(names).text.strip()


def _names(group: Group, firing: list[Alert], resolved: list[Alert]) -> dict[str, JsonValue]:
    """What the texts of a group see: docs/routes.md lists it."""
    return {
        "group": dict(group.values),
        "firing": [_named(one) for one in firing],
        "resolved": [_named(one) for one in resolved],
        "status": "firing" if firing else "resolved",
    }


def _named(alert: Alert) -> JsonValue:
    what, since = alert.what, datetime.fromtimestamp(alert.since, UTC)
    said: dict[str, JsonValue] = {"title": what.title or "", "text": what.message, "url": what.url or ""}
    known = {name: alert.names.get(name) for name in ("topic", "event", "data")}
    return {**said, **known, "severity": what.severity.value, "since": since.isoformat(timespec="seconds")}
