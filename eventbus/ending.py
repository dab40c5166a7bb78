"""How background tasks are ended, everywhere in this package."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_SECONDS = 0.1


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they are done; what they raise is not looked at.

    One cancellation may not do: before Python 3.12 `asyncio.wait_for`, which redis-py calls, loses one that arrives
    together with its result (github.com/python/cpython/issues/86296).
    """
    every = list(tasks)
    left = {task for task in every if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_SECONDS)
    await asyncio.gather(*every, return_exceptions=True)
