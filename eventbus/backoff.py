"""How long to wait before trying again. Pure: the random number is an argument."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

MOST_DOUBLINGS = 60


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential, with jitter over its upper half: never at once, never all together.

    `base` after the first attempt, doubled after each, `most` at the end.
    """

    base: timedelta = timedelta(seconds=1)
    most: timedelta = timedelta(minutes=5)

    def delay(self, attempt: int, *, chance: float | None = None) -> timedelta:
        """The wait after attempt number `attempt` (from 1). `chance` in 0..1 places it in the jitter's range."""
        doublings = min(attempt - 1, MOST_DOUBLINGS)
        full = min(self.base.total_seconds() * 2.0**doublings, self.most.total_seconds())
        part = random.random() if chance is None else chance  # noqa: S311  jitter, not a secret
        return timedelta(seconds=full * (0.5 + 0.5 * part))


RECONNECT = Backoff(timedelta(milliseconds=100), timedelta(seconds=5))
"""Between attempts to reach a Redis that is away. There is no last one."""
