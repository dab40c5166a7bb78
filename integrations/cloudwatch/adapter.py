"""CloudWatch as an integration: what it takes, what it puts, how it is. The parts stand in the files beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from eventbus.event import Event
from integrations import findings
from integrations.base import (
    WHOLE,
    Budget,
    Context,
    Delivery,
    DeliveryResult,
    Finding,
    Health,
    Integration,
    Manifest,
    Preview,
    Scope,
    Target,
    What,
)
from integrations.cloudwatch.client import Client
from integrations.cloudwatch.config import CloudWatchConfig
from integrations.cloudwatch.credentials import Signer
from integrations.cloudwatch.render import Skipped, call_for
from integrations.errors import IntegrationError
from integrations.measure import topics_of

SECOND = timedelta(seconds=1)


class CloudWatch(Integration[CloudWatchConfig]):
    """One account in one region.

    `at_least_once`: data that is put twice counts twice, and nobody can ask whether it was put.
    """

    manifest = Manifest(
        name="cloudwatch",
        title="Amazon CloudWatch",
        config=CloudWatchConfig,
        handles=("migration.completed", "migration.failed"),
        effects="at_least_once",
        limits="500 requests a second and region unless raised; data from 2 weeks ago to 2 hours ahead",
        scopes=(Scope("cloudwatch:PutMetricData", "puts metrics, and asks whether it may"),),
        tier="complete",
    )

    _signer: Signer | None = None

    async def initialize(self, context: Context[CloudWatchConfig]) -> None:
        """Make the client. Raises Misconfigured where botocore or the profile is missing."""
        await super().initialize(context)
        await self.close()
        self._signer = await asyncio.to_thread(Signer, context.config)
        self._client = Client(context.config, context.http, self._signer)

    async def close(self) -> None:
        """Let go of the thread that asks for credentials."""
        if self._signer is not None:
            self._signer.close()

    def targets(self) -> Sequence[Target]:
        """One, for the topics that something is measured of."""
        return (Target(WHOLE, topics_of(self.config.active)),)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """Put what the measures say of it, in one request."""
        call = call_for(event, self.config, datetime.now(UTC))
        if isinstance(call, Skipped):
            return DeliveryResult.skipped(call.why)
        reference = await self._client.put(call.content)
        return DeliveryResult.delivered(reference or None, detail="; ".join([call.doing, *call.missing]), ends=True)

    def budgets(self, what: What, delivery: Delivery) -> tuple[Budget, ...]:
        """A tenth below what the settings allow: requests may arrive closer together than they left."""
        most = self.config.max_per_second - self.config.max_per_second // 10
        return (Budget("requests", most, SECOND, burst=max(1, most // 10)),)

    def preview(self, what: What, delivery: Delivery) -> Sequence[Preview]:
        """The request, without what signs it."""
        if not isinstance(what, Event):
            return super().preview(what, delivery)
        call = call_for(what, self.config, datetime.now(UTC))
        if isinstance(call, Skipped):
            return ()
        return (Preview(call.doing, f"POST {self.config.url}/", call.content.decode()),)

    async def health(self) -> Health:
        """Whether it takes our credentials for what we do. Nothing is put."""
        return await Health.of(self._takes_us(), "CloudWatch")

    async def examine(self) -> Sequence[Finding]:
        """Whose credentials, whether they are good for it, and the clock that signs."""
        assert self._signer is not None, "initialize comes first"
        try:
            found = [Finding("credentials", "ok", await self._signer.source())]
        except IntegrationError as error:
            return [findings.failed("credentials", error, "see `access_key_id` and `profile` in the README")]
        try:
            answer = await self._client.ask()
        except IntegrationError as error:
            return [*found, findings.failed("rights", error, "do what it says; check region")]
        right = Finding("rights", "ok", f"cloudwatch:PutMetricData in {self.config.region}")
        return [*found, right, findings.clock(answer.headers, "CloudWatch")]

    async def _takes_us(self) -> str:
        await self._client.ask()
        return f"it takes our credentials in {self.config.region}"
