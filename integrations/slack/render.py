"""What is said: an event, a notification, a status or a list of machines, as a Slack message. No I/O, no clock.

Every event gets the same layout: header, fields, the error in a code block, and a line that names the event. Escaping
and limits are the business of `blocks`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from eventbus.event import Event
from eventbus.pattern import matches_any
from eventbus.payload import Payload
from integrations.base import Health, Notification, Severity
from integrations.slack import blocks
from integrations.slack.blocks import Message

UNSAID = ("slack.>", "integration.webhook_received")
"""Topics that are never told: what happened in Slack is known there, and each webhook has an event of its own."""

SIGNS = {
    "completed": ":white_check_mark:",
    "recovered": ":white_check_mark:",
    "failed": ":x:",
    "degraded": ":warning:",
    "rolled_back": ":warning:",
    "dead_lettered": ":warning:",
}
STATUS = {"completed": "Success", "failed": "Failed", "rolled_back": "Rolled back"}
SEVERITY_SIGNS = {
    Severity.CRITICAL: ":rotating_light:",
    Severity.ERROR: ":x:",
    Severity.WARNING: ":warning:",
    Severity.INFO: "",
}
STATE_SIGNS = {
    "healthy": ":large_green_circle:",
    "degraded": ":large_yellow_circle:",
    "unhealthy": ":red_circle:",
}
LABELS = {
    "duration_ms": "Duration",
    "event_topic": "Topic",
    "group": "Integration",
    "memory_mb": "Memory (MiB)",
    "vcpus": "vCPUs",
    "vm_id": "VM id",
    "vm_name": "VM",
}
NAMES = ("name", "vm_name", "migration", "task_id", "vm_id", "integration", "event_topic")
"""The fields whose first filled one names what the event is about, for the push notification."""


def event_message(event: Event[Any]) -> Message | None:
    """The message about an event; None when it is not to be told."""
    if matches_any(UNSAID, event.topic):
        return None
    data = event.data.model_dump(mode="json") if isinstance(event.data, Payload) else dict(event.data)
    what = event.topic.rpartition(".")[2]
    title = _title(event.topic)
    error = data.pop("error", None) or (data.pop("detail", None) if what == "degraded" else None)
    facts = {_label(name): _value(name, value) for name, value in data.items() if value not in (None, "", {}, [])}
    if what in STATUS and "Status" not in facts:
        facts["Status"] = STATUS[what]
    subject = next((str(data[name]) for name in NAMES if data.get(name)), "")
    summary = ": ".join(part for part in (title, subject, str(error or "")) if part)
    return Message(
        blocks.escape(summary),
        (
            blocks.header(title, SIGNS.get(what, "")),
            *blocks.fields(facts),
            *([blocks.code(str(error))] if error else []),
            blocks.context(f"{event.topic} at {_moment(event.time)}, event {event.id}"),
        ),
    )


def notification_message(notification: Notification) -> Message:
    """The message of a notification. One that is more than information has a header even without a title."""
    severity = notification.severity
    title = notification.title or ("" if severity is Severity.INFO else severity.value.capitalize())
    summary = f"{title}: {notification.message}" if title else notification.message
    return Message(
        blocks.escape(summary),
        (
            *([blocks.header(title, SEVERITY_SIGNS[severity])] if title else []),
            blocks.text(notification.message),
            *blocks.fields(notification.fields),
            *(blocks.fields({"Read more": blocks.link(notification.url)}) if notification.url else []),
            *([blocks.buttons(notification.actions)] if notification.actions else []),
        ),
    )


def status_message(components: Mapping[str, Health]) -> Message:
    """How every component is, the worst first."""
    order = list(STATE_SIGNS)
    known = sorted(components.items(), key=lambda item: (-order.index(item[1].state), item[0]))
    bad = sum(health.state != "healthy" for health in components.values())
    title = f"{bad} of {len(known)} components not healthy" if bad else f"All {len(known)} components are healthy"
    entries = [
        f"{STATE_SIGNS[health.state]} {name}: {health.state}" + (f", {health.detail}" if health.detail else "")
        for name, health in known
    ]
    return Message(blocks.escape(title), (blocks.header(title), *([blocks.lines(entries)] if entries else [])))


def vm_list_message(machines: Mapping[str, Mapping[str, JsonValue]]) -> Message:
    """The machines that events told of, by name, and how many they are."""
    if not machines:
        empty = "No machine is known: none was created, started, stopped or failed since this integration was set up."
        return Message(empty, (blocks.text(empty),))
    entries = sorted(
        f"\u2022 {row.get('name') or vm_id} ({vm_id}) - {row['state']} since {row['since']}"
        for vm_id, row in machines.items()
    )
    total = f"Total: {len(entries)} VM{'s' if len(entries) > 1 else ''}"
    return Message(total, (blocks.header("VMs"), blocks.lines(entries), blocks.context(total)))


def _title(topic: str) -> str:
    words = topic.replace(".", " ").replace("_", " ")
    return "VM" + words[2:] if words.startswith("vm ") else words[:1].upper() + words[1:]


def _label(name: str) -> str:
    return LABELS.get(name) or name.replace("_", " ").capitalize()


def _value(name: str, value: object) -> str:
    if name == "duration_ms" and isinstance(value, int | float):
        return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:g} ms"
    if isinstance(value, str):
        return blocks.link(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _moment(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC")
