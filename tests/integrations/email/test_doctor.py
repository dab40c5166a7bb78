"""What the doctor finds at a mail server: each check sees well and ill on the stand-in, and no mail is sent."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from integrations.base import Delivery, Examined, Finding, Notification
from integrations.email import Email
from integrations.email.fake import FakeMail
from integrations.email.render import MAX_FIELDS, MAX_OCTETS, MAX_TEXT, Letter, letter_for, mime

Connect = Callable[..., Awaitable[Email]]


async def found(adapter: Email) -> dict[str, Finding]:
    assert isinstance(adapter, Examined)
    return {one.about: one for one in await adapter.examine()}


async def test_all_is_well_and_no_mail_is_sent(fake: FakeMail, email: Email) -> None:
    every = await found(email)
    assert {one.level for one in every.values()} == {"ok"}, every
    assert list(every) == ["way", "credentials", "sender", "recipient ops@example.com", "size"]
    assert every["credentials"].what == "signed in as events"
    assert every["size"].what.startswith("the server takes 10,240,000 octets a mail")
    assert fake.mails == []


async def test_encryption_and_its_certificate_are_named(
    connect: Connect, certificate: Path, context: ssl.SSLContext
) -> None:
    async with FakeMail(tls="starttls", context=context) as fake:
        way = (await found(await connect(fake, ca_file=str(certificate))))["way"]
        assert (way.level, "TLSv1.3, with a certificate that is trusted" in way.what) == ("ok", True)
        untrusted = await found(await connect(fake))
        assert list(untrusted) == ["way"]
        assert (untrusted["way"].level, "certificate is not trusted" in untrusted["way"].what) == ("fail", True)


async def test_a_way_that_everybody_can_read_is_found(fake: FakeMail, connect: Connect) -> None:
    email = await connect(fake, username=None, password=None, allow_unencrypted=["127.0.0.1"])
    every = await found(email)
    assert (every["way"].level, "nothing is encrypted" in every["way"].what) == ("warn", True)
    assert every["credentials"].what == "nobody signs in"
    assert "530 5.7.0 Authentication required" in every["sender"].what


async def test_a_refused_login_ends_it_and_the_password_is_not_shown(fake: FakeMail, email: Email) -> None:
    fake.reject_credentials = True
    every = await found(email)
    assert [(one.about, one.level) for one in every.values()] == [("credentials", "fail")]
    assert "username and password" in every["credentials"].fix
    assert fake.password not in repr(every)


async def test_a_server_that_is_away_ends_it(fake: FakeMail, email: Email) -> None:
    fake.go_down()
    every = await found(email)
    assert [(one.about, one.level) for one in every.values()] == [("way", "fail")]


async def test_a_sender_that_may_not_write_is_found_and_nobody_else_is_asked_for(fake: FakeMail, email: Email) -> None:
    fake.answers["MAIL"] = "553 5.7.1 Sender address rejected: not owned by user events"
    every = await found(email)
    assert (every["sender"].level, "not owned" in every["sender"].what) == ("fail", True)
    assert "events@example.com" in every["sender"].fix
    assert not [about for about in every if about.startswith("recipient")]


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        ("550 5.1.1 No such user here", "fail"),
        ("554 5.7.1 Relay access denied", "fail"),
        ("450 4.2.0 Greylisted, see RFC 6647", "warn"),
        ("450 4.7.1 Too much mail from you", "warn"),
    ],
)
async def test_a_recipient_that_is_not_written_to_is_found_among_others(
    fake: FakeMail, connect: Connect, answer: str, level: str
) -> None:
    fake.refuses["gone@example.com"] = answer
    every = await found(await connect(fake, recipients=["gone@example.com", "Ada <ada@example.com>"]))
    refused = every["recipient gone@example.com"]
    assert (refused.level, answer in refused.what) == (level, True)
    assert every["recipient ada@example.com"].level == "ok"


async def test_a_server_that_hangs_up_in_between_is_found(fake: FakeMail, email: Email) -> None:
    fake.answers["RCPT"] = "421 4.3.2 Service not available, closing transmission channel"
    every = await found(email)
    assert {one.level for one in every.values()} & {"warn", "fail"}, every


@pytest.mark.parametrize(
    ("most", "level", "said"), [(65_536, "warn", "65,536"), (0, "ok", "names no limit"), (None, "ok", "names no limit")]
)
async def test_a_limit_below_what_we_may_send_is_found(
    fake: FakeMail, email: Email, most: int | None, level: str, said: str
) -> None:
    fake.most = most
    size = (await found(email))["size"]
    assert (size.level, said in size.what) == (level, True)


def test_no_mail_is_larger_than_what_the_doctor_reckons_with(fake: FakeMail, email: Email) -> None:
    sign = "\U0001f600"
    facts = {f"{number}{sign * 200}": sign * 2000 for number in range(2 * MAX_FIELDS)}
    long = Notification(title=sign * 300, message=sign * 2 * MAX_TEXT, fields=facts)
    letter = letter_for(long, Delivery("key"), email.config, "email")
    assert isinstance(letter, Letter)
    content = mime(letter, email.config, None).as_bytes()
    assert MAX_OCTETS / 2 < len(content) <= MAX_OCTETS
