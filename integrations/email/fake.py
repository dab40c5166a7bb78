"""A mail server on a real port. It takes what the RFCs let a client send, and nothing else.

It keeps every mail that it said yes to, asks for a login, and is strict about lines, headers and the order of commands.
The answers of other stand-ins are HTTP statuses; `REPLIES` says which answer of SMTP stands for each.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from types import TracebackType
from typing import Any, Literal, Self

from starlette.routing import BaseRoute

from integrations.testing.fake import FakeService, Fault, Recorded

REPLIES = {
    302: "551 5.7.1 User not local; please try another server",
    400: "554 5.6.0 Message refused",
    401: "535 5.7.8 Authentication credentials invalid",
    403: "530 5.7.0 Authentication required",
    404: "550 5.1.1 No such user here",
    422: "553 5.1.3 Mailbox name not allowed",
    429: "450 4.7.1 Too much mail from you",
    500: "451 4.3.0 Local error in processing",
    502: "452 4.3.1 Insufficient system storage",
    503: "421 4.3.2 Service not available, closing transmission channel",
}
"""What `fail` and `go_down` take, and the answer of the same meaning (RFC 5321, section 4.2.3; RFC 3463; RFC 4954)."""

MAX_COMMAND = 512
MAX_LINE = 1000
"""RFC 5321, sections 4.5.3.1.4 and 4.5.3.1.6: octets of a command line and of a text line, with their CRLF."""
ONCE = ("date", "from", "sender", "reply-to", "to", "cc", "message-id", "in-reply-to", "references", "subject")
"""RFC 5322, section 3.6: occur once at most."""

Tls = Literal["implicit", "starttls", "none"]


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that this server answers for."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed."""
        found = message_from_bytes(self.raw, policy=SMTP)
        assert isinstance(found, EmailMessage)
        return found

    @property
    def text(self) -> str:
        """Its plain part."""
        return self._part("plain")

    @property
    def html(self) -> str:
        """Its HTML part."""
        return self._part("html")

    def _part(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        assert isinstance(part, EmailMessage)
        return str(part.get_content()).replace("\r\n", "\n")


class FakeMail(FakeService):
    """`mails` is every mail that was taken.

    refuses     recipients and the answer that each gets
    answers     what it says instead of what it would: to CONNECT, EHLO, AUTH, MAIL, RCPT, DATA, NOOP, and to `.`
    offers      the mechanisms of AUTH
    per_minute  more mails than this in a minute get 450
    most        octets of a mail; None: it names no limit, and keeps none
    """

    username, password = "events", "canary-mail-password"
    sender, recipient = "events@example.com", "ops@example.com"
    offers: tuple[str, ...] = ("PLAIN", "LOGIN")
    per_minute: int | None = None
    most: int | None = 10_240_000  # postconf(5), message_size_limit: its default

    def __init__(self, *, port: int = 0, tls: Tls = "none", context: ssl.SSLContext | None = None) -> None:
        super().__init__(port=port)
        self.tls: Tls = tls
        self.context = context
        self.mails: list[Mail] = []
        self.limited = 0
        self.refuses: dict[str, str] = {}
        self.answers: dict[str, str] = {}
        self._arrivals: list[float] = []
        self._listening: asyncio.Server | None = None
        self._talks: list[_Talk] = []

    def routes(self) -> Sequence[BaseRoute]:
        """None: it speaks SMTP."""
        return ()

    def settings(self) -> dict[str, Any]:
        """An account that points here, in the clear, which this machine may."""
        return {
            "host": "127.0.0.1",
            "port": self._port,
            "tls": self.tls,
            "username": self.username,
            "password": self.password,
            "sender": self.sender,
            "recipients": [self.recipient],
        }

    def effects(self) -> list[str]:
        """Subject and recipients of every mail."""
        return [f"{mail.message['Subject'].strip()} to {', '.join(mail.recipients)}" for mail in self.mails]

    async def __aenter__(self) -> Self:
        context = self.context if self.tls == "implicit" else None
        self._listening = await asyncio.start_server(self._serve, sock=self._socket, ssl=context, limit=2**24)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listening is not None
        self._listening.close()
        for talk in self._talks:
            talk.hang_up()
        await asyncio.gather(*(talk.ended.wait() for talk in self._talks))

    # -- one connection --------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self._outage or (self._faults.popleft() if self._faults else Fault())
        talk = _Talk(self, reader, writer, fault, len(self.requests))
        self.requests.append(Recorded("SMTP", "", {}, b"", time.time(), None))
        self._talks.append(talk)
        try:
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                await talk.run()
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()
            self._talks.remove(talk)
            if fault.silent is not None and not talk.kept_silent:
                self._faults.appendleft(fault)  # no mail came that it could meet
            talk.ended.set()

    def take(self, mail: Mail) -> str:
        """The answer to a mail's final dot; it is kept if that is 250."""
        if self.most is not None and len(mail.raw) > self.most:
            # RFC 1870, section 6.3: 552 "message size exceeds fixed maximum message size".
            return "552 5.3.4 Message size exceeds fixed limit"
        faults = check(mail.raw)
        if faults:
            return f"554 5.6.0 {faults[0]}"
        self.mails.append(mail)
        return f"250 2.0.0 Ok: queued as {len(self.mails):06X}"

    def is_too_fast(self) -> bool:
        """Whether one more mail is more than `per_minute` in the last sixty seconds."""
        if self.per_minute is None:
            return False
        now = time.monotonic()
        self._arrivals = [at for at in self._arrivals if at > now - 60]
        if len(self._arrivals) >= self.per_minute:
            self.limited += 1
            return True
        self._arrivals.append(now)
        return False


@dataclass(slots=True)
class _Talk:
    """A conversation.

    fault   what it meets: an answer to its mail, or silence before or after the mail is kept
    number  of its line in `requests`, which always has the last answer
    """

    fake: FakeMail
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    fault: Fault
    number: int
    greeted: bool = False
    secure: bool = False
    logged_in: bool = False
    sender: str = ""
    recipients: list[str] = field(default_factory=list)
    kept_silent: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def hang_up(self) -> None:
        """Cut the connection."""
        if self.fault.held is not None:
            self.fault.held.released.set()
        self.writer.transport.abort()

    async def run(self) -> None:
        self.secure = self.fake.tls == "implicit"
        if self.fault.status == 503:
            # RFC 5321, section 3.8: 421 before closing the connection, whatever was asked.
            return await self.say(REPLIES[503])
        await self.say(self.fake.answers.get("CONNECT", "220 mail.example.com ESMTP"))
        while line := await self.reader.readline():
            verb, _, rest = line.decode("ascii", "replace").strip().partition(" ")
            verb = verb.upper()
            if not line.endswith(b"\r\n") or len(line) > MAX_COMMAND:
                await self.say("500 5.5.2 Line too long, or not ended by CRLF")
            elif verb == "QUIT":
                return await self.say("221 2.0.0 Bye")
            elif verb in self.fake.answers:
                await self.say(self.fake.answers[verb])
            elif not await self.answer(verb, rest):
                return None
        return None

    async def say(self, *lines: str) -> None:
        code = lines[0][:3]
        text = [*(f"{code}-{line[4:]}" for line in lines[:-1]), lines[-1]]
        if code.isdigit():
            self.note(status=int(code))
        self.writer.write("".join(f"{line}\r\n" for line in text).encode())
        await self.writer.drain()

    def note(self, **what: Any) -> None:
        self.fake.requests[self.number] = replace(self.fake.requests[self.number], **what)

    async def answer(self, verb: str, rest: str) -> bool:
        """Answer a command. False: hang up."""
        match verb:
            case "EHLO":
                self.greeted = True
                await self.say("250 mail.example.com", *self.extensions())
            case "NOOP":
                await self.say("250 2.0.0 Ok")
            case "RSET":
                self.sender, self.recipients = "", []
                await self.say("250 2.0.0 Ok")
            case "STARTTLS":
                await self.start_tls()
            case "AUTH":
                await self.log_in(rest)
            case "MAIL":
                await self.say(self.mail_from(rest))
            case "RCPT":
                await self.say(self.mail_to(rest))
            case "DATA":
                return await self.data()
            case _:
                await self.say("502 5.5.1 Command not implemented")
        return True

    def extensions(self) -> list[str]:
        if self.fake.tls == "starttls" and not self.secure:
            return ["250 STARTTLS"]
        size = [] if self.fake.most is None else [f"250 SIZE {self.fake.most}"]
        return [f"250 AUTH {' '.join(self.fake.offers)}", *size, "250 ENHANCEDSTATUSCODES"]

    async def start_tls(self) -> None:
        if self.fake.tls != "starttls" or self.secure:
            return await self.say("503 5.5.1 Not now")
        await self.say("220 2.0.0 Ready to start TLS")
        assert self.fake.context is not None
        plain = self.writer.transport
        try:
            await self.writer.start_tls(self.fake.context)
        except AttributeError:  # CPython 3.11 has no transport any more where the client hung up in between
            vars(self.writer)["_transport"] = plain
            raise ConnectionError("no TLS came about") from None
        # RFC 3207, section 4.2: "The server MUST discard any knowledge obtained from the client".
        self.secure, self.greeted = True, False
        return None

    async def log_in(self, rest: str) -> None:
        if self.fake.tls == "starttls" and not self.secure:
            # RFC 4954, section 4: a server must not offer AUTH where the password would go in the clear.
            return await self.say("538 5.7.11 Encryption required for requested authentication mechanism")
        way, _, initial = rest.partition(" ")
        if way == "PLAIN" and "PLAIN" in self.fake.offers:
            given = _decoded(initial or await self.challenge("")).split("\0")[1:]
        elif way == "LOGIN" and "LOGIN" in self.fake.offers:
            given = [
                _decoded(initial or await self.challenge("Username:")),
                _decoded(await self.challenge("Password:")),
            ]
        else:
            return await self.say("504 5.5.4 Unrecognized authentication type")
        refused = self.fake.reject_credentials or self.fault.status == 401
        if refused or given != [self.fake.username, self.fake.password]:
            # As some servers do, it repeats what it was given.
            return await self.say(f"535 5.7.8 Authentication credentials invalid: {' '.join(given)}")
        self.logged_in = True
        return await self.say("235 2.7.0 Authentication successful")

    async def challenge(self, text: str) -> str:
        await self.say(f"334 {base64.b64encode(text.encode()).decode()}")
        return (await self.reader.readline()).decode().strip()

    def mail_from(self, rest: str) -> str:
        if self.fault.status is not None:
            # RFC 5321, section 4.5.3.1.5: 512 octets a reply.
            code, said = REPLIES[self.fault.status].split(" ", 1)
            return f"{code} {(' '.join(self.fault.body.split()) or said)[:400]}"
        if not self.greeted:
            return "503 5.5.1 Send EHLO first"
        if not self.logged_in:
            # RFC 4954, section 6: 530 "Authentication required".
            return "530 5.7.0 Authentication required"
        if self.sender:
            return "503 5.5.1 Nested MAIL command"  # RFC 5321, section 4.1.4
        if self.fake.is_too_fast():
            return REPLIES[429]
        address = _path(rest, "FROM:")
        if not address:
            return "501 5.1.7 Bad sender address syntax"
        self.sender = address
        return "250 2.1.0 Ok"

    def mail_to(self, rest: str) -> str:
        if not self.sender:
            return "503 5.5.1 Need MAIL command"
        address = _path(rest, "TO:")
        if not address:
            return "501 5.1.3 Bad recipient address syntax"
        if address in self.fake.refuses:
            return self.fake.refuses[address]
        if len(self.recipients) >= 100:
            # RFC 5321, section 4.5.3.1.10: the code is 452.
            return "452 4.5.3 Too many recipients"
        self.recipients.append(address)
        return "250 2.1.5 Ok"

    async def keep_silent(self) -> bool:
        self.note(status=None)
        self.kept_silent = True
        if self.fault.patient:
            await self.reader.read()
        return False

    async def data(self) -> bool:
        if not self.recipients:
            # RFC 5321, section 3.3: "no valid recipients" is 554 or 503.
            await self.say("554 5.5.1 No valid recipients")
            return True
        await self.say("354 End data with <CR><LF>.<CR><LF>")
        raw = await self.reader.readuntil(b"\r\n.\r\n")
        # RFC 5321, section 4.5.2: a first period of a line was added for transparency.
        text = b"\r\n".join(line.removeprefix(b".") for line in raw.removesuffix(b".\r\n").split(b"\r\n"))
        self.note(body=text)
        if self.fault.silent == "before":
            return await self.keep_silent()
        said = self.fake.answers.get(".") or self.fake.take(Mail(self.sender, tuple(self.recipients), text))
        if self.fault.silent == "after":
            return await self.keep_silent()
        if self.fault.held is not None:
            self.fault.held.committed.set()
            await self.fault.held.released.wait()
        self.sender, self.recipients = "", []
        await self.say(said)
        return True


def check(raw: bytes) -> list[str]:
    """What is wrong with a mail's text; empty when nothing is."""
    lines = raw.split(b"\r\n")
    faults = []
    if any(b"\r" in line or b"\n" in line for line in lines):
        # RFC 5321, section 2.3.8: CR and LF "MUST NOT" occur alone; servers that took them could be tricked.
        faults.append("a bare CR or LF")
    if any(len(line) + 2 > MAX_LINE for line in lines):
        faults.append("a line of more than 1,000 octets")
    if any(byte > 127 for byte in raw):
        faults.append("8-bit text, and BODY=8BITMIME was not asked for")  # RFC 6152, section 3
    head = raw.partition(b"\r\n\r\n")[0].decode("ascii", "replace")
    names = Counter(line.partition(":")[0].lower() for line in head.split("\r\n") if not line.startswith((" ", "\t")))
    # RFC 5322, section 3.6: "The only required header fields are the origination date field and the originator
    # address field(s)."
    faults += [f"no {name} header" for name in ("date", "from") if not names[name]]
    faults += [f"more than one {name} header" for name in ONCE if names[name] > 1]
    if any(" " in name or not name for name in names):
        faults.append("a line of the head that is no header")
    ids = [
        line
        for line in head.replace("\r\n ", " ").split("\r\n")
        if line.lower().startswith(("in-reply-to:", "references:"))
    ]
    if any(not part.startswith("<") for line in ids for part in line.split()[1:]):
        faults.append("what is no id in In-Reply-To or References")  # RFC 5322, section 3.6.4
    return faults


def _path(rest: str, word: str) -> str:
    """The address of `FROM:<a@b>` (RFC 5321, section 4.1.1.2: no space after the colon); empty where it is none."""
    given = rest.partition(" ")[0]
    if not given.upper().startswith(f"{word}<") or not given.endswith(">") or "@" not in given:
        return ""
    return given[len(word) + 1 : -1]


def _decoded(text: str) -> str:
    with contextlib.suppress(ValueError):
        return base64.b64decode(text, validate=True).decode()
    return ""
