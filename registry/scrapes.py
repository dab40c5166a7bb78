"""What integrations have counted, for whoever asks: at /metrics/{integration} of workers and gateways.

To make the text takes seconds where there are many series, and it may be asked for by anybody on this machine. So it is
made once at a time for each account, and then kept for a moment: who asks meanwhile gets the same bytes.
"""

from __future__ import annotations

import asyncio
import time

from integrations.base import Exposes
from integrations.redact import Redactor
from registry.act import contained

KEPT_SECONDS = 2.0
"""Or as long as it took, if that was longer: half of the time at most goes into making it. Who scrapes does so every
10 to 60 s (prometheus.io, "Configuration", scrape_interval: 1m by default)."""


class Scrapes:
    """The text of one account."""

    def __init__(self, adapter: Exposes, redact: Redactor) -> None:
        self._adapter = adapter
        self._redact = redact
        self._making = asyncio.Lock()
        self._text = b""
        self._until = float("-inf")

    async def text(self) -> bytes:
        """The text, KEPT_SECONDS old at most. Raises what the adapter raises; a failure is not kept."""
        async with self._making:
            if time.monotonic() >= self._until:
                began = time.monotonic()
                self._text = await contained(self._adapter.exposition(), self._redact)
                now = time.monotonic()
                self._until = now + max(KEPT_SECONDS, now - began)
            return self._text
