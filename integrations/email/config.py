"""The settings of one mail account: which server, how it is protected, who writes to whom.

What can't work or would send in the clear is refused here, before the first mail. No validation error repeats what was
given, since it may be the password.
"""

from __future__ import annotations

import ipaddress
import re
from email.headerregistry import Address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from integrations.fields import Secret, Text, is_loopback

Tls = Literal["implicit", "starttls", "none"]

PORTS: dict[Tls, int] = {"implicit": 465, "starttls": 587, "none": 25}
"""RFC 8314, section 7.3 (submissions), RFC 6409, section 3.1 (submission), RFC 5321, section 4.5.4.2 (smtp)."""

MAX_RECIPIENTS = 100
"""RFC 5321, section 4.5.3.1.8: a server has to take 100 recipients of one mail, and need not take more."""

_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
_LOCAL = r"[A-Za-z0-9!#$%&'*+/=^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=^_`{|}~-]+)*"
"""A dot-atom (RFC 5322, section 3.2.3) without the question mark, which an encoded word could not do without: see
`render`. Quoted local parts exist in the RFC and in attacks, hardly in mailboxes."""
_ADDRESS = re.compile(rf"(?P<local>{_LOCAL})@(?P<domain>{_DOMAIN})")
_NAMED = re.compile(r"(?P<name>[^?<>\"\\,;:@\x00-\x1f\x7f\ud800-\udfff]{1,100}?)\s*<(?P<address>[^<>]+)>")


def mailbox(text: str) -> Address:
    """`ops@example.com` or `Operations <ops@example.com>`. Raises ValueError for anything else."""
    named = _NAMED.fullmatch(text.strip())
    address = (named["address"] if named else text).strip()
    found = _ADDRESS.fullmatch(address)
    # RFC 5321, section 4.5.3.1: 64 octets before the @, 256 in all with the < and > around it.
    if found is None or len(found["local"]) > 64 or len(address) > 254:
        raise ValueError(
            "is no address such as ops@example.com or Operations <ops@example.com>, in ASCII: "
            "write a domain with other letters in its xn-- form"
        )
    return Address(named["name"].strip() if named else "", found["local"], found["domain"].lower())


def _mailbox(value: str) -> str:
    return str(mailbox(value))


def _allowed(value: str) -> str:
    if value.startswith("@"):
        return "@" + mailbox(f"x{value}").domain
    return mailbox(value).addr_spec


def _host(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value.strip("[]")))
    except ValueError:
        return _domain(value)


def _domain(value: str) -> str:
    if len(value) > 253 or not re.fullmatch(_DOMAIN, value):
        raise ValueError("is no host name such as smtp.example.com: leave smtp:// and the port out")
    return value.lower()


Mailbox = Annotated[str, AfterValidator(_mailbox)]
Host = Annotated[str, AfterValidator(_host)]


class EmailConfig(BaseModel):
    """One account at a mail server."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: Host = Field(description="The mail server that takes mail from us, such as smtp.example.com")
    tls: Tls = Field(default="implicit", description="implicit: from the first byte; starttls: before anything is said")
    port: int | None = Field(
        default=None, ge=1, le=65_535, description="Default: 465 with implicit TLS, 587 with starttls, 25 with none"
    )
    ca_file: Path | None = Field(default=None, description="Certificates to trust, where the system's do not do")
    allow_unencrypted: tuple[Host, ...] = Field(
        default=(), description="Hosts that may be used with tls: none although they are not this machine"
    )
    username: Text = Field(default=None, description="Who logs in; without it nobody does")
    password: Secret = Field(default=None, description="Its password")
    sender: Mailbox = Field(description="Who writes: events@example.com or Events <events@example.com>")
    recipients: tuple[Mailbox, ...] = Field(
        min_length=1, max_length=MAX_RECIPIENTS, description="Who is written to where nothing else is said"
    )
    allowed_targets: tuple[Annotated[str, AfterValidator(_allowed)], ...] = Field(
        default=(), description="Who else a notification's target may name: addresses, and @example.com for a domain"
    )
    subject_prefix: str = Field(default="[eventbus]", max_length=50, description="Before every subject")
    hostname: Annotated[str | None, AfterValidator(lambda value: value and _domain(value))] = Field(
        default=None, description="Our name in EHLO and in message ids; default: the sender's domain"
    )
    successes: Literal["after_failure", "always", "never"] = Field(
        default="after_failure", description="When what was completed or has recovered is told"
    )
    max_per_minute: int = Field(default=60, ge=1, le=10_000, description="Mails a minute that the server takes from us")

    @model_validator(mode="after")
    def _is_protected(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("has one of username and password: give both or neither")
        if self.tls != "none" or is_loopback(self.host):
            return self
        if self.host not in self.allow_unencrypted:
            raise ValueError(
                "has tls: none for a host that is not this machine, so anybody on the way could read the mail: use "
                "implicit or starttls, or name the host in allow_unencrypted"
            )
        if self.password is not None:
            raise ValueError("would send the password in the clear: use tls implicit or starttls, or no password")
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect."""
        return self.host, self.port or PORTS[self.tls]

    @property
    def url(self) -> str:
        """The same, for people."""
        host, port = self.address
        return f"smtp{'s' if self.tls == 'implicit' else ''}://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def our_name(self) -> str:
        """What we call ourselves: the same on every machine, since message ids end in it."""
        return self.hostname or mailbox(self.sender).domain

    def may_write_to(self, address: str) -> bool:
        """Whether a notification may name this address: a route's target may come from an event."""
        known = {mailbox(one).addr_spec for one in self.recipients}
        return (
            address in known
            or address in self.allowed_targets
            or f"@{address.partition('@')[2]}" in (self.allowed_targets)
        )
