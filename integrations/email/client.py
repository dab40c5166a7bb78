"""One mail over one SMTP connection, through aiosmtplib. It knows nothing of events.

aiosmtplib and not the standard library's smtplib: that blocks, and a thread that was given up goes on and may send what
nobody hears of; closing this connection ends it. What is called here is one command each, because its own `sendmail`
does not say how far it came, and `login` tries one mechanism after the other, which locks accounts.

A mail is the server's from its positive answer to the final dot (RFC 5321, section 6.1). Until the text is on its way
nothing can have been sent; without an answer after that nobody can know.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponse,
    SMTPResponseException,
)

from integrations.email.config import EmailConfig
from integrations.errors import (
    AuthFailed,
    IntegrationError,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.exchange import record
from integrations.http import HIDDEN

PREPARE_SECONDS = 10.0
"""For all that comes before the text. RFC 5321, section 4.5.3.2, has minutes for each step; our caller has not."""
QUIT_SECONDS = 1.0
WAIT = timedelta(seconds=60)
"""After an answer that asks for less mail: no answer of SMTP names a time."""
MAX_SAID = 200

_LOGIN_CODES = (530, 534, 535, 538)
"""RFC 4954, section 6: authentication required, mechanism too weak, credentials invalid, encryption required."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Looked:
    """What a server says as long as there is no mail.

    tls         the version of the protocol; empty: nothing is encrypted
    most        octets that it takes of a mail (RFC 1870, section 4); None: it names no limit
    by_sender   why it takes no mail from the sender; None: it does, and was asked for the recipients
    refused     the recipients that it does not write to
    """

    tls: str
    most: int | None
    by_sender: IntegrationError | None
    refused: Mapping[str, IntegrationError]


@dataclass(frozen=True, slots=True)
class Sent:
    """The server has it. `refused`: the recipients it does not write to, each with its answer."""

    answer: str
    refused: Mapping[str, str]


class Client:
    """One account. `limit`: how long a mail may take in all."""

    def __init__(self, config: EmailConfig, limit: timedelta) -> None:
        """Make the rules of TLS. Raises OSError or ssl.SSLError where `ca_file` can't be used."""
        self._config = config
        self._where = config.url
        self._prepare = min(PREPARE_SECONDS, limit.total_seconds() / 2)
        self._rest = limit.total_seconds() - self._prepare
        cafile = None if config.ca_file is None else str(config.ca_file)
        self._tls = None if config.tls == "none" else ssl.create_default_context(cafile=cafile)

    async def send(self, content: bytes, sender: str, recipients: Sequence[str]) -> Sent:
        """Hand a mail over. Raises IntegrationError; OutcomeUnknown only when the text may have arrived."""
        return await self._told(f"mail to {len(recipients)}", self._send(content, sender, recipients))

    async def check(self) -> str:
        """Log in and do nothing. Returns the server's answer."""
        return (await self._told("NOOP", self._noop())).answer

    async def look(self, sender: str, recipients: Sequence[str]) -> Looked:
        """Ask what can be asked without a mail, and drop it (RSET: RFC 5321, section 4.1.1.5). Raises IntegrationError
        where we are not let in."""
        async with self._session() as smtp:
            tunnel = smtp.get_transport_info("ssl_object")
            size = smtp.esmtp_extensions.get("size", "")
            by_sender = await self._refusal(smtp.mail(sender))
            asked = () if by_sender else recipients
            refusals = {one: await self._refusal(smtp.rcpt(one)) for one in asked}
            await self._in_time(smtp.rset())
        refused = {one: error for one, error in refusals.items() if error is not None}
        # RFC 1870, section 4: 0 stands for no fixed limit.
        most = int(size) if size.isascii() and size.isdigit() else 0
        return Looked(tunnel.version() if tunnel else "", most or None, by_sender, refused)

    async def _refusal(self, step: Awaitable[SMTPResponse]) -> IntegrationError | None:
        """Why the server says no to one step; None when it does not. Raises Unreachable when it is gone."""
        try:
            await self._in_time(step)
        except Unreachable:
            raise
        except IntegrationError as error:
            return error
        return None

    async def _send(self, content: bytes, sender: str, recipients: Sequence[str]) -> Sent:
        async with self._session() as smtp:
            refused = await self._in_time(self._address(smtp, sender, recipients))
            return Sent(await self._hand_over(smtp, content), refused)

    async def _noop(self) -> Sent:
        async with self._session() as smtp:
            answer = await self._in_time(smtp.noop())
            return Sent(self._said(answer.code, answer.message), {})

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[SMTP]:
        """A connection on which we may send, closed at the end whatever happens."""
        host, port = self._config.address
        smtp = SMTP(
            hostname=host,
            port=port,
            local_hostname=self._config.our_name,
            timeout=None,
            use_tls=self._config.tls == "implicit",
            start_tls=self._config.tls == "starttls",
            tls_context=self._tls,
        )
        try:
            await self._in_time(self._open(smtp), is_about_us=True)
            yield smtp
            with contextlib.suppress(SMTPException, OSError):
                await smtp.quit(timeout=QUIT_SECONDS)
        finally:
            smtp.close()

    async def _open(self, smtp: SMTP) -> None:
        await smtp.connect()
        await smtp.ehlo()
        if self._config.username is None or self._config.password is None:
            return
        login = (self._config.username, self._config.password.get_secret_value())
        ways = {"plain": smtp.auth_plain, "login": smtp.auth_login, "cram-md5": smtp.auth_crammd5}
        offered = next((way for name, way in ways.items() if name in smtp.server_auth_methods), None)
        if offered is None:
            raise AuthFailed(f"{self._where} offers none of AUTH PLAIN, LOGIN and CRAM-MD5: is `tls` what it expects?")
        await offered(*login)

    async def _address(self, smtp: SMTP, sender: str, recipients: Sequence[str]) -> dict[str, str]:
        """Say from whom and to whom. Returns who is refused, of whom there is one less than of all at most."""
        await smtp.mail(sender)
        refused: dict[str, SMTPRecipientRefused] = {}
        for recipient in recipients:
            try:
                await smtp.rcpt(recipient)
            except SMTPRecipientRefused as error:
                refused[recipient] = error
        said = {recipient: self._said(error.code, error.message) for recipient, error in refused.items()}
        if len(refused) < len(recipients):
            return said
        # Worth another attempt as long as it is for one of them.
        one = min(refused.values(), key=lambda error: error.code)
        raise self._judged(one.code, one.message, said="; ".join(f"{who}: {what}" for who, what in said.items()))

    async def _hand_over(self, smtp: SMTP, content: bytes) -> str:
        try:
            async with asyncio.timeout(self._rest):
                answer = await smtp.data(content, timeout=None)
        except SMTPDataError as error:
            if error.code // 100 in (4, 5):
                raise self._judged(error.code, error.message) from None
            raise OutcomeUnknown(
                f"{self._where} answered {self._said(error.code, error.message)} to the mail"
            ) from None
        except TimeoutError:
            raise OutcomeUnknown(f"{self._where} did not say within {self._rest:g} s that it took the mail") from None
        except (SMTPException, OSError) as error:
            raise OutcomeUnknown(f"{self._where}: {_describe(error)}, while the mail was handed over") from None
        return self._said(answer.code, answer.message)

    async def _in_time(self, step: Awaitable[T], *, is_about_us: bool = False) -> T:
        """A step before the text is sent: whatever goes wrong, nothing was sent."""
        try:
            async with asyncio.timeout(self._prepare):
                return await step
        except SMTPResponseException as error:
            raise self._judged(error.code, error.message, is_about_us=is_about_us) from None
        except TimeoutError:
            raise Unreachable(f"{self._where} was not ready for a mail within {self._prepare:g} s") from None
        except (SMTPException, OSError) as error:
            raise Unreachable(f"{self._where}: {_describe(error)}") from None

    def _judged(self, code: int, message: str, *, said: str = "", is_about_us: bool = False) -> IntegrationError:
        """What a refusal means (RFC 5321, section 4.2.1: 4yz is worth another attempt, 5yz is not).

        said         what people are told instead of the answer
        is_about_us  it came before there was a mail: what is refused for good is our account or our address
        """
        text = f"{self._where} answered {(said or self._said(code, message))[: 5 * MAX_SAID]}"
        if 400 <= code < 500:
            return RateLimited(text, retry_after=WAIT) if _asks_for_less(message) else ServiceFault(text)
        if code in _LOGIN_CODES or (is_about_us and code >= 500):
            return AuthFailed(text)
        return Rejected(text) if code >= 500 else ServiceFault(text)

    def _said(self, code: int, message: str) -> str:
        """A server's answer on one line, without our password should it repeat that."""
        if self._config.password is not None:
            password = self._config.password.get_secret_value()
            login = f"\0{self._config.username}\0{password}"
            for secret in (password, *(base64.b64encode(one.encode()).decode() for one in (login, password))):
                message = message.replace(secret, HIDDEN)
        line = " ".join("".join(c if c.isprintable() else " " for c in message[: 4 * MAX_SAID]).split())
        return f"{code} {line[:MAX_SAID]}".rstrip()

    async def _told(self, what: str, talk: Awaitable[Sent]) -> Sent:
        """A conversation, told to whoever asks later what happened."""
        began, answer = time.perf_counter(), "given up"
        try:
            sent = await talk
            answer = sent.answer
        except IntegrationError as error:
            answer = error.detail
            raise
        finally:
            record(f"SMTP {self._where}, {what}", answer, (time.perf_counter() - began) * 1000)
        return sent


def _asks_for_less(message: str) -> bool:
    """Whether a 4yz answer is about how much we send.

    RFC 3463: x.7.1 (section 3.8) is what rates and greylisting are answered with, such as Postfix' "450 4.7.1 Error:
    too much mail", and x.4.5 (section 3.5) says that the system is congested. Amazon SES says "454 Throttling failure:
    Maximum sending rate exceeded".
    """
    text = message.lower()
    return text.startswith(("4.7.", "4.4.5")) or "throttl" in text or "too many" in text or "rate" in text.split()


def _describe(error: BaseException) -> str:
    """What happened, in the words of the operating system or of TLS."""
    root = error
    while root.__cause__ is not None or root.__context__ is not None:
        root = root.__cause__ or root.__context__ or root
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({root.verify_message})"
    if isinstance(root, ssl.SSLError):
        return f"TLS failed ({root.reason})"
    if isinstance(root, OSError) and root.strerror:
        return root.strerror
    return str(error) or type(error).__name__
