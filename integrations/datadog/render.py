"""What goes to Datadog: readings and messages as lines of DogStatsD or as bodies of the API. Pure.

Tags come from events and may hold anything: what would begin another tag, field or line is replaced, as Datadog's own
clients do (datadog/util/format.py). A message's text can't mention anybody: `@name` in an event notifies people
(docs.datadoghq.com, "Events", Notifications), so an invisible space stands in between.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import JsonValue
from pydantic_core import to_json

from eventbus.event import Event
from eventbus.pattern import matches_any
from eventbus.payload import Payload
from integrations.base import Delivery, Notification
from integrations.datadog.config import DatadogConfig
from integrations.errors import Rejected
from integrations.measure import Measure, Reading, read, unread

KINDS = ("message", "resolve")
"""Of a notification. A `resolve` is shown as a success."""

MAX_TITLE = 100
"""API v2, "Post an event", title: "Limited to 100 characters". The older API names no limit."""
MAX_TEXT = 4000
"""API v1, "Post an event", text: "Limited to 4000 characters"."""
MAX_KEY = 100
"""The same, aggregation_key: "Limited to 100 characters"."""
MAX_TAG = 200
LEAST_TEXT = 200
"""Bytes that tags leave to the text of an event."""
MAX_SERIES_BYTES = 512_000
"""API v2, "Submit metrics": "The maximum payload size is 500 kilobytes (512000 bytes)"."""

OLDEST_POINT = timedelta(hours=1)
NEWEST_POINT = timedelta(minutes=10)
"""API v2, "Submit metrics", points.timestamp: "not more than 10 minutes in the future or more than 1 hour in the past".
Datadog answers 202 to others and drops them."""
OLDEST_EVENT = timedelta(hours=18)
"""API v1, "Post an event", date_happened: "Limited to events no older than 18 hours"."""
FLUSH_SECONDS = 10
"""The interval that an Agent counts over; without one Datadog can't make a rate of a count."""

SERIES, EVENTS = "/api/v2/series", "/api/v1/events"

AlertType = Literal["error", "warning", "info", "success"]

WORDS: Mapping[str, AlertType] = {
    "critical": "error",
    "fatal": "error",
    "high": "error",
    "error": "error",
    "medium": "warning",
    "warning": "warning",
    "warn": "warning",
    "low": "info",
    "info": "info",
    "success": "success",
    "ok": "success",
}
"""What an event's field `level` or `severity` may say."""
ENDS: Mapping[str, AlertType] = {
    "failed": "error",
    "degraded": "error",
    "dead_lettered": "error",
    "exceeded": "warning",
    "completed": "success",
    "recovered": "success",
}
"""Else the last word of its topic says it."""

_LETTER = {"counter": "c", "gauge": "g", "histogram": "h"}
_COUNT, _GAUGE = 1, 3
"""API v2, MetricIntakeType."""
_TAG_CHARS = re.compile(r"[^\w\-:/.]")
_FIELD_CHARS = re.compile(r"[|\s\x00-\x1f\x7f]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
_PING = re.compile(r"@(?=\S)|%(?=%%)")
"""A mention, and the `%%%` that begins Markdown in an event's text."""
_ZWSP = "\u200b"
_NAMES = ("name", "vm_name", "migration", "task_id", "vm_id", "integration", "group")
_WHY = ("error", "detail", "reason", "message", "text")


@dataclass(frozen=True, slots=True)
class Message:
    """An event of Datadog's. `at` None: when it arrives. `tags`: beside those of everything."""

    title: str
    text: str
    alert: AlertType
    key: str
    tags: Mapping[str, str]
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the API."""

    doing: str
    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """What one event or notification comes to. `missing`: what was not measured, and why, for people."""

    readings: tuple[Reading, ...]
    message: Message | None
    at: datetime
    missing: tuple[str, ...] = ()

    @property
    def doing(self) -> str:
        """In words."""
        return "; ".join(filter(None, [self._measuring, self._showing]))

    @property
    def _measuring(self) -> str:
        return f"measure {', '.join(one.name for one in self.readings)}" if self.readings else ""

    @property
    def _showing(self) -> str:
        return f"show event {self.message.title!r}" if self.message is not None else ""

    def datagrams(self, config: DatadogConfig) -> tuple[bytes, ...]:
        """For an Agent, with as many whole lines in each as fit. Raises Rejected for a line that fits into none."""
        lines = [statsd_metric(one, config) for one in self.readings]
        if self.message is not None:
            lines.append(statsd_event(self.message, config))
        return tuple(_packed(lines, config.room))

    def requests(self, config: DatadogConfig, now: datetime) -> tuple[Request, ...]:
        """For the API. Metrics come first: sent again with their times they replace themselves, an event does not.

        Raises Rejected for points that Datadog would take and drop.
        """
        found = []
        if self.readings:
            found.append(Request(self._measuring, SERIES, self._series(config, now)))
        if self.message is not None:
            found.append(Request(self._showing, EVENTS, to_json(api_event(self.message, config))))
        return tuple(found)

    def _series(self, config: DatadogConfig, now: datetime) -> bytes:
        if not now - OLDEST_POINT <= self.at <= now + NEWEST_POINT:
            raise Rejected(
                f"it is of {self.at:%Y-%m-%d %H:%M} UTC, and Datadog drops points that are older than 1 hour or more "
                "than 10 minutes ahead; an Agent (transport: dogstatsd) counts when things arrive"
            )
        series = [one for reading in self.readings for one in api_series(reading, self.at, config)]
        content = to_json({"series": series})
        if len(content) > MAX_SERIES_BYTES:
            raise Rejected(f"{len(content):,} bytes of metrics, and Datadog takes 512,000: use fewer measures or tags")
        return content


def plan_for(what: Event[Any] | Notification, delivery: Delivery, config: DatadogConfig, now: datetime) -> Plan | None:
    """What goes to Datadog for an event or a notification; None when nothing does."""
    if isinstance(what, Notification):
        return Plan((), _told(what, delivery, config), now)
    readings, missing = read(config.active, what), unread(config.active, what)
    message = _said(what, delivery, config, now) if matches_any(config.events, what.topic) else None
    if not readings and message is None and not missing:
        return None
    return Plan(readings, message, what.time, missing)


# -- messages ----------------------------------------------------------------------------------------------------------


def _told(notification: Notification, delivery: Delivery, config: DatadogConfig) -> Message:
    if notification.type not in KINDS:
        raise Rejected(f"datadog sends no notification {notification.type!r}; it sends: {', '.join(KINDS)}")
    if notification.target not in ("", "default"):
        raise Rejected("datadog has no targets: leave target empty; who is told is decided there, by tags")
    lines = [notification.message, *(f"{name}: {value}" for name, value in notification.fields.items())]
    title = notification.title or notification.message
    alert = "success" if notification.type == "resolve" else WORDS[notification.severity.value]
    about = {name.lower().replace(" ", "_"): value for name, value in notification.fields.items()}
    tags = {"severity": notification.severity.value, "env": about.get("environment", "")}
    text = "\n".join([*lines, *([notification.url] if notification.url else [])])
    return _message(title, text, alert, delivery, tags)


def _said(event: Event[Any], delivery: Delivery, config: DatadogConfig, now: datetime) -> Message:
    data = event.data.model_dump(mode="json") if isinstance(event.data, Payload) else dict(event.data)
    inner = data.get("metrics")
    known = {**inner, **data} if isinstance(inner, dict) else data
    name = next((str(known[one]) for one in _NAMES if known.get(one)), event.subject or "")
    title = re.sub(r"[._-]+", " ", event.topic).capitalize() + (f": {name}" if name else "")
    why = "\n".join(str(known[one]) for one in _WHY if known.get(one))
    level = str(known.get("level") or known.get("severity") or "").lower()
    alert = WORDS.get(level) or ENDS.get(event.topic.rpartition(".")[2], "info")
    is_late = event.time < now - OLDEST_EVENT
    when = f"Happened at {event.time:%Y-%m-%d %H:%M:%S} UTC." if is_late else ""
    (labels,) = read((Measure(name="tags", type="counter", topics=(">",), labels=config.event_tags),), event)
    tags = {**labels.labels, "topic": event.topic}
    text = "\n".join(filter(None, [why or title, when]))
    message = _message(title, text, alert, delivery, tags)
    return message if is_late else replace(message, at=event.time)


def _message(title: str, text: str, alert: AlertType, delivery: Delivery, tags: Mapping[str, str]) -> Message:
    """Nothing of it pings, and all of it fits. Datadog takes no event without title and text."""
    line = " ".join(_plain(title).split()) or "Without a title"
    about = delivery.thread or delivery.key
    key = about if len(about) <= MAX_KEY else hashlib.sha256(about.encode()).hexdigest()
    return Message(cut(line, MAX_TITLE), cut(_plain(text).strip() or line, MAX_TEXT), alert, key, tags)


def _plain(text: str) -> str:
    return _PING.sub(lambda found: found[0] + _ZWSP, _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n")))


def cut(text: str, room: int) -> str:
    """At most `room` characters, with a note of how many are missing."""
    if len(text) <= room:
        return text
    kept = text[: room - 24]
    return f"{kept} ... {len(text) - len(kept):,} more"


def cut_bytes(text: str, room: int) -> str:
    """At most `room` bytes of UTF-8, at the border of a character and of an escaped line break."""
    raw = text.encode()
    if len(raw) <= room:
        return text
    kept = raw[: max(0, room - 24)].decode("utf-8", "ignore").removesuffix("\\")
    return f"{kept} ... {len(text) - len(kept):,} more"


# -- tags --------------------------------------------------------------------------------------------------------------


def _tags(found: Mapping[str, str], config: DatadogConfig) -> list[str]:
    """`name:value` of what is known, cleaned and cut, then the tags of everything."""
    known = (f"{name}:{_TAG_CHARS.sub('_', value)}"[:MAX_TAG] for name, value in found.items() if value)
    return [*known, *config.tags]


def _tags_within(room: int, found: Mapping[str, str], config: DatadogConfig) -> str:
    """The same as one text of at most `room` bytes, as far as that can be had by cutting what events say: names and
    the tags of everything stay whole. The longest give way first."""
    tags = _tags(found, config)
    known = range(len(tags) - len(config.tags))
    left = room - len(",".join(tags).encode()) + sum(_value_bytes(tags[one]) for one in known)
    for done, one in enumerate(sorted(known, key=lambda one: _value_bytes(tags[one]))):
        name, _, value = tags[one].partition(":")
        kept = value.encode()[: max(0, left // (len(known) - done))].decode("utf-8", "ignore")
        left -= len(kept.encode())
        tags[one] = f"{name}:{kept}" if kept else ""
    return ",".join(filter(None, tags))


def _value_bytes(tag: str) -> int:
    return len(tag.partition(":")[2].encode())


# -- DogStatsD ---------------------------------------------------------------------------------------------------------


def statsd_metric(reading: Reading, config: DatadogConfig) -> bytes:
    """`name:value|type|#tags` (docs.datadoghq.com/developers/dogstatsd/datagram_shell)."""
    line = f"{reading.name}:{_number(reading.value)}|{_LETTER[reading.type]}|#"
    host = f"host:{config.host}" if config.host else ""  # the Agent takes this tag for the host of a metric
    tags = _tags_within(config.room - len(f"{line},{host}".encode()), reading.labels, config)
    return (line + ",".join(filter(None, [tags, host]))).removesuffix("|#").encode()


def statsd_event(message: Message, config: DatadogConfig) -> bytes:
    """`_e{title,text}:title|text|...|#tags`; the lengths are of bytes in UTF-8, a line break is a backslash and an n.

    Tags and text are cut to what the datagram has room for.
    """
    fields = "".join(
        f"|{name}:{value}"
        for name, value in (
            ("d", str(int(message.at.timestamp())) if message.at else ""),
            ("h", config.host or ""),
            ("k", _FIELD_CHARS.sub("_", message.key)),
            ("s", "eventbus"),
            ("t", message.alert),
        )
        if value
    )
    title, text = message.title, message.text.replace("\n", "\\n")
    room = config.room - len(f"_e{{{MAX_TITLE * 4},{MAX_TEXT * 4}}}:{title}|{fields}|#".encode())
    tags = _tags_within(room - min(len(text.encode()), LEAST_TEXT), message.tags, config)
    text = cut_bytes(text, room - len(tags.encode()))
    sizes = f"_e{{{len(title.encode())},{len(text.encode())}}}"
    return f"{sizes}:{title}|{text}{fields}|#{tags}".removesuffix("|#").encode()


def _packed(lines: Sequence[bytes], room: int) -> Iterator[bytes]:
    packet = b""
    for line in lines:
        if len(line) > room:
            raise Rejected(
                f"{line[:60].decode('utf-8', 'ignore')}...: {len(line):,} bytes, and a datagram has {room:,}"
            )
        if packet and len(packet) + 1 + len(line) > room:
            yield packet
            packet = b""
        packet = packet + b"\n" + line if packet else line
    if packet:
        yield packet


def _number(value: float) -> str:
    """Whole numbers without a point, as they were given."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)


# -- the API -----------------------------------------------------------------------------------------------------------


def api_series(reading: Reading, at: datetime, config: DatadogConfig) -> list[dict[str, JsonValue]]:
    """What "Submit metrics" takes of a reading. It knows no histogram, so a value becomes what an Agent makes of one
    that stands alone in its interval (docs.datadoghq.com/metrics/types, "Histogram"): the same names on both ways."""
    if reading.type == "counter":
        kinds = [(reading.name, _COUNT, reading.value)]
    elif reading.type == "gauge":
        kinds = [(reading.name, _GAUGE, reading.value)]
    else:
        spread = [
            (f"{reading.name}.{part}", _GAUGE, reading.value) for part in ("avg", "max", "median", "95percentile")
        ]
        kinds = [*spread, (f"{reading.name}.count", _COUNT, 1.0)]
    return [_one_series(name, kind, value, reading, at, config) for name, kind, value in kinds]


def _one_series(
    name: str, kind: int, value: float, reading: Reading, at: datetime, config: DatadogConfig
) -> dict[str, JsonValue]:
    row: dict[str, JsonValue] = {
        "metric": name,
        "type": kind,
        "points": [{"timestamp": int(at.timestamp()), "value": value}],
        "tags": [*_tags(reading.labels, config)],
    }
    if kind == _COUNT:
        row["interval"] = FLUSH_SECONDS
    elif reading.measure.unit:
        row["unit"] = reading.measure.unit
    if config.host:
        row["resources"] = [{"type": "host", "name": config.host}]
    return row


def api_event(message: Message, config: DatadogConfig) -> dict[str, JsonValue]:
    """What "Post an event" takes."""
    row: dict[str, JsonValue] = {
        "title": message.title,
        "text": message.text,
        "alert_type": message.alert,
        "aggregation_key": message.key,
        "tags": [*_tags(message.tags, config)],
    }
    if message.at is not None:
        row["date_happened"] = int(message.at.timestamp())
    if config.host:
        row["host"] = config.host
    return row
