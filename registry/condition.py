"""Tells when an integration stops working and when it works again, as events.

An account is degraded at once when its credentials are refused, and after FAILURES attempts in a row that failed for
the service's reasons. One success ends it.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from eventbus import Conflict, EventBus, EventBusError
from eventbus.topics import IntegrationDegraded, IntegrationRecovered
from integrations.errors import AuthFailed, NotReady, OutcomeUnknown, ServiceFault, Unreachable

FAILURES = 5
AGAIN = timedelta(minutes=5)
"""All workers together announce an integration's state at most once in this time."""

_log = structlog.get_logger("registry")


class Condition:
    """The state of one account as this process sees it."""

    def __init__(self, integration: str, bus: EventBus) -> None:
        self._integration = integration
        self._bus = bus
        self._failures = 0
        self._is_degraded = False

    async def failed(self, error: BaseException) -> None:
        """An attempt failed."""
        if isinstance(error, AuthFailed):
            self._failures = FAILURES
        elif isinstance(error, NotReady | OutcomeUnknown | ServiceFault | Unreachable | TimeoutError):
            self._failures += 1
        if self._failures >= FAILURES and not self._is_degraded:
            self._is_degraded = True
            detail = str(error) or "no answer in time"
            await self._tell(IntegrationDegraded(integration=self._integration, detail=detail[:500]), "degraded")

    async def worked(self) -> None:
        """An attempt succeeded."""
        self._failures = 0
        if self._is_degraded:
            self._is_degraded = False
            await self._tell(IntegrationRecovered(integration=self._integration), "recovered")

    async def _tell(self, what: IntegrationDegraded | IntegrationRecovered, state: str) -> None:
        _log.warning("integration " + state, integration=self._integration)
        try:
            await self._bus.publish(
                what,
                source=f"/registry/{self._integration}",
                idempotency_key=f"{state}:{self._integration}",
                remember=AGAIN,
            )
        except Conflict:
            pass  # another worker said it first, in other words
        except EventBusError as error:
            _log.warning("not announced", integration=self._integration, error=str(error))
