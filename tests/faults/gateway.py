"""The gateway of a fault run: `eventbus gateway` as it is, which says when it answers.

    python -m tests.faults.gateway SETTINGS_FILE HISTORY

A gateway that is killed before it ever answers would prove nothing.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from pathlib import Path

import structlog

from registry.settings import Settings
from service.gateway.app import run_gateway
from service.wiring import read_settings
from tests.faults.history import History


async def serve(settings: Settings, history: History) -> None:
    """Until SIGTERM."""
    telling = asyncio.create_task(_tell(settings.gateway.port, history))
    await run_gateway(settings)
    telling.cancel()


async def _tell(port: int, history: History) -> None:
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            history.up()
            return
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(serve(read_settings(Path(sys.argv[1])), History(Path(sys.argv[2]))))
