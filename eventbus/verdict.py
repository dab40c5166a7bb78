"""What becomes of a delivery whose attempt failed. Pure: from what the handler raised to what is done about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from eventbus.errors import InvalidEvent, UnknownVersion
from eventbus.subscription import Options, Refused, TryLater

PARK = timedelta(seconds=30)
ERROR_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Bury:
    """To the dead letters: nobody tries it again."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Again:
    """Another attempt, at the earliest after `delay`.

    counts   whether this attempt used up one of those allowed
    pause    how long the whole group has to wait
    outcome  what it is called in logs and metrics
    """

    delay: timedelta
    text: str
    counts: bool = True
    pause: timedelta = timedelta()
    outcome: str = "retry"


def verdict(error: Exception, attempt: int, options: Options) -> Bury | Again:
    """Decide. `attempt` is the number of the one that failed, from 1."""
    if isinstance(error, UnknownVersion):  # a newer worker can: leave it to them
        return Again(PARK, _text(error), counts=False, outcome="parked")
    if isinstance(error, InvalidEvent):
        return Bury("invalid", _text(error))
    if isinstance(error, Refused):
        return Bury(error.kind, _writable(error.reason))
    if isinstance(error, TryLater):
        return _later(error, attempt, options)
    text = f"{type(error).__name__}: {_text(error)}"[:ERROR_CHARACTERS]
    if attempt >= options.max_attempts:
        return Bury("exhausted", text)
    return Again(options.backoff.delay(attempt), text)


def _later(asked: TryLater, attempt: int, options: Options) -> Bury | Again:
    text = _writable(asked.reason)
    if asked.counts and attempt >= options.max_attempts:
        return Bury("exhausted", text)
    usual = options.backoff.delay(attempt)
    delay = max(usual, asked.after or timedelta()) if asked.counts else asked.after or usual
    return Again(delay, text, asked.counts, delay if asked.pause else timedelta())


def _text(error: Exception) -> str:
    """What an error says. One that can't even say that must not stop the worker."""
    try:
        return _writable(str(error))
    except Exception:  # noqa: BLE001  a foreign __str__ may raise anything
        return "(it can't be shown)"


def _writable(text: object) -> str:
    """Cut to its limit, and without lone surrogates, which can't be sent to Redis."""
    cut = str(text)[:ERROR_CHARACTERS]
    return cut.encode("utf-8", "backslashreplace").decode()
