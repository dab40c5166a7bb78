"""The texts we write at GitHub: comments on events and notifications, bodies and titles of artifacts. Pure.

Text of events is not trusted. Prose is escaped, everything longer stands in a fence, and what would notify somebody,
refer to an issue or look like our marker is broken by a zero-width space: GitHub looks for mentions and references
after Markdown, so a backslash does not stop them (github/markup issue 1168), and it reads replies by e-mail as plain
text, so a fence alone does not either (dependabot-core pull request 3157). Markdown of artifacts keeps its format, but
a route may have put an event's text into it: so it is broken in the same places, unless the settings trust it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from pydantic import JsonValue

from eventbus.event import Event
from eventbus.topics import (
    MigrationCompleted,
    MigrationFailed,
    MigrationRolledBack,
    MigrationStarted,
    TaskCompleted,
    TaskFailed,
    TaskStarted,
)
from integrations.base import Notification
from integrations.github.marker import PREFIX

MAX_CHARACTERS = 65_536
"""GitHub answers 422 "Body is too long (maximum is 65536 characters)" for issues, pull requests and comments."""

MAX_TITLE = 256
"""GitHub answers 422 "title is too long (maximum is 256 characters)"."""
MAX_STATUS = 140
"""GitHub answers 422 "description is too long (maximum is 140 characters)" for commit statuses."""
MAX_SUMMARY = 65_535
"""docs.github.com/rest/checks/runs, "Create a check run": `output.summary`."""

MAX_INLINE = 200
MAX_LINK = 2000
"""Our own: longer addresses are left out, since an address that is cut leads elsewhere."""
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
_MARKDOWN = re.compile(
    r"@(?=\w)|#(?=\d)|&(?=#|(?:commat|num);)|\bgh-(?=\d)|!(?=\[)|<(?=!--|/?(?:img|picture|source|video|audio|svg)\b)"
    r"|://(?=[^\s/]+/[^\s/]+/[^\s/]+/(?:issues|pull|discussions|commit)/)",
    re.IGNORECASE,
)
"""The same in Markdown that keeps its format, and what loads by itself: pictures. Entities would become the sign after
all, and the full address of an issue is a reference to it."""
_FORGED = re.compile(rf"<(?=!--\s*{PREFIX})", re.IGNORECASE)
_LONG_RUN = re.compile(rf"(`{{{MAX_TICKS}}})(?=`)")
_OPENING = re.compile(r" {0,3}(`{3,}|~{3,})")


def event_comment(event: Event[Any], marker: str) -> str | None:
    """The comment on an event's pull request, or None for an event that GitHub is not told of."""
    data = event.data
    facts: dict[str, str] = {}
    details: JsonValue = None
    match data:
        case TaskStarted():
            head, facts = "Task started", {"Worker": data.worker} if data.worker else {}
        case MigrationStarted():
            head = "Migration started"
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


def artifact_body(body: str, marker: str, *, trusted: bool = False) -> str:
    """Markdown with our marker, cut where it is too long. `trusted`: it may mention, refer and show pictures."""
    tail = f"\n\n{marker}"
    return markdown(body, MAX_CHARACTERS - len(tail), trusted=trusted) + tail


def markdown(text: str, room: int, *, trusted: bool) -> str:
    """At most `room` characters of Markdown that keeps its format and, unless trusted, does nothing by itself."""
    return cut_block(_broken(_FORGED if trusted else _MARKDOWN, _clean(text)), room)


def title(text: str, *, trusted: bool) -> str:
    """A title: one line. With squashed merges it becomes a commit's message, where `fixes #12` closes an issue."""
    line = " ".join(_clean(text).split())
    return (line if trusted else _broken(_MARKDOWN, line))[:MAX_TITLE]


def status_line(text: str) -> str:
    """The description of a commit status. GitHub shows it as it is: nothing in it formats or links."""
    line = " ".join(_clean(text).split())
    return line if len(line) <= MAX_STATUS else f"{line[: MAX_STATUS - 4].rstrip()} ..."


def inline(text: str) -> str:
    """Untrusted text on one line, escaped: it reads as it was written and does nothing."""
    return _cut_escaped(_escape(" ".join(_clean(text).split())), MAX_INLINE)


def prose(text: str) -> str:
    """Untrusted text of several lines, escaped."""
    lines = (line.strip() for line in _clean(text).split("\n"))
    return _escape("\n".join(lines))


def fence(text: str, room: int) -> str:
    """Untrusted text as a code block of at most `room` characters. No run of backticks inside can end it."""
    text = _LONG_RUN.sub(rf"\1{ZWSP}", _broken(_REFERENCE, _clean(text))).strip("\n")
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


def cut_block(text: str, room: int) -> str:
    """At most `room` characters of Markdown, ended between two blocks, and a note of how many are missing.

    So no table and no code block is cut, unless one is so large that less than half of the room would be used: that
    one ends at a line, a code block closed.
    """
    if len(text) <= room:
        return text
    last = room - len(f"\n\n... {len(text):,} more characters")
    end = max((at for at in _borders(text) if at <= last), default=0)
    if end >= room // 2:
        kept = text[:end].rstrip("\n")
        return f"{kept}\n\n... {len(text) - len(kept):,} more characters"
    longest = max((len(found[1]) for found in map(_OPENING.match, text.split("\n")) if found), default=0)
    body = cut(text, room - longest - 3)
    kept, _, note = body.rpartition("\n")
    closing = _open_fence(kept)
    return f"{kept}\n{closing}\n\n{note}" if closing else f"{kept}\n\n{note}"


def _borders(text: str) -> list[int]:
    """Where a block of Markdown ends: at empty lines outside of code blocks."""
    borders, at, fence = [], 0, ""
    for line in text.split("\n"):
        if not fence and not line.strip():
            borders.append(at)
        fence = _fence_after(fence, line)
        at += len(line) + 1
    return borders


def _assemble(top: str, marker: str, details: JsonValue = None) -> str:
    tail = f"\n\n{marker}"
    text = "" if details is None else fence(_as_text(details), MAX_CHARACTERS - len(top) - len(tail))
    return top + text + tail


def _subject(data: Any) -> str:
    if isinstance(data, TaskStarted | TaskCompleted | TaskFailed):
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
    if url is None or len(url) > MAX_LINK or not re.fullmatch(r"https?://[^\s<>()\[\]\\`]+", url):
        return ""
    return f"[Read more]({url})"


def _as_text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _clean(text: str) -> str:
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _broken(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda found: found[0] + ZWSP, text)


def _escape(text: str) -> str:
    broken = _broken(_LINK, _broken(_REFERENCE, text))
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
    """The line that closes the code block which `text` leaves open, or nothing."""
    fence = ""
    for line in text.split("\n"):
        fence = _fence_after(fence, line)
    return fence


def _fence_after(fence: str, line: str) -> str:
    """What closes the code block that is open after the line; `fence`: before it (CommonMark 0.31, section 4.5)."""
    found = _OPENING.match(line)
    if found is None:
        return fence
    if not fence:
        return "" if found[1][0] == "`" and "`" in line[found.end() :] else found[1]
    return "" if found[1].startswith(fence) and not line[found.end() :].strip() else fence
