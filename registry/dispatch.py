"""Brings one thing to one integration, once in effect: the ledger around every outgoing call.

The order never changes: ask the ledger, find out what an earlier attempt left behind, call the adapter, note the
result. Only here is decided what an adapter's error means for the delivery; adapters and their clients never retry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel

from eventbus import Attempt, Event, EventBusError, Refused, TryLater, Unavailable
from eventbus.failpoint import failpoint
from eventbus.ledger import Entry, Ledger, Permission
from integrations.base import Artifact, Delivery, DeliveryResult, Integration, Notification, Outcome, Reconciles
from integrations.errors import (
    AuthFailed,
    IntegrationError,
    Misconfigured,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from registry.metrics import Metrics

AUTH_PAUSE = timedelta(seconds=60)
"""How long a group waits after its credentials were refused, before one more try."""

FRESH_SECONDS = 1.0
"""How old the ledger's permission may be when the call leaves; then it is asked once more whose delivery it is."""

_SURELY_NOT_DONE = (NotReady, RateLimited, Unreachable, Rejected, AuthFailed, Misconfigured)

_log = structlog.get_logger("delivery")

What = Event[Any] | Notification | Artifact

T = TypeVar("T")


class Busy(Exception):
    """The same action is under way in another process."""


class KeyReused(Exception):
    """The idempotency key stands for another content."""


@dataclass(frozen=True, slots=True)
class Action:
    """One outgoing call: what, to whom, under which key, and the fence of the delivery it belongs to."""

    integration: str
    method: str
    key: str
    what: What
    call: Callable[[], Awaitable[DeliveryResult]]
    attempt: Attempt | None = None


class Dispatcher:
    """Makes actions happen once."""

    def __init__(self, ledger: Ledger, metrics: Metrics) -> None:
        self._ledger = ledger
        self._metrics = metrics

    async def deliver(
        self, name: str, adapter: Integration[Any], target: str, event: Event[Any], attempt: Attempt, timeout: timedelta
    ) -> DeliveryResult:
        """An event to a target of an integration. Raises TryLater or Refused, as a handler of the bus does."""
        delivery = Delivery(key=f"{name}:{target}:{event.id}", target=target, attempt=attempt.number)
        action = Action(
            integration=name,
            method="handle_event",
            key=delivery.key,
            what=event,
            call=lambda: adapter.handle_event(event, delivery),
            attempt=attempt,
        )
        log = _log.bind(integration=name, target=target, event_id=event.id, topic=event.topic, attempt=attempt.number)
        started = time.perf_counter()
        try:
            result = await self.once(adapter, action, timeout)
        except Exception as error:
            log.warning("not delivered", error=describe(error), latency_ms=_ms_since(started))
            raise _verdict(error) from error
        log.info(
            "delivered" if result.outcome is not Outcome.SKIPPED else "skipped",
            outcome=result.outcome.value,
            reference=result.reference,
            url=result.url,
            detail=result.detail,
            latency_ms=_ms_since(started),
        )
        return result

    async def once(self, adapter: Integration[Any], action: Action, timeout: timedelta) -> DeliveryResult:
        """The action's result: made now, or by whoever did it before.

        Raises the adapter's IntegrationError, TimeoutError, Busy, KeyReused, or whatever a faulty adapter raises.
        """
        asked = time.monotonic()
        entry = await self._ledger.intend(action.key, _content(action), action.attempt)
        if entry.permission is Permission.DONE:
            return _repeated(entry.result or {})
        if entry.permission is Permission.CONFLICT:
            raise KeyReused(f"{action.integration}: this idempotency key was used for something else")
        if entry.permission is Permission.BUSY:
            raise Busy(f"{action.integration}: the same action is under way")
        if entry.permission is Permission.FENCED:
            raise TryLater("the delivery is no longer ours", counts=False)
        failpoint("effect.after_intent")
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                result = await self._found_or_made(adapter, action, entry, asked)
        except _SURELY_NOT_DONE:
            await self._ledger.not_done(entry)
            raise
        except Exception:
            await self._ledger.unknown(entry)
            raise
        failpoint("effect.after_call")
        await self._note(entry, result)
        return result

    async def _found_or_made(
        self, adapter: Integration[Any], action: Action, entry: Entry, asked: float
    ) -> DeliveryResult:
        if entry.permission is Permission.UNKNOWN and isinstance(adapter, Reconciles):
            found = await contained(self._look_up(adapter, action))
            if found is not None:
                return DeliveryResult(Outcome.DUPLICATE, found.reference, found.url, "found at the service")
        is_old = time.monotonic() - asked > FRESH_SECONDS  # frozen or kept waiting since: somebody may have taken over
        if is_old and action.attempt is not None and not await self._ledger.is_ours(action.attempt):
            raise NotReady("the delivery is no longer ours")
        with self._metrics.request(action.integration, action.method):
            return await contained(action.call())

    async def _look_up(self, adapter: Reconciles, action: Action) -> DeliveryResult | None:
        try:
            return await adapter.find(action.what, action.key)
        except _SURELY_NOT_DONE as error:
            # What surely was not done is the look-up. About the effect it says nothing: that stays unknown.
            wait = error.retry_after
            raise OutcomeUnknown(f"can't look for an earlier effect: {error.detail}", retry_after=wait) from error

    async def _note(self, entry: Entry, result: DeliveryResult) -> None:
        if result.outcome in (Outcome.DELIVERED, Outcome.DUPLICATE):
            row = {"outcome": result.outcome.value, "reference": result.reference, "url": result.url}
            failpoint("effect.before_done")
            await self._ledger.done(entry, {**row, "detail": result.detail[:500]})
            failpoint("effect.after_done")
        elif result.outcome is Outcome.UNKNOWN:
            await self._ledger.unknown(entry)
            raise OutcomeUnknown(result.detail or "the adapter can't tell", retry_after=result.retry_after)
        else:
            await self._ledger.not_done(entry)
            if result.outcome is Outcome.RETRY:
                raise NotReady(result.detail or "the adapter asked for another attempt", retry_after=result.retry_after)
            if result.outcome is Outcome.REJECTED:
                raise Rejected(result.detail or "the service refused")


async def contained(call: Awaitable[T]) -> T:
    """A call into an adapter. One that tries to end the program has a fault like any other; ours goes on."""
    try:
        return await call
    except SystemExit as error:
        raise RuntimeError(f"it tried to end the program with SystemExit({error.code!r})") from error


def describe(error: BaseException) -> str:
    """One line for people: what went wrong, in our words where it is one of ours."""
    if isinstance(error, IntegrationError):
        return f"{type(error).__name__}: {error.detail}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, TryLater | Refused):
        return error.reason
    if isinstance(error, Busy | KeyReused | EventBusError):
        return str(error)
    return f"a fault in the adapter: {type(error).__name__}: {error}"


def _verdict(error: Exception) -> Exception:
    """What the bus shall do with a delivery that ended like this."""
    text = describe(error)
    if isinstance(error, TryLater | Refused):
        return error
    if isinstance(error, Rejected | Misconfigured | KeyReused):
        return Refused(text)
    if isinstance(error, RateLimited):
        return TryLater(text, after=error.retry_after, counts=False, pause=True)
    if isinstance(error, AuthFailed):
        return TryLater(text, after=AUTH_PAUSE, counts=False, pause=True)
    if isinstance(error, NotReady | Unreachable | ServiceFault | OutcomeUnknown):
        return TryLater(text, after=error.retry_after)
    return TryLater(text, counts=not isinstance(error, Unavailable))  # Redis away: not this delivery's doing


def _content(action: Action) -> bytes:
    """What an idempotency key stands for: the content, without what changes from one call to the next."""
    what: BaseModel = action.what
    body = what.id if isinstance(what, Event) else what.model_dump_json()
    return f"{action.integration}\0{action.method}\0{body}".encode()


def _repeated(row: dict[str, Any]) -> DeliveryResult:
    return DeliveryResult(Outcome.DUPLICATE, row.get("reference"), row.get("url"), row.get("detail", ""))


def _ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 1)
