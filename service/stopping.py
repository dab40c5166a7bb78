"""How a program is told to stop: the first SIGTERM or SIGINT asks, the second ends it at once.

What was in hand then is taken over when its lease runs out; what was not accepted was not answered.
"""

from __future__ import annotations

import asyncio
import os
import signal

import structlog

_log = structlog.get_logger("service")


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at the first signal; at the second exit with 128 and its number, as a shell reports it."""
    loop = asyncio.get_running_loop()

    def told(number: signal.Signals) -> None:
        if stop.is_set():
            _log.warning("told twice: leaving at once", signal=number.name)
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
