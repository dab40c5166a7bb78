"""E-mail in front of its stand-in: what is mailed to whom, what protects it, and what an answer means."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog.testing

from eventbus.catalog import catalog
from eventbus.event import Event
from eventbus.topics import IntegrationDegraded, MigrationCompleted, MigrationFailed
from integrations.base import Artifact, Delivery, Earlier, Notification, Outcome, Severity
from integrations.email import Email
from integrations.email.fake import FakeMail
from integrations.errors import (
    AuthFailed,
    Misconfigured,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.exchange import listening

Connect = Callable[..., Awaitable[Email]]

FAILED: Event[Any] = catalog.event(
    MigrationFailed(migration="add_email", environment="production", error="lock timeout on users")
)
DONE: Event[Any] = catalog.event(MigrationCompleted(migration="add_email", environment="production"))
DELIVERY = Delivery("key-1", thread="migration:add_email")


# -- what is mailed ----------------------------------------------------------------------------------------------------


async def test_a_failed_migration_is_mailed_to_the_recipients(fake: FakeMail, email: Email) -> None:
    result = await email.handle_event(FAILED, DELIVERY)
    (mail,) = fake.mails
    assert (mail.sender, mail.recipients) == ("events@example.com", ("ops@example.com",))
    assert (
        mail.message["Subject"].strip() == "[eventbus] [PRODUCTION] Migration add_email failed: lock timeout on users"
    )
    assert (mail.message["From"], mail.message["To"]) == ("events@example.com", "ops@example.com")
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert "    lock timeout on users" in mail.text
    assert "<pre>lock timeout on users</pre>" in mail.html
    assert (result.outcome, result.reference) == (Outcome.DELIVERED, mail.message["Message-ID"])
    assert result.detail == "mailed to 1: 250 2.0.0 Ok: queued as 000001"


async def test_every_attempt_of_a_delivery_has_the_same_message_id(fake: FakeMail, email: Email) -> None:
    for attempt in (1, 2):
        await email.handle_event(FAILED, Delivery("key-1", attempt=attempt))
    await email.handle_event(FAILED, Delivery("key-2"))
    first, second, other = (mail.message["Message-ID"] for mail in fake.mails)
    assert first == second != other


async def test_a_success_answers_the_mail_about_the_failure_and_ends_the_thread(fake: FakeMail, email: Email) -> None:
    result = await email.handle_event(FAILED, DELIVERY)
    assert not result.ends
    earlier = Earlier(result.reference, None, result.state)
    again = await email.handle_event(FAILED, Delivery("key-2", thread=DELIVERY.thread, earlier=earlier))
    earlier = Earlier(again.reference, None, again.state)
    well = await email.handle_event(DONE, Delivery("key-3", thread=DELIVERY.thread, earlier=earlier))
    first, *later = (mail.message for mail in fake.mails)
    assert "In-Reply-To" not in first
    assert {mail[name] for mail in later for name in ("In-Reply-To", "References")} == {first["Message-ID"]}
    assert well.ends


async def test_a_success_is_told_only_to_those_who_were_told_of_a_failure(
    fake: FakeMail, email: Email, connect: Connect
) -> None:
    assert "successes is after_failure" in (await email.handle_event(DONE, DELIVERY)).detail
    assert fake.mails == []
    always = await connect(fake, successes="always")
    await always.handle_event(DONE, DELIVERY)
    assert len(fake.mails) == 1
    never = await connect(fake, successes="never")
    told = Delivery("k", earlier=Earlier("<a@example.com>", None, {"root": "<a@example.com>"}))
    assert (await never.handle_event(DONE, told)).outcome is Outcome.SKIPPED


async def test_that_mail_itself_is_degraded_is_not_mailed(fake: FakeMail, email: Email) -> None:
    event = catalog.event(IntegrationDegraded(integration="email", detail="421"))
    assert (await email.handle_event(event, DELIVERY)).detail == "it is about this integration itself"
    await email.handle_event(catalog.event(IntegrationDegraded(integration="slack", detail="503")), DELIVERY)
    assert fake.effects() == ["[eventbus] Integration slack degraded: 503 to ops@example.com"]


async def test_a_notification_is_mailed_with_its_severity_facts_and_link(fake: FakeMail, email: Email) -> None:
    told = Notification(
        title="Disk almost full",
        message="4 % are left.\nClean up.",
        severity=Severity.CRITICAL,
        fields={"Host": "db-1"},
        url="https://wiki.example.com/disk?a=1&b=2",
    )
    await email.send_notification(told, DELIVERY)
    (mail,) = fake.mails
    assert mail.message["Subject"] == "[eventbus] [CRITICAL] Disk almost full"
    assert "4 % are left.\nClean up.\n\nHost: db-1\n\nhttps://wiki.example.com/disk?a=1&b=2\n" in mail.text
    assert '<a href="https://wiki.example.com/disk?a=1&amp;b=2">' in mail.html


# -- to whom -----------------------------------------------------------------------------------------------------------


async def test_a_target_may_be_a_recipient_or_what_the_settings_allow(fake: FakeMail, connect: Connect) -> None:
    email = await connect(fake, allowed_targets=["@example.org", "ceo@example.net"])
    target = "Ada <ada@example.org>, ceo@example.net, OPS@EXAMPLE.com".replace("OPS", "ops")
    await email.send_notification(Notification(message="m", target=target), DELIVERY)
    assert fake.mails[0].recipients == ("ada@example.org", "ceo@example.net", "ops@example.com")
    assert fake.mails[0].message["To"] == "Ada <ada@example.org>, ceo@example.net, ops@example.com"


@pytest.mark.parametrize(
    "target",
    [
        "mallory@example.net",
        "ops@example.com, mallory@example.net",
        "mallory@sub.example.org",
        "mallory@example.org.example.net",
        "ops@example.com\r\nRCPT TO:<mallory@example.net>",
        "ops@example.com>\nBcc: mallory@example.net",
        '"a b"@example.org',
        "a@b@example.org",
        "#ops",
        "ops@example.com,",
        "=?utf-8?q?a=0d=0aBcc=3A_mallory=40example=2Enet?= <ops@example.com>",
    ],
)
async def test_nobody_else_is_written_to_whatever_an_event_says(fake: FakeMail, connect: Connect, target: str) -> None:
    email = await connect(fake, allowed_targets=["@example.org"])
    with pytest.raises(Rejected, match="target"):
        await email.send_notification(Notification(message="m", target=target), DELIVERY)
    assert fake.requests == []


async def test_one_refused_recipient_does_not_keep_the_mail_from_the_others(fake: FakeMail, connect: Connect) -> None:
    email = await connect(fake, recipients=["ops@example.com", "gone@example.com", "full@example.com"])
    fake.refuses = {"gone@example.com": "550 5.1.1 No such user", "full@example.com": "452 4.2.2 Mailbox full"}
    with structlog.testing.capture_logs() as lines:
        result = await email.handle_event(FAILED, DELIVERY)
    assert fake.mails[0].recipients == ("ops@example.com",)
    assert result.detail == (
        "mailed to 1 of 3: 250 2.0.0 Ok: queued as 000001; not written to: "
        "gone@example.com (550 5.1.1 No such user), full@example.com (452 4.2.2 Mailbox full)"
    )
    assert [line["event"] for line in lines] == ["recipients refused"]


async def test_when_every_recipient_is_refused_it_is_tried_again_only_if_that_may_help(
    fake: FakeMail, connect: Connect
) -> None:
    email = await connect(fake, recipients=["a@example.com", "b@example.com"])
    fake.refuses = {"a@example.com": "550 5.1.1 No such user", "b@example.com": "452 4.2.2 Mailbox full"}
    with pytest.raises(ServiceFault, match=r"a@example\.com: 550 .* b@example\.com: 452"):
        await email.handle_event(FAILED, DELIVERY)
    fake.refuses["b@example.com"] = "550 5.7.1 Not here"
    with pytest.raises(Rejected, match=r"b@example\.com: 550 5\.7\.1 Not here"):
        await email.handle_event(FAILED, DELIVERY)
    assert fake.mails == []


# -- how it is protected -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
async def test_mail_goes_over_tls_with_the_certificate_checked(
    connect: Connect, context: ssl.SSLContext, certificate: Path, tls: Literal["implicit", "starttls"]
) -> None:
    async with FakeMail(tls=tls, context=context) as fake:
        email = await connect(fake, ca_file=str(certificate))
        await email.handle_event(FAILED, DELIVERY)
        assert (await email.health()).state == "healthy"
        strict = await connect(fake)
        with pytest.raises(Unreachable, match="its certificate is not trusted"):
            await strict.handle_event(FAILED, DELIVERY)
    assert len(fake.mails) == 1


async def test_a_server_without_starttls_gets_neither_password_nor_mail(fake: FakeMail, connect: Connect) -> None:
    email = await connect(fake, tls="starttls")
    with pytest.raises(Unreachable, match="STARTTLS extension not supported"):
        await email.handle_event(FAILED, DELIVERY)
    assert [request.status for request in fake.requests] == [250], "EHLO was answered, and nothing came after it"


async def test_a_ca_file_without_certificates_is_misconfigured(
    fake: FakeMail, connect: Connect, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (empty, tmp_path / "absent.pem"):
        with pytest.raises(Misconfigured, match="ca_file"):
            await connect(fake, tls="implicit", ca_file=str(path))


async def test_without_a_user_nobody_logs_in(fake: FakeMail, connect: Connect) -> None:
    email = await connect(fake, username=None, password=None)
    with pytest.raises(AuthFailed, match="Authentication required"):
        await email.handle_event(FAILED, DELIVERY)


async def test_a_refused_login_is_asked_once_and_not_with_every_mechanism(fake: FakeMail, email: Email) -> None:
    fake.reject_credentials = True
    with listening() as heard, pytest.raises(AuthFailed, match="535") as caught:
        await email.handle_event(FAILED, DELIVERY)
    assert len(fake.requests) == 1
    assert caught.value.detail.endswith("invalid: events [hidden]"), "the server repeated the password"
    assert fake.password not in repr(heard)


@pytest.mark.parametrize("offers", [("LOGIN",), ("LOGIN", "PLAIN")])
async def test_either_common_mechanism_will_do(fake: FakeMail, email: Email, offers: tuple[str, ...]) -> None:
    fake.offers = offers
    await email.handle_event(FAILED, DELIVERY)
    assert len(fake.mails) == 1


async def test_a_server_with_no_mechanism_that_we_know_is_said_so(fake: FakeMail, email: Email) -> None:
    fake.offers = ("GSSAPI",)
    with pytest.raises(AuthFailed, match="offers none of AUTH PLAIN, LOGIN and CRAM-MD5"):
        await email.handle_event(FAILED, DELIVERY)


# -- what an answer means ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "answer", "error"),
    [
        ("CONNECT", "421 4.3.2 Shutting down", ServiceFault),
        ("CONNECT", "421 4.7.0 Too many connections from your IP", RateLimited),
        ("CONNECT", "554 5.7.1 No SMTP service for you", AuthFailed),
        ("EHLO", "550 5.7.1 Access denied", AuthFailed),
        ("AUTH", "454 4.7.0 Temporary authentication failure", RateLimited),
        ("AUTH", "454 Throttling failure: Maximum sending rate exceeded", RateLimited),
        ("AUTH", "451 4.3.0 Directory is down", ServiceFault),
        ("AUTH", "550 Account suspended", AuthFailed),
        ("STARTTLS", "501 5.5.4 No parameters allowed", AuthFailed),
        ("STARTTLS", "454 4.3.0 TLS not available", ServiceFault),
        ("MAIL", "451 4.3.0 Try later", ServiceFault),
        ("MAIL", "553 5.7.1 Sender not yours", Rejected),
        ("MAIL", "250-oops", Unreachable),
        ("MAIL", "nonsense", ServiceFault),
        ("RCPT", "450 4.7.1 Greylisted", RateLimited),
        ("RCPT", "450 4.2.1 Busy", ServiceFault),
        ("DATA", "451 4.3.0 Disk trouble", ServiceFault),
        ("DATA", "554 5.5.1 No valid recipients", Rejected),
        (".", "452 4.3.1 Insufficient system storage", ServiceFault),
        (".", "554 5.7.1 This is spam", Rejected),
        (".", "nonsense", OutcomeUnknown),
        (".", "299 2.0.0 Odd", OutcomeUnknown),
    ],
)
async def test_an_answer_means_what_the_rfc_says(
    fake: FakeMail, connect: Connect, verb: str, answer: str, error: type[Exception]
) -> None:
    fake.tls = "starttls" if verb == "STARTTLS" else "none"
    email = await connect(fake)
    email._client._prepare = 1.0  # for the answer without an end
    fake.answers[verb] = answer
    with pytest.raises(error):
        await email.handle_event(FAILED, DELIVERY)
    assert fake.mails == []


async def test_a_mail_that_was_taken_is_delivered_whatever_becomes_of_the_farewell(
    fake: FakeMail, email: Email
) -> None:
    fake.answers["QUIT"] = "500 What?"
    assert (await email.handle_event(FAILED, DELIVERY)).outcome is Outcome.DELIVERED


async def test_a_silent_server_leaves_the_outcome_unknown_only_once_it_has_the_text(
    fake: FakeMail, email: Email
) -> None:
    email._client._prepare = email._client._rest = 1.0
    held = fake.hold()
    with pytest.raises(OutcomeUnknown, match="did not say within 1 s that it took the mail"):
        await email.handle_event(FAILED, DELIVERY)
    assert held.committed.is_set()
    fake.answers["RCPT"] = "250-and"
    with pytest.raises(Unreachable, match="was not ready for a mail within"):
        await email.handle_event(FAILED, DELIVERY)


async def test_what_was_said_is_told_for_explain(fake: FakeMail, email: Email) -> None:
    with listening() as heard:
        await email.handle_event(FAILED, DELIVERY)
        fake.fail(400)
        with pytest.raises(Rejected):
            await email.handle_event(FAILED, DELIVERY)
    where = f"SMTP smtp://127.0.0.1:{fake.settings()['port']}, mail to 1"
    assert [one.request for one in heard] == [where, where]
    assert heard[0].answer == "250 2.0.0 Ok: queued as 000001"
    assert heard[1].answer.endswith("answered 554 5.6.0 Message refused")


# -- preview and budget ------------------------------------------------------------------------------------------------


async def test_the_preview_says_where_the_mail_goes(fake: FakeMail, email: Email) -> None:
    (preview,) = email.preview(FAILED, DELIVERY)
    assert preview.request == f"SMTP smtp://127.0.0.1:{fake.settings()['port']}"
    assert preview.doing.endswith("lock timeout on users' to ops@example.com")
    assert fake.password not in repr(preview)


async def test_what_sends_nothing_has_no_preview(email: Email) -> None:
    assert email.preview(DONE, DELIVERY) == ()
    with pytest.raises(Rejected):
        email.preview(Artifact(type="ticket", content={}), DELIVERY)


async def test_the_budget_is_what_the_settings_say(fake: FakeMail, connect: Connect) -> None:
    email = await connect(fake, max_per_minute=30)
    (budget,) = email.budgets(FAILED, DELIVERY)
    assert (budget.count, budget.burst, budget.per, budget.each) == (27, 2, timedelta(minutes=1), "account")
    one = await connect(fake, max_per_minute=1)
    assert one.budgets(FAILED, DELIVERY)[0].burst == 1
