"""Block Kit pieces: the only place that makes Slack markup, and where every limit of a message is kept.

Text that comes from elsewhere is escaped and cut here, whatever it holds; it can neither name a person or a channel
nor end the piece it stands in. Only a `Markup`, made here of checked parts, passes as it is. Limits: docs.slack.dev,
Block Kit reference. Which pieces make which message is `render`'s subject.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from integrations.base import Action

Block = dict[str, Any]

MAX_TEXT = 3_000
"""Text of a section (section block: "maximum length is 3000 characters"); also our limit of the fallback text, below
the 4,000 that chat.postMessage advises."""
MAX_HEADER = 150
MAX_FIELDS = 10
MAX_FIELD = 700
"""Section block allows 2,000 for each of 10 fields, but a message whose texts exceed about 13,200 characters in all is
refused (msg_blocks_too_long; undocumented, slackapi/bolt-js issue 2509). With 700, the largest message stays below."""
MAX_CONTEXT = 1_500
MAX_FACT = 300
MAX_ERROR = 500
MAX_LINK = 500

_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
"""docs.slack.dev, Formatting message text, "Escaping text": these three characters and no others."""
_LINKABLE = re.compile(r"https?://[!#-;=?-_a-{}~]+")  # printable ASCII but " < > ` and the bar
_PERSON = re.compile(r"[UW][A-Z0-9]{1,30}")  # user ids begin with U or W (docs.slack.dev, users.info)
_THREE_BACKTICKS = re.compile(r"`(?=``)")


@dataclass(frozen=True, slots=True)
class Message:
    """What is posted: the blocks that people see, and the text that stands in for them in a push notification."""

    text: str
    blocks: tuple[Block, ...] = ()


class Markup(str):
    """Slack markup that this module made of checked parts."""

    __slots__ = ()


def _clean(text: str) -> str:
    """Without control characters and lone surrogates: they are no text, and Slack refuses some of them."""
    text = "".join(c for c in text if c in "\n\t" or (c >= " " and c not in "\x7f\u2028\u2029"))
    return text.encode("utf-8", "replace").decode()


def _width(character: str) -> int:
    """Slack does not say what a character is: the escaped form counts, in UTF-16 units, the larger reading."""
    return len(_ESCAPES.get(character, character)) + (character > "\uffff")


def escape(text: str, limit: int = MAX_TEXT) -> str:
    """The text for any Slack field: escaped, at most `limit` long with an ellipsis where it was cut, never empty."""
    text = _clean(text).strip() or "-"
    if sum(map(_width, text)) > limit:
        room = limit - 1
        for end, character in enumerate(text):
            room -= _width(character)
            if room < 0:
                text = text[:end] + "\u2026"
                break
    return "".join(_ESCAPES.get(c, c) for c in text)


def link(url: str) -> str:
    """A link that shows its address. What is no plain http or https address stays text."""
    escaped = "".join(_ESCAPES.get(c, c) for c in url)
    return Markup(f"<{escaped}>") if len(escaped) <= MAX_LINK and _LINKABLE.fullmatch(url) else url


def person(user_id: str) -> str:
    """Somebody's name as Slack shows it. Who is named in a new message is told of it: never for an id from a text."""
    return Markup(f"<@{user_id}>") if _PERSON.fullmatch(user_id) else user_id


def signed(sign: str, word: str) -> str:
    """A word of ours with an emoji before it, such as `:x:`."""
    return Markup(f"{sign} {escape(word, 100)}")


def _plain(text: str, limit: int, *, emoji: bool = False) -> Block:
    return {"type": "plain_text", "text": escape(text, limit), "emoji": emoji}


def _mrkdwn(text: str) -> Block:
    # verbatim: Slack turns no URL, channel name or @name of the text into a link of its own (text object reference).
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def header(title: str, sign: str = "") -> Block:
    """The title, on one line. `sign` is an emoji's name, such as `:x:`."""
    return {"type": "header", "text": _plain(f"{sign} {' '.join(title.split())}", MAX_HEADER, emoji=True)}


def text(body: str) -> Block:
    """A paragraph that is shown character by character: no formatting, no emoji names."""
    return {"type": "section", "text": _plain(body, MAX_TEXT)}


def fields(facts: Mapping[str, str]) -> list[Block]:
    """Labels and values side by side; where there are more than MAX_FIELDS, how many are missing."""
    if not facts:
        return []
    shown = list(facts.items())[:MAX_FIELDS]
    blocks: list[Block] = [{"type": "section", "fields": [_mrkdwn(_field(*fact)) for fact in shown]}]
    if more := len(facts) - len(shown):
        blocks.append(context(f"and {more} more"))
    return blocks


def _field(label: str, value: str) -> str:
    name = escape(" ".join(label.replace("*", "").split()), 100)
    return f"*{name}*\n" + _value(value, MAX_FIELD - len(name) - 3)


def _value(value: str, limit: int) -> str:
    return value if isinstance(value, Markup) else escape(value, limit)


def code(body: str) -> Block:
    """An error's text in a code block, cut at MAX_ERROR characters; its own backticks can't end the block."""
    body = _clean(body).strip()
    body = body[:MAX_ERROR] + ("\u2026" if len(body) > MAX_ERROR else "")
    body = escape(_THREE_BACKTICKS.sub("`\u200b", body), MAX_TEXT - 8)
    return {"type": "section", "text": _mrkdwn(f"```\n{body}\n```")}


def lines(entries: Sequence[str]) -> Block:
    """One entry a line, as many as fit, then how many are missing."""
    room = MAX_TEXT - 30
    shown: list[str] = []
    for entry in entries:
        line = escape(" ".join(entry.split()), 300)
        room -= sum(map(_width, line)) + 1
        if room < 0:
            break
        shown.append(line)
    if more := len(entries) - len(shown):
        shown.append(f"and {more} more")
    return {"type": "section", "text": _mrkdwn("\n".join(shown))}


def context(body: str) -> Block:
    """A small grey line."""
    return {"type": "context", "elements": [_mrkdwn(escape(body, MAX_FIELD))]}


def facts(known: Mapping[str, str]) -> list[Block]:
    """Labels and values on a small grey line, as many as fit, then how many are missing."""
    room, shown = MAX_CONTEXT - 20, []
    for label, value in known.items():
        fact = f"{escape(' '.join(label.split()), 100)}: {_value(value, MAX_FACT)}"
        room -= len(fact.encode("utf-16-le")) // 2 + 3
        if room < 0:
            break
        shown.append(fact)
    if more := len(known) - len(shown):
        shown.append(f"and {more} more")
    return [{"type": "context", "elements": [_mrkdwn(" | ".join(shown))]}] if shown else []


def notes(entries: Sequence[tuple[str, str, str]]) -> list[Block]:
    """What people did, one line for each: `Approved by <whom> <when>`, of words of ours and an id that was checked."""
    said = [
        f"{escape(what, 100)} by {_value(person(who), 100)} {escape(when, 100)}" for what, who, when in entries[:25]
    ]
    return [{"type": "context", "elements": [_mrkdwn("\n".join(said))]}] if said else []


def people(ids: Sequence[str]) -> str:
    """Names of people, by ids that were checked."""
    return Markup(", ".join(_value(person(id_), 40) for id_ in ids[:20]))


def buttons(actions: Iterable[Action], block_id: str = "") -> Block:
    """A row of buttons. Their own limits are `Action`'s; a button without a value carries none."""
    row: Block = {"type": "actions", "elements": [_button(action) for action in actions]}
    return row | ({"block_id": block_id} if block_id else {})


def _button(action: Action) -> Block:
    button: Block = {"type": "button", "text": _plain(action.text, 75), "action_id": action.action_id}
    return (
        button | ({"value": action.value} if action.value else {}) | ({"style": action.style} if action.style else {})
    )
