"""What an adapter's error means: for people, for the delivery, for the ledger, for the breaker. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from eventbus import EventBusError, Refused, TryLater, Unavailable
from eventbus.gate import How
from integrations.base import Integration
from integrations.errors import (
    AuthFailed,
    Disabled,
    IntegrationError,
    Misconfigured,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from registry.act import Busy, KeyReused, Parked, Waiting

SURELY_NOT_DONE = (NotReady, RateLimited, Unreachable, Rejected, AuthFailed, Misconfigured, Disabled)

LOOK_AGAIN = timedelta(minutes=1)
"""How long a target that is switched off is not asked again, unless it says otherwise."""
FOR_GOOD = (Rejected, Misconfigured)


def describe(error: BaseException) -> str:
    """One line for people: what went wrong, in our words where it is one of ours."""
    if isinstance(error, Waiting):
        return error.detail
    if isinstance(error, IntegrationError):
        return f"{type(error).__name__}: {error.detail}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, TryLater | Refused):
        return error.reason
    if isinstance(error, Busy | KeyReused | Parked | EventBusError):
        return str(error)
    return f"a fault in the adapter: {type(error).__name__}: {error}"


def surely_not_done(error: Exception, adapter: Integration[Any]) -> bool:
    """Whether the act can be tried again without looking for it first.

    A service that answered 5xx may have done it. Where nobody can look, such an answer is taken for a no: it is an
    answer, and parking each one for a person would make every fault of the service one of theirs.
    """
    if isinstance(error, ServiceFault):
        return adapter.manifest.effects == "at_least_once"
    return isinstance(error, SURELY_NOT_DONE)


def for_the_bus(error: Exception) -> Exception:
    """What the bus shall do with a delivery that ended like this: TryLater or Refused."""
    text = describe(error)
    if isinstance(error, TryLater | Refused):
        return error
    if isinstance(error, Parked):
        return Refused(text, kind="unknown")
    if isinstance(error, Rejected | Misconfigured | KeyReused):
        return Refused(text)
    if isinstance(error, Waiting):
        return TryLater(text, after=error.retry_after, counts=False, pause=error.pause)
    if isinstance(error, RateLimited):
        return TryLater(text, after=error.retry_after, counts=False, pause=True)
    if isinstance(error, Disabled):
        return TryLater(text, after=error.retry_after or LOOK_AGAIN, counts=False, pause=True)
    if isinstance(error, AuthFailed):
        return TryLater(text, counts=False)  # the breaker has opened: it says for how long
    if isinstance(error, NotReady | Unreachable | ServiceFault | OutcomeUnknown):
        return TryLater(text, after=error.retry_after)
    return TryLater(text, counts=not isinstance(error, Unavailable))  # Redis away: not this delivery's doing


def for_the_breaker(error: Exception) -> tuple[How, timedelta]:
    """How the call ended for the breaker, and how long nobody may call."""
    if isinstance(error, Parked) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    if isinstance(error, RateLimited):
        return "none", error.retry_after or timedelta(seconds=1)
    if isinstance(error, AuthFailed):
        return "broken", timedelta()
    if isinstance(error, NotReady | OutcomeUnknown | ServiceFault | Unreachable | TimeoutError):
        return "bad", timedelta()
    return "none", timedelta()  # it refused this one thing, or the fault is ours
