"""Tells people, through an event, that an integration stopped working and that it works again.

Which of the two happened, the gate that all workers share knows: each change is told once, by whoever caused it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog

from eventbus import Conflict, EventBus, EventBusError
from eventbus.topics import IntegrationDegraded, IntegrationDisabled, IntegrationRecovered

REMEMBER = timedelta(days=7)
"""How long an occasion that was told is remembered."""

_log = structlog.get_logger("registry")


class Condition:
    """Says how accounts are."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus

    async def degraded(self, account: str, detail: str, wait: timedelta) -> None:
        """Its breaker opened; its events wait, for so long at first."""
        _log.warning("integration degraded", account=account, error=detail, for_s=wait.total_seconds())
        await self._tell(account, IntegrationDegraded(integration=account, detail=detail[:500]))

    async def recovered(self, account: str) -> None:
        """Its breaker closed; its events flow."""
        _log.warning("integration recovered", account=account)
        await self._tell(account, IntegrationRecovered(integration=account))

    async def disabled(self, account: str, detail: str, since: float) -> None:
        """It was switched off, at this time; each attempt meets that, and it is told once."""
        _log.warning("integration disabled", account=account, error=detail)
        what = IntegrationDisabled(integration=account, detail=detail[:500])
        await self._tell(account, what, f"disabled:{account}:{since:.3f}")

    async def _tell(
        self,
        account: str,
        what: IntegrationDegraded | IntegrationDisabled | IntegrationRecovered,
        once: str | None = None,
    ) -> None:
        named: dict[str, Any] = {} if once is None else {"idempotency_key": once}
        try:
            await self._bus.publish(what, source=f"/registry/{account}", remember=REMEMBER, **named)
        except Conflict:
            pass  # told before, in other words
        except EventBusError as error:
            _log.warning("not announced", account=account, error=str(error))
