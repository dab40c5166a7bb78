"""What a thing asks of Slack: a new message, a change of the thread's first message, a reply under it. Pure.

The call, its preview and the look-up of a lost answer are made of the same plan, so they cannot differ. How a message
looks is `render`; carrying a plan out is `client`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from eventbus.event import Event
from integrations.base import Delivery, Notification, Severity
from integrations.slack import render
from integrations.slack.blocks import Message
from integrations.slack.config import SlackConfig

EVENT_TYPE = "eventbus_delivery"
"""The kind of message metadata (docs.slack.dev, Message metadata) under which a message carries its delivery's key."""

OPENINGS = ("created", "started")
ENDINGS = ("completed", "failed", "rolled_back", "stopped", "recovered")
"""Last words of topics: an opening after an ending is the next run, which gets a message of its own."""

LOUD = ("failed", "rolled_back", "degraded", "dead_lettered")
"""Changing a message notifies nobody (docs.slack.dev, Modifying messages), so these are also said below it."""

LOUD_SEVERITIES = (Severity.CRITICAL, Severity.ERROR)


@dataclass(frozen=True, slots=True)
class Shown:
    """The first message of a thread in one channel, and what it shows.

    by     the mark of the delivery that wrote it last
    topic  what it shows, with the event's time `at`; both empty for a notification
    """

    channel: str
    ts: str
    by: str = ""
    topic: str = ""
    at: str = ""

    def pack(self) -> str:
        """As a value of a delivery's state."""
        return json.dumps(asdict(self))

    @classmethod
    def unpack(cls, packed: str | None) -> Shown | None:
        """None for none, and for what an older version wrote in another form."""
        try:
            return cls(**json.loads(packed or "null"))
        except (TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Plan:
    """One message to bring out.

    channel   where, as the settings or the notification say: #name, name, id, or a person's id
    mark      what its metadata says of the delivery's key
    root      the thread's first message, where it is to be changed (`changes`) or replied to (`replies`)
    done      an earlier attempt of this delivery wrote `root`: nothing is left to do
    topic, at  what it tells of, for the next of its thread
    """

    channel: str
    message: Message
    mark: str
    root: Shown | None = None
    changes: bool = False
    replies: bool = False
    broadcast: bool = False
    done: bool = False
    topic: str = ""
    at: str = ""

    def shown(self, channel: str, ts: str) -> Shown:
        """What the thread's first message shows once the plan is carried out."""
        return Shown(channel, ts, self.mark, self.topic, self.at)

    def post(self, root: Shown | None) -> dict[str, Any]:
        """The arguments of chat.postMessage: a reply under `root`, or a message of its own."""
        place: dict[str, Any] = {"channel": root.channel if root else self.channel}
        if root:
            place |= {"thread_ts": root.ts, "reply_broadcast": self.broadcast}
        return place | self._said() | {"unfurl_links": False, "unfurl_media": False}

    def change(self, root: Shown) -> dict[str, Any]:
        """The arguments of chat.update."""
        return {"channel": root.channel, "ts": root.ts} | self._said()

    def _said(self) -> dict[str, Any]:
        # parse and link_names: no name in the text becomes a mention (docs.slack.dev, chat.postMessage, "Formatting").
        metadata = {"event_type": EVENT_TYPE, "event_payload": {"key": self.mark}}
        quiet = {"parse": "none", "link_names": False}
        return {"text": self.message.text, "blocks": list(self.message.blocks), "metadata": metadata} | quiet


def plan(what: Event[Any] | Notification, delivery: Delivery, config: SlackConfig) -> Plan | str:
    """What it asks of Slack, or why it asks nothing."""
    mark = key_mark(delivery.key)
    if isinstance(what, Notification):
        channel = what.target or config.default_channel
        made = Plan(channel, render.notification_message(what), mark)
        return _threaded(made, delivery, config, loud=what.severity in LOUD_SEVERITIES)
    message = render.event_message(what)
    if message is None:
        return f"Slack is not told of {what.topic}"
    if what.topic == "task.started" and mode(config) == "new":
        return "a task is told of when it ends: messages are not changed later here"
    made = Plan(config.channel_for(what.topic), message, mark, topic=what.topic, at=what.time.isoformat())
    return _threaded(made, delivery, config, loud=_last(what.topic) in LOUD)


def mode(config: SlackConfig) -> str:
    """How a thread is told of. An incoming webhook can neither change messages nor reply."""
    return "new" if config.bot_token is None else config.thread_mode


def place(channel: str) -> str:
    """A channel under one name, whether or not it was written with a #."""
    return channel.removeprefix("#")


def permalink(workspace: str, channel: str, ts: str) -> str | None:
    """The address of a message, by those of its workspace (`url` of auth.test); None where that is not known.

    The form is the one that chat.getPermalink answers with (docs.slack.dev, "Example responses"): composed here, it
    costs no call for each message. That of a reply looks different, and is never asked for.
    """
    return f"{workspace.rstrip('/')}/archives/{channel}/p{ts.replace('.', '')}" if workspace else None


def state_after(plan: Plan, delivery: Delivery, shown: Shown) -> Mapping[str, str]:
    """The thread's state: the first message in each channel that was told of it."""
    known = dict(delivery.earlier.state) if delivery.earlier else {}
    return known | {place(plan.channel): shown.pack()}


def key_mark(key: str) -> str:
    """What a message's metadata says of a delivery's key. Anybody in the workspace can read it, so it is a hash."""
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def _threaded(made: Plan, delivery: Delivery, config: SlackConfig, *, loud: bool) -> Plan | str:
    """The plan, once it is known what was told of the same thread before."""
    how = mode(config)
    root = Shown.unpack(delivery.earlier.state.get(place(made.channel))) if delivery.earlier else None
    if root is None or how == "new":
        return made
    if root.by == made.mark:
        return replace(made, root=root, done=True)
    if _last(root.topic) in ENDINGS and _last(made.topic) in OPENINGS:
        return made
    if how == "thread":
        return replace(made, root=root, replies=True, broadcast=loud)
    if made.at and made.at < root.at:
        return f"the message about this shows {root.topic} already, which came later"
    return replace(made, root=root, changes=True, replies=loud, broadcast=loud)


def _last(topic: str) -> str:
    return topic.rpartition(".")[2]
