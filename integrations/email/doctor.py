"""Whether a mail server takes our mail: what `eventbus integrations doctor` looks at. Sends none.

It goes as far as a mail's addresses and drops it then. A server may say yes to them, and no to the mail.
"""

from __future__ import annotations

from collections.abc import Iterator

from integrations import findings
from integrations.base import Finding
from integrations.email.client import Client, Looked
from integrations.email.config import EmailConfig, mailbox
from integrations.email.render import MAX_OCTETS
from integrations.errors import AuthFailed, IntegrationError, RateLimited, Rejected


async def examine(client: Client, config: EmailConfig) -> list[Finding]:
    """All findings. When we are not let in, nothing else is asked."""
    sender = mailbox(config.sender).addr_spec
    recipients = [mailbox(one).addr_spec for one in config.recipients]
    try:
        looked = await client.look(sender, recipients)
    except AuthFailed as error:
        fix = "correct username and password; many providers want a password made for one program"
        return [findings.failed("credentials", error, fix)]
    except IntegrationError as error:
        return [findings.failed("way", error, "correct host, port and tls")]
    return [
        _way(looked, config),
        Finding("credentials", "ok", f"signed in as {config.username}" if config.username else "nobody signs in"),
        _sender(looked, sender),
        *_recipients(looked, recipients),
        _size(looked),
    ]


def _way(looked: Looked, config: EmailConfig) -> Finding:
    if looked.tls:
        return Finding("way", "ok", f"{config.url} answers: {looked.tls}, with a certificate that is trusted")
    if config.host in config.allow_unencrypted:
        what = f"{config.url} answers, and nothing is encrypted: everybody on the way can read the mails"
        return Finding("way", "warn", what, "set tls to implicit or starttls")
    return Finding("way", "ok", f"{config.url} answers, on this machine")


def _sender(looked: Looked, sender: str) -> Finding:
    if looked.by_sender is None:
        return Finding("sender", "ok", f"{sender} may write")
    return findings.failed("sender", looked.by_sender, f"set sender to an address that the account may use: {sender}")


def _recipients(looked: Looked, recipients: list[str]) -> Iterator[Finding]:
    for one in recipients if looked.by_sender is None else ():
        about, error = f"recipient {one}", looked.refused.get(one)
        if error is None:
            yield Finding(about, "ok", "the server takes mail for it")
        elif isinstance(error, Rejected | AuthFailed):
            yield findings.failed(about, error, "correct recipients; only an account may write to other domains")
        else:  # 4yz: greylisting (RFC 6647) says this to everybody the first time
            fix = "ask again in some minutes; events are tried again by themselves"
            yield Finding(about, "warn", error.detail, "ask again later" if isinstance(error, RateLimited) else fix)


def _size(looked: Looked) -> Finding:
    if looked.most is None:
        return Finding("size", "ok", "the server names no limit")
    what = f"the server takes {looked.most:,} octets a mail, and ours may have {MAX_OCTETS:,}"
    if looked.most < MAX_OCTETS:
        return Finding(
            "size", "warn", what, "ask its operator for more: an event with long texts becomes a dead letter"
        )
    return Finding("size", "ok", what)
