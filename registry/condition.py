"""Tells people, through an event, that an integration stopped working and that it works again.

Which of the two happened, the gate that all workers share knows: each change is told once, by whoever caused it.
"""

from __future__ import annotations

import structlog

from eventbus import EventBus, EventBusError
from eventbus.topics import IntegrationDegraded, IntegrationRecovered

_log = structlog.get_logger("registry")


class Condition:
    """Says how accounts are."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    async def degraded(self, account: str, detail: str) -> None:
        """Its breaker opened; its events wait."""
        await self._tell(account, "degraded", IntegrationDegraded(integration=account, detail=detail[:500]))

    async def recovered(self, account: str) -> None:
        """Its breaker closed; its events flow."""
        await self._tell(account, "recovered", IntegrationRecovered(integration=account))

    async def _tell(self, account: str, state: str, what: IntegrationDegraded | IntegrationRecovered) -> None:
        _log.warning("integration " + state, account=account)
        try:
            await self._bus.publish(what, source=f"/registry/{account}")
        except EventBusError as error:
            _log.warning("not announced", account=account, error=str(error))
