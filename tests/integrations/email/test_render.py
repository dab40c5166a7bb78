"""What a mail says, and that nothing an event holds can make it say more than that."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import SMTP
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.catalog import catalog
from eventbus.topics import TaskFailed
from integrations.base import Delivery, Earlier, Notification, Severity
from integrations.email import fake
from integrations.email.config import EmailConfig
from integrations.email.render import MAX_SUBJECT, Letter, Skipped, letter_for, message_id, mime, one_line

NOW = datetime(2026, 1, 12, 10, 30, tzinfo=UTC)
HEADERS = {
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "MIME-Version",
    "Content-Type",
}

HOSTILE = [
    "a\r\nBcc: mallory@example.net",
    "a\nBcc: mallory@example.net",
    "a\rBcc: mallory@example.net",
    "a\u2028Bcc: mallory@example.net",
    "a\x85Bcc: mallory@example.net",
    "a\x0bBcc:m\x0cX: y\x1cZ: z",
    "=?utf-8?q?a=0d=0aBcc:_mallory@example.net?=",
    "=?utf-8?b?YQ0KQmNjOiBtYWxsb3J5QGV4YW1wbGUubmV0?= tail \u00fc " + "x" * 100,
    "=\u2029?utf-8?q?a=0d=0aBcc:_m?=",
    "\r\n\r\n<script>alert(1)</script>",
    "\u202etxt.exe",
    "<img src=https://example.net/spy><a href='https://example.net'>here</a>",
    "\r\n.\r\nMAIL FROM:<mallory@example.net>\r\n",
    "--=_boundary--",
    "\u00fc" * 5000,
    "x" * 5000,
]


def config(**changes: Any) -> EmailConfig:
    settings = {"host": "smtp.example.com", "sender": "events@example.com", "recipients": ["ops@example.com"]}
    return EmailConfig.model_validate(settings | changes)


def letter(what: Any, delivery: Delivery | None = None, **changes: Any) -> Letter:
    made = letter_for(what, delivery or Delivery("key-1"), config(**changes), "email")
    assert not isinstance(made, Skipped)
    return made


def everywhere(text: str) -> Notification:
    return Notification(title=text, message=text, severity=Severity.WARNING, fields={text: text}, url=text)


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)


def harmless(what: Any) -> None:
    """The mail passes for one, has our headers and no other, and its HTML our tags and no other."""
    made = letter(what)
    raw = mime(made, config(), NOW).as_bytes()
    assert fake.check(raw) == []
    parsed = message_from_bytes(raw, policy=SMTP)
    assert set(parsed.keys()) == HEADERS
    assert len(parsed.keys()) == len(HEADERS)
    assert parsed["To"] == "ops@example.com"
    assert [part.get_content_type() for part in parsed.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    allowed = {"html", "body", "h3", "p", "pre", "table", "tr", "th", "td", "small"}
    assert _Tags(made.html).found <= allowed


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_notification_makes_no_header_no_recipient_and_no_markup(text: str) -> None:
    harmless(everywhere(text))


@pytest.mark.parametrize("text", [*HOSTILE, "\ud800"])
def test_text_of_an_event_makes_no_header_no_recipient_and_no_markup(text: str) -> None:
    harmless(
        catalog.event(
            "deploy.failed", {"name": text, "environment": text, "error": text, text or "empty": text, "list": [text]}
        )
    )


@given(st.text(min_size=1))
def test_no_text_at_all_does(text: str) -> None:
    harmless(Notification(title=text, message=text, fields={text: text}))


@given(st.text(alphabet="=?utf-8qb \r\n:\u00fc_0d0a", min_size=1, max_size=100))
def test_nothing_like_an_encoded_word_does(text: str) -> None:
    harmless(Notification(title=text, message=text))


def test_a_long_host_name_breaks_no_id() -> None:
    host = ".".join(["long" * 15] * 4)
    earlier = Earlier("<x>", None, {"root": f"<{'0' * 32}@{host}>"})
    made = letter(Notification(message="m"), Delivery("key-1", earlier=earlier), hostname=host)
    raw = mime(made, config(hostname=host), NOW).as_bytes()
    assert fake.check(raw) == []
    assert message_from_bytes(raw, policy=SMTP)["References"] == made.root


def test_the_id_names_the_delivery_and_nothing_of_it() -> None:
    one = message_id("email:default:secret-event", config())
    assert one == message_id("email:default:secret-event", config())
    assert one.endswith("@example.com>")
    assert "secret" not in one
    assert message_id("k", config(hostname="bus.example.org")).endswith("@bus.example.org>")


def test_the_same_letter_gives_the_same_bytes() -> None:
    made = letter(everywhere("m"))
    assert mime(made, config(), NOW).as_bytes() == mime(made, config(), NOW).as_bytes()


def test_what_is_long_is_cut_and_says_by_how_much() -> None:
    made = letter(catalog.event(TaskFailed(task_id="t", error="\u00fc" * 30_000)))
    assert len(made.subject) <= MAX_SUBJECT
    assert made.subject.endswith(" more characters")
    assert "10,027 more characters" in made.text
    many = letter(Notification(message="m", fields={f"f{n}": "v" for n in range(35)}))
    assert "...: 5 more fields" in many.text
    assert "f29: v" in many.text
    assert "f30: v" not in many.text


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "http:///x",
        "https://a b",
        "https://ops@evil.example",
        "/x",
        f"https://a.example/{'x' * 2000}",
    ],
)
def test_what_is_no_web_address_or_a_very_long_one_becomes_no_link(url: str) -> None:
    made = letter(Notification(message="m", url=url))
    assert "<a " not in made.html
    assert url not in made.text


def test_a_subject_says_what_where_and_why() -> None:
    failed = catalog.event(TaskFailed(task_id="t-1", name="nightly", environment="staging", error="disk\nfull"))
    assert letter(failed).subject == "[eventbus] [STAGING] Task nightly failed: disk full"
    assert letter(failed, subject_prefix="").subject == "[STAGING] Task nightly failed: disk full"
    assert letter(Notification(message="m", severity=Severity.INFO)).subject == "[eventbus] m"


def test_a_line_is_one_line() -> None:
    assert one_line(" a\tb\r\n c\u2028d ") == "a b c d"
