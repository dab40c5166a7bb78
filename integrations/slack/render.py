"""What is said: an event, a notification, a status or a list of machines, as a Slack message. No I/O, no clock.

Two layouts. What went well: header, then fields, of which a migration's are name, duration, environment and status.
What failed: header, the error in a code block, then the facts on a small line. Both end with a line that names the
event. Escaping and limits are the business of `blocks`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from eventbus.event import Event
from eventbus.pattern import matches_any
from eventbus.payload import Payload
from eventbus.topics.approval import Vote
from integrations.base import Action, Health, Notification, Severity
from integrations.doubts import Doubt, Resolved
from integrations.slack import blocks
from integrations.slack.approvals import APPROVAL_BLOCK, Asked, Standing, standing
from integrations.slack.blocks import Block, Message
from integrations.slack.doubts import DOUBT_BLOCK

UNSAID = ("slack.>", "integration.webhook_received")
"""Topics that are never told: what happened in Slack is known there, and each webhook has an event of its own."""

SIGNS = {
    "recovered": ":white_check_mark:",
    "failed": ":x:",
    "failing": ":warning:",
    "degraded": ":warning:",
    "rolled_back": ":warning:",
    "dead_lettered": ":warning:",
}
STATUS = {
    "started": (":hourglass_flowing_sand:", "Running"),
    "completed": (":white_check_mark:", "Success"),
    "rolled_back": (":rewind:", "Rolled back"),
}
FIRST = ("migration", "task_id", "name", "vm_id", "vm_name", "duration_ms", "environment")
"""The fields that come first, in this order; then the status, then the others as the event has them."""
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
APPROVAL_SIGNS: dict[Standing, str] = {
    "open": ":ballot_box_with_ballot:",
    "granted": ":white_check_mark:",
    "rejected": ":x:",
    "expired": ":hourglass:",
}
APPROVAL_BUTTONS = (
    Action(text="Approve", action_id="approve", style="primary"),
    Action(text="Reject", action_id="reject", style="danger"),
)
ENDED: dict[Standing, str] = {
    "granted": "This was approved already; nothing was changed.",
    "rejected": "This was rejected already; nothing was changed.",
    "expired": "The time for this is over; nothing was changed.",
}
VOTED = {"approve": "Approved", "reject": "Rejected"}
MOST_DOUBTS = 12
"""In one message: each has up to 900 characters and two buttons, and all blocks about 13,200 (`blocks.MAX_FIELD`)."""
RESOLVED = {"done": "it was done, said", "resend": "sent again, as asked"}
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
    facts = {_label(name): _value(name, data[name]) for name in _ordered(data) if data[name] not in (None, "", {}, [])}
    if what in STATUS and not error and "Status" not in facts:
        facts = _with_status(facts, blocks.signed(*STATUS[what]))
    subject = next((str(data[name]) for name in NAMES if data.get(name)), "")
    summary = ": ".join(part for part in (title, subject, str(error or "")) if part)
    return Message(
        blocks.escape(summary),
        (
            blocks.header(title, SIGNS.get(what, "")),
            *([blocks.code(str(error)), *blocks.facts(facts)] if error else blocks.fields(facts)),
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


def approval_message(asked: Asked, votes: Sequence[Vote], stands: Standing) -> Message:
    """What is asked and who may decide, with buttons while it is open; then what it came to, by whom and when."""
    what, open_ = asked.what, stands == "open"
    title = what.title if open_ else f"{stands.capitalize()}: {what.title}"
    who = blocks.people(what.approvers) if what.approvers else "anybody here"
    facts = {"Who decides": who, "Until": _moment(asked.expires_at)} if open_ else {}
    if open_ and what.quorum > 1:
        facts["Approvals needed"] = str(what.quorum)
    done = [(VOTED[vote.decision], vote.user_id, f"at {_moment(vote.at)}") for vote in votes]
    return Message(
        blocks.escape(title),
        (
            blocks.header(title, APPROVAL_SIGNS[stands]),
            *([blocks.text(what.text)] if what.text else []),
            *blocks.fields(facts),
            *blocks.notes(done),
            *([blocks.buttons(APPROVAL_BUTTONS, APPROVAL_BLOCK + asked.id)] if open_ else []),
            *([blocks.context(f"Nobody decided until {_moment(asked.expires_at)}")] if stands == "expired" else []),
        ),
    )


def no_vote_message(asked: Asked | None, votes: Sequence[Vote], user: str, now: datetime) -> Message:
    """Why a click did not count, for whoever clicked."""
    mine = next((vote for vote in votes if vote.user_id == user), None)
    if asked is None:
        text = "This approval is not known any more."
    elif asked.what.approvers and user not in asked.what.approvers:
        text = "You are not among those who may decide this."
    elif (stands := standing(asked, votes, now)) != "open":
        text = ENDED[stands]
    elif mine is not None:
        text = f"You voted already: {VOTED[mine.decision].lower()} at {_moment(mine.at)}. A vote can't be changed."
    else:
        text = "That was not counted; please try again."
    return Message(text, (blocks.text(text),))


def doubts_message(doubts: Sequence[Doubt], count: int, note: str = "", by: Resolved | None = None) -> Message:
    """The calls in doubt, each with its buttons. `note`: which one was decided just now, with what became of it."""
    noun = "call is" if count == 1 else "calls are"
    title = f"{count} {noun} in doubt" if count else "No call is in doubt"
    told = blocks.notes([(f"{note}: {RESOLVED[by.how]}", by.by, f"at {_moment(by.at)}")]) if by else []
    if note and by is None:
        told = [blocks.context(f"{note}: it is not known any more; nothing was changed")]
    shown = [block for doubt in doubts for block in _doubt(doubt)]
    more = [blocks.context(f"and {count - len(doubts)} more, older ones")] if count > len(doubts) else []
    return Message(title, (blocks.header(title), *told, *shown, *more))


def _doubt(doubt: Doubt) -> list[Block]:
    actions = [
        Action(text="It was done", action_id="done", value=doubt.event_id, style="primary"),
        Action(text="Send again", action_id="resend", value=doubt.event_id, style="danger"),
    ]
    entries = [f"{doubt.group}: {doubt.topic}", doubt.error, f"event {doubt.event_id}, since {_moment(doubt.since)}"]
    return [blocks.lines(entries), blocks.buttons(actions, DOUBT_BLOCK + doubt.id)]


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


def _ordered(data: Mapping[str, Any]) -> list[str]:
    return [*(name for name in FIRST if name in data), *(name for name in data if name not in FIRST)]


def _with_status(facts: Mapping[str, str], status: str) -> dict[str, str]:
    first = {_label(name) for name in FIRST}
    before = {label: value for label, value in facts.items() if label in first}
    return before | {"Status": status} | dict(facts)


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
