"""Ending what runs in the background, although a library may lose a cancellation.

Before Python 3.12 `asyncio.wait_for`, which redis-py calls, drops a cancellation that arrives together with its result
(github.com/python/cpython/issues/86296). The task then goes on as if nobody had asked it to end: a time-out does not
end it, and whoever waits for it waits for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

AGAIN_SECONDS = 0.1


@contextmanager
def cancellable() -> Iterator[None]:
    """Raise the cancellation that arrived inside, also where what runs inside loses it."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        yield
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, as often as it takes, and wait until they are done; what they raise is not looked at."""
    every = list(tasks)
    left = {task for task in every if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_SECONDS)
    await asyncio.gather(*every, return_exceptions=True)
