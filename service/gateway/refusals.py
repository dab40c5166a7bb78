"""How many refused webhooks the log tells of.

Whoever reaches the gateway can have one refused, as often as they like, and each is a warning. So that nothing else
goes under in them, or is pushed out of the journal by them, the first of a minute are told and the others are counted.
"""

from __future__ import annotations

import asyncio

import structlog

EACH_SECONDS = 60.0
TOLD = 5
"""Of each integration in EACH_SECONDS: enough to see what is wrong with a sender of one's own."""

_log = structlog.get_logger("service.gateway")


class Refusals:
    """Of all integrations of a gateway."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def is_told(self, integration: str) -> bool:
        """Whether the log shall tell of this one; else it tells at the end of the minute how many there were."""
        count = self._counts[integration] = self._counts.get(integration, 0) + 1
        if count == 1:
            asyncio.get_running_loop().call_later(EACH_SECONDS, self._end, integration)
        return count <= TOLD

    def _end(self, integration: str) -> None:
        structlog.contextvars.unbind_contextvars("request_id")  # that of the first
        if (more := self._counts.pop(integration) - TOLD) > 0:
            _log.warning("more webhooks refused", integration=integration, count=more, in_s=EACH_SECONDS)
