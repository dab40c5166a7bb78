"""E-mail as an integration: what it takes, whom it writes to, how it is. The parts stand in the files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from eventbus.event import Event
from integrations.base import (
    Artifact,
    Budget,
    Context,
    Delivery,
    DeliveryResult,
    Finding,
    Health,
    Integration,
    Manifest,
    Notification,
    Preview,
    What,
)
from integrations.email import doctor
from integrations.email.client import Client
from integrations.email.config import EmailConfig, mailbox
from integrations.email.render import Letter, Skipped, letter_for, mime
from integrations.errors import Misconfigured


class Email(Integration[EmailConfig]):
    """One account at a mail server.

    `at_least_once`: SMTP has no way to ask whether a mail arrived, and no server has to drop a repeat. A repeat has the
    same Message-ID, by which some mailboxes know it.
    """

    manifest = Manifest(
        name="email",
        title="E-mail",
        config=EmailConfig,
        handles=("task.failed", "task.completed", "migration.failed", "migration.completed", "vm.failed"),
        notifications=("message",),
        effects="at_least_once",
        tier="complete",
        limits="The server's own: max_per_minute is kept to; 100 recipients a mail",
    )

    async def initialize(self, context: Context[EmailConfig]) -> None:
        """Make the client. Raises Misconfigured when `ca_file` holds no certificates that can be read."""
        await super().initialize(context)
        try:
            self._client = Client(context.config, context.http.limit)
        except OSError as error:  # ssl.SSLError is one
            raise Misconfigured(f"ca_file: {error.strerror or error}: give a file of certificates in PEM") from None

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Write to the recipients about an event; in answer to the first mail of its thread, if there is one."""
        return await self._send(event, delivery)

    async def send_notification(self, notification: Notification, delivery: Delivery) -> DeliveryResult:
        """Write a notification to its target, one or more addresses, or to the recipients."""
        return await self._send(notification, delivery)

    def budgets(self, what: What, delivery: Delivery) -> tuple[Budget, ...]:
        """What the server takes from us, and a tenth less: mails may arrive closer together than they left."""
        most = self.config.max_per_minute - self.config.max_per_minute // 10
        return (Budget("mails", most, timedelta(minutes=1), burst=max(1, most // 10)),)

    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        """The mail's headers and its plain text; the time of sending is not known yet."""
        if isinstance(what, Artifact):
            return super().preview(what, delivery)
        letter = letter_for(what, delivery, self.config, self.context.name)
        if isinstance(letter, Skipped):
            return ()
        message = mime(letter, self.config, None)
        headers = "\n".join(f"{name}: {value}" for name, value in message.items())
        doing = f"mail {letter.subject!r} to {', '.join(letter.recipients)}"
        return (Preview(doing, f"SMTP {self.config.url}", f"{headers}\n\n{letter.text}"),)

    async def health(self) -> Health:
        """Whether the server lets us in."""
        return await Health.of(self._client.check(), "the mail server")

    async def examine(self) -> Sequence[Finding]:
        """The way, the login, the sender, each recipient, and how large a mail may be."""
        return await doctor.examine(self._client, self.config)

    async def _send(self, what: Event[Any] | Notification, delivery: Delivery) -> DeliveryResult:
        letter = letter_for(what, delivery, self.config, self.context.name)
        if isinstance(letter, Skipped):
            return DeliveryResult.skipped(letter.why)
        content = mime(letter, self.config, datetime.now(UTC)).as_bytes()
        sent = await self._client.send(content, mailbox(self.config.sender).addr_spec, letter.recipients)
        detail = f"{_count(letter, len(sent.refused))}: {sent.answer}"
        if sent.refused:
            self.context.log.warning("recipients refused", refused=dict(sent.refused))
            detail += "; not written to: " + ", ".join(f"{who} ({why})" for who, why in sent.refused.items())
        return DeliveryResult.delivered(letter.message_id, detail=detail, state={"root": letter.root}, ends=letter.ends)


def _count(letter: Letter, refused: int) -> str:
    taken, total = len(letter.to) - refused, len(letter.to)
    return f"mailed to {taken}" if not refused else f"mailed to {taken} of {total}"
