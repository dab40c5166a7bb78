"""What we write at GitHub: an event or a notification as the text of a comment. Pure: no I/O, no clock.

Text of events is not trusted. Prose is escaped, everything longer stands in a fence, and what would notify somebody,
refer to an issue or look like our marker is broken by a zero-width space: GitHub looks for mentions and references
after Markdown, so a backslash does not stop them (github/markup issue 1168), and it reads replies by e-mail as plain
text, so a fence alone does not either (dependabot-core pull request 3157).
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from pydantic import JsonValue

from eventbus.event import Event
from eventbus.topics import MigrationCompleted, MigrationFailed, MigrationRolledBack, TaskCompleted, TaskFailed
from integrations.base import Notification

MAX_CHARACTERS = 65_536
"""GitHub answers 422 "Body is too long (maximum is 65536 characters)" for issues, pull requests and comments."""

MAX_INLINE = 200
MAX_FIELDS = 25
MAX_TICKS = 20

ZWSP = "\u200b"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Control characters, lone surrogates, and the signs that reverse the order of what is read."""
_REFERENCE = re.compile(r"[@#](?=\w)|\bgh-(?=\d)|<(?=!--)", re.IGNORECASE)
"""Mentions, `#12`, `owner/repo#12`, `GH-12` (docs.github.com, "Autolinked references"), and the start of a marker.
A closing keyword without a reference closes nothing."""
_LINK = re.compile(r":(?=//)|\bwww\.(?=\S)", re.IGNORECASE)
"""Bare addresses (GFM specification, section 6.9). One of an issue would be a reference to it."""
_SYNTAX = re.compile(r"[\\`*_\[\]<>&|~$!#]")
_LINE_SYNTAX = re.compile(r"^(?:[-+=]|[0-9]{1,9}(?=[.)](?:\s|$)))", re.MULTILINE)
"""A list, a heading's underline or a rule begin so (CommonMark 0.31, sections 4 and 5)."""
_LONG_RUN = re.compile(rf"(`{{{MAX_TICKS}}})(?=`)")
_OPENING = re.compile(r" {0,3}(`{3,}|~{3,})")


def event_comment(event: Event[Any], marker: str) -> str | None:
    """The comment on an event's pull request, or None for an event that GitHub is not told of."""
    data = event.data
    facts: dict[str, str] = {}
    details: JsonValue = None
    match data:
        case TaskCompleted():
            head, details = "Task completed", data.result
        case TaskFailed():
            head, facts, details = "Task failed", _error_type(data), data.error
        case MigrationCompleted():
            head = "Migration completed"
            facts = {} if data.rows_affected is None else {"Rows": f"{data.rows_affected:,}"}
        case MigrationFailed():
            head, facts, details = "Migration failed", _error_type(data), data.error
        case MigrationRolledBack():
            head, details = "Migration rolled back", data.reason
        case _:
            return None
    top = "\n\n".join(filter(None, [f"**{head}:** {_subject(data)}", _facts(_common_facts(data) | facts)]))
    return _assemble(top, marker) if details is None else _assemble(f"{top}\n\n", marker, details)


def notification_comment(notification: Notification, marker: str) -> str:
    """A notification as a comment. GitHub has no buttons: actions are left out."""
    title = f"**{inline(notification.title)}**\n\n" if notification.title else ""
    fields = _facts(dict(list(notification.fields.items())[:MAX_FIELDS]))
    tail = "".join(f"\n\n{part}" for part in (fields, _link(notification.url)) if part) + f"\n\n{marker}"
    return title + _cut_escaped(prose(notification.message), MAX_CHARACTERS - len(title) - len(tail)) + tail


def artifact_body(body: str, marker: str) -> str:
    """A user's own Markdown, as it is, with our marker; cut where it is too long, its open fence closed."""
    tail = f"\n\n{marker}"
    room = MAX_CHARACTERS - len(tail)
    if len(body) > room:
        body = cut(body, room - 100)
        body += f"\n{_open_fence(body)}"
    return body + tail


def inline(text: str) -> str:
    """Untrusted text on one line, escaped: it reads as it was written and does nothing."""
    return _cut_escaped(_escape(" ".join(_clean(text).split())), MAX_INLINE)


def prose(text: str) -> str:
    """Untrusted text of several lines, escaped."""
    lines = (line.strip() for line in _clean(text).split("\n"))
    return _escape("\n".join(lines))


def fence(text: str, room: int) -> str:
    """Untrusted text as a code block of at most `room` characters. No run of backticks inside can end it."""
    text = _LONG_RUN.sub(rf"\1{ZWSP}", _defuse(_clean(text))).strip("\n")
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks}\n{cut(text, room - 2 * len(ticks) - 2)}\n{ticks}"


def cut(text: str, room: int) -> str:
    """At most `room` characters, ended at a line, else a word, else a character, and a note of how many are missing."""
    if len(text) <= room:
        return text
    end = max(room - len(f"\n... {len(text):,} more characters"), 0)
    line, word = text.rfind("\n", max(end - 2000, 1), end + 1), text.rfind(" ", max(end - 100, 1), end + 1)
    if line > 0 or word > 0:
        end = line if line > 0 else word
    else:
        start = max(end - 50, 0)
        while end > start and _continues(text[end]):
            end -= 1
    return f"{text[:end]}\n... {len(text) - end:,} more characters"


def _assemble(top: str, marker: str, details: JsonValue = None) -> str:
    tail = f"\n\n{marker}"
    text = "" if details is None else fence(_as_text(details), MAX_CHARACTERS - len(top) - len(tail))
    return top + text + tail


def _subject(data: Any) -> str:
    if isinstance(data, TaskCompleted | TaskFailed):
        return inline(data.task_id) if not data.name else f"{inline(data.name)} ({inline(data.task_id)})"
    return inline(data.migration) if not data.version else f"{inline(data.migration)} ({inline(data.version)})"


def _error_type(data: TaskFailed | MigrationFailed) -> dict[str, str]:
    return {"Error": data.error_type} if data.error_type else {}


def _common_facts(data: Any) -> dict[str, str]:
    milliseconds = getattr(data, "duration_ms", None)
    facts = {} if milliseconds is None else {"Duration": duration(milliseconds)}
    return facts | ({"Environment": data.environment} if data.environment else {})


def _facts(facts: dict[str, str]) -> str:
    return "\n".join(f"- {inline(label)}: {inline(value)}" for label, value in facts.items())


def duration(milliseconds: float) -> str:
    """A duration for people: `350 ms`, `1.8 s`, `2 min 5 s`, `1 h 4 min`."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = round(milliseconds / 1000)
    if seconds < 60:
        return f"{milliseconds / 1000:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600:,} h {seconds % 3600 // 60} min"


def _link(url: str | None) -> str:
    if url is None or not re.fullmatch(r"https?://[^\s<>()\[\]\\`]+", url):
        return ""
    return f"[Read more]({url})"


def _as_text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _clean(text: str) -> str:
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _defuse(text: str) -> str:
    return _REFERENCE.sub(lambda found: found[0] + ZWSP, text)


def _escape(text: str) -> str:
    broken = _LINK.sub(lambda found: found[0] + ZWSP, _defuse(text))
    return _LINE_SYNTAX.sub(_escape_start, _SYNTAX.sub(r"\\\g<0>", broken))


def _escape_start(found: re.Match[str]) -> str:
    return f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}"


def _cut_escaped(text: str, room: int) -> str:
    """`cut`, but never between a backslash and what it escapes."""
    if len(text) <= room:
        return text
    kept, _, note = cut(text, room).rpartition("\n")
    slashes = len(kept) - len(kept.rstrip("\\"))
    return f"{kept[:-1] if slashes % 2 else kept}\n{note}"


def _continues(character: str) -> bool:
    """True for what belongs to the character before it: accents, joiners, variation selectors."""
    return unicodedata.combining(character) != 0 or unicodedata.category(character) in ("Mn", "Me", "Cf")


def _open_fence(text: str) -> str:
    """The line that closes the code block which `text` leaves open, or nothing (CommonMark 0.31, section 4.5)."""
    mark = ""
    for line in text.split("\n"):
        found = _OPENING.match(line)
        if found is None:
            continue
        if not mark:
            mark = found[1]
        elif found[1].startswith(mark) and not line[found.end() :].strip():
            mark = ""
    return mark
