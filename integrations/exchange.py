"""What was said to a service and what it answered, for people who ask later what happened.

The dispatcher listens while it calls an adapter. `Http` tells it each request by itself; the client of an SDK does so
with `record`. Nothing here may hold a secret: no header, no query, no path that is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

MOST = 20
"""Exchanges of one call that are kept: the first ones."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer.

    request  `POST https://api.example.com`: method and address without what may be secret
    answer   `201`, `429 slow down`, or what went wrong instead
    ms       from the one to the other
    """

    request: str
    answer: str
    ms: float


_listening: ContextVar[list[Exchange] | None] = ContextVar("exchanges", default=None)


@contextmanager
def listening() -> Iterator[list[Exchange]]:
    """The exchanges that are made inside, in this task and in those and the threads it starts with its context."""
    heard: list[Exchange] = []
    token = _listening.set(heard)
    try:
        yield heard
    finally:
        _listening.reset(token)


def record(request: str, answer: str, ms: float) -> None:
    """Tell whoever listens."""
    heard = _listening.get()
    if heard is not None and len(heard) < MOST:
        heard.append(Exchange(request, answer, round(ms, 1)))
