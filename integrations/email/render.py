"""What a mail says, and the mail as bytes. Pure: the sending and the preview take the same.

Text of events is not trusted: it stands in one header, the subject, without line breaks and without what looks like an
encoded word (RFC 2047), which the standard library would decode and write out as headers of its own (CPython issue
121650); in the HTML part every character that has a meaning there is escaped. Mail programs make links of bare
addresses by themselves, so such a link leads where it says. A link with other words is never made of an event's text.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address, HeaderRegistry, MessageIDHeader
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any

from eventbus.event import Event
from eventbus.payload import Payload
from integrations.base import Delivery, Notification, Severity
from integrations.email.config import MAX_RECIPIENTS, EmailConfig, mailbox
from integrations.errors import Rejected

MAX_SUBJECT = 200
"""Our own: mail programs show some 70 characters. RFC 5322, section 2.1.1, allows 998 in a line."""
MAX_TEXT = 20_000
MAX_VALUE = 1000
MAX_FIELDS = 30
MAX_OCTETS = 1_500_000
"""No mail is larger: its texts twice, as text and as HTML, of characters that take twelve octets each."""
MAX_LINK = 2000
"""Longer addresses are left out: one that is cut leads elsewhere."""

WELL = ("completed", "recovered")
"""Last words of the topics that tell of success."""
NAMES = ("name", "vm_name", "migration", "task_id", "vm_id", "integration", "group")
"""The fields whose first filled one names what an event is about."""
_TITLES = {"vm": "VM"}
_LOUD = (Severity.CRITICAL, Severity.ERROR, Severity.WARNING)

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, lone surrogates, separators that some take for line breaks, and the signs that reverse the order
of what is read. Tabs and line feeds are looked at where one line is wanted."""
_LINK = re.compile(r"https?://[^\s<>\"'\\/?#@]+(?:[/?#][^\s<>\"'\\]*)?")


@dataclass(frozen=True, slots=True)
class Skipped:
    """No mail is sent, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail, before the time of its sending is known.

    to      who is written to; never shown in a header of another letter
    root    the id of the first mail of its thread; its own where it is the first
    ends    the next mail of the thread begins a new one
    """

    to: tuple[Address, ...]
    subject: str
    text: str
    html: str
    message_id: str
    root: str
    ends: bool = False

    @property
    def recipients(self) -> tuple[str, ...]:
        """The addresses alone."""
        return tuple(one.addr_spec for one in self.to)


@dataclass(frozen=True, slots=True)
class _Page:
    """What is said, before it is plain text or HTML."""

    title: str
    text: str
    footer: str
    facts: Mapping[str, str] = field(default_factory=dict)
    link: str = ""
    is_verbatim: bool = False


def letter_for(
    what: Event[Any] | Notification, delivery: Delivery, config: EmailConfig, account: str
) -> Letter | Skipped:
    """The mail about an event or a notification. Raises Rejected for what can never be sent.

    account  our name in the settings: that we ourselves are degraded can't be told by mail
    """
    if isinstance(what, Notification):
        return _letter(_notification_page(what), _targets(what.target, config), delivery, config)
    fields = what.data.model_dump(mode="json") if isinstance(what.data, Payload) else dict(what.data)
    is_well = what.topic.rpartition(".")[2] in WELL
    if what.topic.startswith("integration.") and fields.get("integration") == account:
        return Skipped("it is about this integration itself")
    if is_well and config.successes == "never":
        return Skipped("successes is never: what went well is not told")
    if is_well and config.successes == "after_failure" and delivery.earlier is None:
        return Skipped("nothing was written about it before, and successes is after_failure")
    to = tuple(mailbox(one) for one in config.recipients)
    return _letter(_event_page(what, fields), to, delivery, config, ends=is_well)


def mime(letter: Letter, config: EmailConfig, date: datetime | None) -> EmailMessage:
    """The mail as it leaves: 7-bit, lines of 76 characters at most. `date` None: without its header, for a preview."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = mailbox(config.sender)
    message["To"] = letter.to
    message["Subject"] = letter.subject
    if date is not None:
        message["Date"] = format_datetime(date)
    message["Message-ID"] = letter.message_id
    if letter.root != letter.message_id:
        message["In-Reply-To"] = letter.root
        message["References"] = letter.root
    # RFC 3834, section 5: for mail that a program made by itself, so that no other program answers it.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text, cte="quoted-printable")
    message.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    message.set_boundary(f"=_{_digest(letter.message_id)}")
    return message


def message_id(key: str, config: EmailConfig) -> str:
    """The id of a delivery's mail: the same on every attempt (RFC 5322, section 3.6.4)."""
    return f"<{_digest(key)}@{config.our_name}>"


def _registry() -> HeaderRegistry:
    """Headers with ids are ids: the library takes them for text and encodes long ones, which RFC 2047, section 5,
    forbids."""
    registry = HeaderRegistry()
    for name in ("in-reply-to", "references"):
        registry.map_to_type(name, MessageIDHeader)  # type: ignore[arg-type]  # typeshed wants what the registry makes
    return registry


_POLICY = SMTP.clone(header_factory=_registry())


def _letter(
    page: _Page, to: tuple[Address, ...], delivery: Delivery, config: EmailConfig, *, ends: bool = False
) -> Letter:
    own = message_id(delivery.key, config)
    root = delivery.earlier.state.get("root", own) if delivery.earlier else own
    about = f"{page.title}: {one_line(page.text)}" if page.is_verbatim and page.text else page.title
    subject = cut(" ".join(filter(None, [one_line(config.subject_prefix), about])), MAX_SUBJECT)
    return Letter(to, subject, _plain(page), _html(page), own, root, ends)


def _targets(target: str, config: EmailConfig) -> tuple[Address, ...]:
    """Who a notification goes to: its target, or several with commas between them, or the recipients."""
    if target in ("", "default"):
        return tuple(mailbox(one) for one in config.recipients)
    found: dict[str, Address] = {}
    for text in target.split(",", MAX_RECIPIENTS)[:MAX_RECIPIENTS]:
        try:
            one = mailbox(text)
        except ValueError as error:
            raise Rejected(f"target {cut(one_line(text), 100)!r} {error}") from None
        if not config.may_write_to(one.addr_spec):
            raise Rejected(
                f"target {one.addr_spec} is none of the recipients: name it, or @{one.domain}, in allowed_targets"
            )
        found[one.addr_spec] = one
    return tuple(found.values())


# -- what is said ------------------------------------------------------------------------------------------------------


def _event_page(event: Event[Any], fields: Mapping[str, Any]) -> _Page:
    domain, _, what = event.topic.partition(".")
    name = next((str(fields[one]) for one in NAMES if fields.get(one)), event.subject or "")
    where = fields.get("environment")
    title = " ".join(filter(None, [_TITLES.get(domain, domain.capitalize()), name, what.replace("_", " ")]))
    text = fields.get("error") or fields.get("detail") or fields.get("reason") or ""
    facts = {
        _label(one): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for one, value in fields.items()
        if value not in (None, "", {}, []) and one not in ("error", "detail", "reason")
    }
    return _Page(
        one_line(f"[{where.upper()}] {title}" if isinstance(where, str) and where else title),
        str(text),
        f"{event.topic} at {event.time:%Y-%m-%d %H:%M:%S} UTC, event {event.id}",
        facts,
        is_verbatim=True,
    )


def _notification_page(notification: Notification) -> _Page:
    loud = notification.severity.value.upper() if notification.severity in _LOUD else ""
    title = one_line(notification.title or notification.message)
    url = notification.url or ""
    link = url if len(url) <= MAX_LINK and _LINK.fullmatch(url) else ""
    title = f"[{loud}] {title}" if loud else title
    return _Page(title, notification.message, "", notification.fields, link)


def _plain(page: _Page) -> str:
    text = cut(clean(page.text), MAX_TEXT)
    if page.is_verbatim:
        text = "\n".join(f"    {line}" for line in text.split("\n")) if text else ""
    facts = "\n".join(f"{label}: {value}" for label, value in _shown(page.facts).items())
    parts = [cut(page.title, MAX_SUBJECT), text, facts, page.link, page.footer]
    return "\n\n".join(filter(None, parts)) + "\n"


def _html(page: _Page) -> str:
    text = html.escape(cut(clean(page.text), MAX_TEXT))
    rows = "".join(
        f'<tr><th align="left">{html.escape(label)}</th><td>{html.escape(value)}</td></tr>\n'
        for label, value in _shown(page.facts).items()
    )
    parts = [
        f"<h3>{html.escape(cut(page.title, MAX_SUBJECT))}</h3>",
        text and (f"<pre>{text}</pre>" if page.is_verbatim else f'<p style="white-space: pre-wrap">{text}</p>'),
        rows and f"<table>\n{rows}</table>",
        page.link and f'<p><a href="{html.escape(page.link)}">{html.escape(page.link)}</a></p>',
        page.footer and f"<p><small>{html.escape(page.footer)}</small></p>",
    ]
    return "<!DOCTYPE html>\n<html><body>\n" + "\n".join(filter(None, parts)) + "\n</body></html>\n"


def _shown(facts: Mapping[str, str]) -> dict[str, str]:
    """At most MAX_FIELDS facts, each on one line."""
    shown = {
        cut(one_line(label), 100): cut(one_line(value), MAX_VALUE) for label, value in list(facts.items())[:MAX_FIELDS]
    }
    left_out = len(facts) - MAX_FIELDS
    return shown | ({"...": f"{left_out:,} more fields"} if left_out > 0 else {})


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def clean(text: str) -> str:
    """Text of several lines, without what is not printed."""
    return _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def one_line(text: str) -> str:
    """Text for a header: no line break, and nothing that a reader of headers would decode (RFC 2047, section 2)."""
    return " ".join(clean(text).split()).replace("=?", "= ?")


def cut(text: str, room: int) -> str:
    """At most `room` characters, with a note of how many are missing."""
    if len(text) <= room:
        return text
    end = room - len(f" ... {len(text):,} more characters")
    return f"{text[:end].rstrip()} ... {len(text) - end:,} more characters"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
