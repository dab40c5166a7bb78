"""The stand-in refuses what a mail server refuses: without that, tests against it prove nothing."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import Any

import pytest

from integrations.email.client import Client
from integrations.email.config import EmailConfig
from integrations.email.fake import FakeMail, check
from integrations.errors import OutcomeUnknown

HEAD = b"Date: Mon, 12 Jan 2026 10:30:00 +0000\r\nFrom: a@example.com\r\n"
LOGIN = "AUTH PLAIN " + base64.b64encode(f"\0events\0{FakeMail.password}".encode()).decode()


async def talk(fake: FakeMail, *lines: str) -> list[str]:
    """The codes of the answers: to the connection, then to each line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.settings()["port"])
    codes = [(await reader.readline())[:3].decode()]
    for line in lines:
        writer.write(line.encode() + b"\r\n")
        while (answer := await reader.readline())[3:4] == b"-":
            pass
        codes.append(answer[:3].decode())
    writer.close()
    await writer.wait_closed()
    return codes


def test_a_sound_mail_is_taken() -> None:
    assert check(HEAD + b"In-Reply-To: <a@b>\r\n\r\nhello\r\n") == []


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (HEAD + b"\r\na\nb", "a bare CR or LF"),
        (HEAD + b"\r\na\rb", "a bare CR or LF"),
        (HEAD + b"\r\n" + b"x" * 999, "more than 1,000 octets"),
        (HEAD + b"\r\n\xc3\xbc", "8-bit text"),
        (b"From: a@example.com\r\n\r\nx", "no date header"),
        (b"Date: Mon, 12 Jan 2026 10:30:00 +0000\r\n\r\nx", "no from header"),
        (HEAD + b"Subject: a\r\nsubject: b\r\n\r\nx", "more than one subject header"),
        (HEAD + b"not a header\r\n\r\nx", "no header"),
        (HEAD + b"References: =?utf-8?q?=3Ca=40b=3E?=\r\n\r\nx", "no id in In-Reply-To or References"),
    ],
)
def test_a_mail_that_the_rfcs_forbid_is_not_taken(raw: bytes, fault: str) -> None:
    assert any(fault in one for one in check(raw))


async def test_commands_come_in_their_order(fake: FakeMail) -> None:
    assert await talk(fake, "MAIL FROM:<a@example.com>") == ["220", "503"]
    assert await talk(fake, "EHLO me", "MAIL FROM:<a@example.com>") == ["220", "250", "530"]
    assert await talk(fake, "EHLO me", LOGIN, "RCPT TO:<b@example.com>", "DATA") == ["220", "250", "235", "503", "554"]
    twice = ["MAIL FROM:<a@example.com>"] * 2
    assert await talk(fake, "EHLO me", LOGIN, *twice) == ["220", "250", "235", "250", "503"]
    assert await talk(fake, "EHLO me", LOGIN, "MAIL FROM:a@example.com") == ["220", "250", "235", "501"]
    assert await talk(fake, "EHLO " + "x" * 600) == ["220", "500"]
    assert await talk(fake, "VRFY a") == ["220", "502"]


async def test_it_takes_a_hundred_recipients_and_no_more(fake: FakeMail) -> None:
    recipients = [f"RCPT TO:<r{number}@example.com>" for number in range(101)]
    codes = await talk(fake, "EHLO me", LOGIN, "MAIL FROM:<a@example.com>", *recipients)
    assert codes[-2:] == ["250", "452"]


async def test_over_its_limit_it_asks_for_less(fake: FakeMail) -> None:
    fake.per_minute = 1
    begin = ["EHLO me", LOGIN, "MAIL FROM:<a@example.com>"]
    assert await talk(fake, *begin, "RSET", "MAIL FROM:<a@example.com>") == ["220", "250", "235", "250", "250", "450"]
    assert fake.limited == 1


@pytest.mark.parametrize(("when", "mails"), [("before", 0), ("after", 1)])
async def test_a_sender_that_is_left_without_an_answer_gives_up_and_the_next_mail_is_taken(
    fake: FakeMail, when: Any, mails: int
) -> None:
    """A login without a mail does not use the silence up."""
    fake.stall(when)
    client = Client(EmailConfig.model_validate(fake.settings()), timedelta(seconds=1))
    await client.check()
    content = b"From: events@example.com\r\nDate: Mon, 12 Jan 2026 10:00:00 +0000\r\nSubject: s\r\n\r\nText\r\n"
    with pytest.raises(OutcomeUnknown, match="did not say within"):
        await client.send(content, fake.sender, [fake.recipient])
    assert len(fake.mails) == mails
    await client.send(content, fake.sender, [fake.recipient])
    assert len(fake.mails) == mails + 1
