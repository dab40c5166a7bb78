"""Our client against a mail server that others wrote: aiosmtpd."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.policy import SMTP as MAIL
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from eventbus.catalog import catalog
from eventbus.topics import TaskFailed
from integrations.base import Delivery
from integrations.email import Email
from integrations.email.fake import FakeMail
from integrations.errors import AuthFailed
from integrations.testing.context import make_context

EVENT = catalog.event(TaskFailed(task_id="t-1", error=".\n..a line with \u00fcml\u00e4uts\n" + "x" * 2000))


class _Kept:
    """Keeps each envelope."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's
        self.envelopes.append(envelope)
        return "250 OK"


def _authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=data == LoginPassword(b"events", FakeMail.password.encode()), handled=False)


@asynccontextmanager
async def served(context: ssl.SSLContext, kept: _Kept) -> AsyncIterator[int]:
    def talk() -> SMTP:
        return SMTP(
            kept,
            hostname="mail.example.com",
            tls_context=context,
            require_starttls=True,
            authenticator=_authenticate,
            auth_required=True,
        )

    server = await asyncio.get_running_loop().create_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def connected(port: int, certificate: Path, password: str) -> AsyncIterator[Email]:
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "tls": "starttls",
        "ca_file": certificate,
        "username": "events",
        "password": password,
        "sender": "events@example.com",
        "recipients": ["ops@example.com", "dba@example.com"],
    }
    email, made = Email(), make_context(Email, settings)
    await email.initialize(made)
    try:
        yield email
    finally:
        await made.http.close()


async def test_a_mail_arrives_as_it_was_written(context: ssl.SSLContext, certificate: Path) -> None:
    kept = _Kept()
    async with served(context, kept) as port, connected(port, certificate, FakeMail.password) as email:
        assert (await email.health()).state == "healthy"
        result = await email.handle_event(EVENT, Delivery("key-1"))
    (envelope,) = kept.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("events@example.com", ["ops@example.com", "dba@example.com"])
    assert isinstance(envelope.content, bytes)
    mail = message_from_bytes(envelope.content, policy=MAIL)
    assert mail["Message-ID"] == result.reference
    plain = next(part for part in mail.walk() if part.get_content_type() == "text/plain")
    text = plain.get_content()
    assert "    .\r\n    ..a line with \u00fcml\u00e4uts\r\n    " + "x" * 2000 in text


async def test_its_refusal_of_a_password_is_understood(context: ssl.SSLContext, certificate: Path) -> None:
    kept = _Kept()
    async with served(context, kept) as port, connected(port, certificate, "wrong") as email:
        with pytest.raises(AuthFailed, match="535"):
            await email.handle_event(EVENT, Delivery("key-1"))
    assert kept.envelopes == []
