"""Brings one thing to one integration, once in effect: gate and ledger around every outgoing call.

The order never changes: wait for a turn at the gate, ask the ledger, find out what an earlier attempt left behind, call
the adapter, note the result, tell the gate. Adapters and their clients never retry; what an error means is `judgement`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import structlog
from pydantic import JsonValue

from eventbus import EventBus, EventBusError, TryLater
from eventbus.failpoint import failpoint
from eventbus.gate import How, Turn
from eventbus.ledger import Entry, Ledger, Permission
from integrations.base import DeliveryResult, Earlier, Follows, Integration, Outcome, Reconciles
from integrations.errors import Disabled, NotReady, OutcomeUnknown, Rejected
from integrations.exchange import Exchange, listening
from registry.act import Act, Busy, KeyReused, Parked, Waiting, contained
from registry.condition import Condition
from registry.judgement import FOR_GOOD, SURELY_NOT_DONE, describe, for_the_breaker, for_the_bus, surely_not_done
from registry.metrics import Metrics

FRESH_SECONDS = 1.0
"""How old the ledger's permission may be when the call leaves; then it is asked once more whose delivery it is."""

_AGAIN = timedelta(seconds=1)
"""Having waited longer than this for its turn, an act looks again whether the service was left alone meanwhile."""

_WAIT = {
    "floor": "{account} asked us to wait",
    "open": "{account} is failing and left alone for a while",
    "full": "the budget {budget} of {account} is used up",
}

_log = structlog.get_logger("delivery")


class Dispatcher:
    """Makes acts happen once."""

    def __init__(self, bus: EventBus, metrics: Metrics, ledger: Ledger | None = None) -> None:
        self._bus = bus
        self._ledger = ledger or bus.ledger
        self._metrics = metrics
        self._condition = Condition(bus)

    async def deliver(self, act: Act) -> DeliveryResult:
        """A delivery of the bus. Raises TryLater or Refused, as a handler of the bus does."""
        with listening() as heard:
            started = time.perf_counter()
            try:
                result = await self.once(act)
            except Exception as error:
                verdict = for_the_bus(error)
                await self._tell(act, heard, started, error=describe(error), outcome=_outcome_of(error, verdict))
                raise verdict from error
            await self._tell(act, heard, started, outcome=result.outcome.value, result=result)
        return result

    async def once(self, act: Act) -> DeliveryResult:
        """The act's result: made now, or by whoever did it before.

        Raises the adapter's IntegrationError, TimeoutError, Waiting, Busy, KeyReused, Parked, or whatever a faulty
        adapter raises.
        """
        act = await self._with_earlier(act)
        if act.dry_run:
            return _shown(act)
        turn = await self._turn(act)
        how, floor = _no_call()
        try:
            result = await self._by_the_ledger(act)
            if result.outcome in (Outcome.DELIVERED, Outcome.REJECTED):
                how = "ok"
        except Exception as error:
            how, floor = for_the_breaker(error)
            if isinstance(error, Disabled):
                await self._condition.disabled(act.account, error.detail, error.since)
            await self._report(act, turn, how, floor, describe(error))
            raise
        await self._report(act, turn, how, floor, "")
        return result

    # -- the gate --------------------------------------------------------------------------------------------------

    async def _turn(self, act: Act) -> Turn:
        """Wait for the turn; raises Waiting when that takes longer than a worker holds a delivery in its hand."""
        turn = await self._bus.gate.enter(act.account, act.costs(), probe=act.timeout)
        if not turn.is_open:
            raise _held(act, turn)
        if turn.after:
            await asyncio.sleep(turn.after.total_seconds())
        if turn.after > _AGAIN and turn.kind == "go":
            now = await self._bus.gate.enter(act.account, (), probe=act.timeout)
            if not now.is_open:
                raise _held(act, now)
            return now
        return turn

    async def _report(self, act: Act, turn: Turn, how: How, floor: timedelta, detail: str) -> None:
        if how == "none" and not floor and turn.kind == "go":
            return
        try:
            changed = await self._bus.gate.report(act.account, turn, how, floor=floor, breaker=act.breaker)
        except EventBusError as error:  # what happened is in the ledger; the breaker misses one call
            _log.warning("not told to the gate", account=act.account, error=str(error))
            return
        if changed == "opened":
            at_first = min(act.breaker.first, act.breaker.longest)
            await self._condition.degraded(act.account, detail, at_first)
        elif changed == "closed":
            await self._condition.recovered(act.account)

    # -- the ledger ------------------------------------------------------------------------------------------------

    async def _by_the_ledger(self, act: Act) -> DeliveryResult:
        asked = time.monotonic()
        entry = await self._ledger.intend(act.delivery.key, act.content, act.attempt)
        if entry.permission is Permission.DONE:
            return _repeated(entry.result or {})
        if entry.permission is Permission.CONFLICT:
            raise KeyReused(f"{act.account}: this idempotency key was used for something else")
        if entry.permission is Permission.BUSY:
            raise Busy(f"{act.account}: the same action is under way")
        if entry.permission is Permission.FENCED:
            raise TryLater("the delivery is no longer ours", counts=False)
        failpoint("effect.after_intent")
        try:
            async with asyncio.timeout(act.timeout.total_seconds()):
                result = await self._found_or_made(act, entry, asked)
        except Exception as error:
            if surely_not_done(error, act.adapter):
                await self._ledger.not_done(entry, describe(error), for_good=isinstance(error, FOR_GOOD))
                raise
            await self._ledger.unknown(entry)
            _park(act, error)
            raise
        failpoint("effect.after_call")
        await self._note(act, entry, result)
        return result

    async def _found_or_made(self, act: Act, entry: Entry, asked: float) -> DeliveryResult:
        if entry.permission is Permission.UNKNOWN:
            if act.adapter.manifest.effects == "searchable" and isinstance(act.adapter, Reconciles):
                found = await contained(self._look_up(act.adapter, act), act.redact)
                if found is not None:
                    return replace(found, outcome=Outcome.DUPLICATE, detail="found at the service")
            elif act.parks:
                raise OutcomeUnknown("an earlier attempt was cut off, and the service can't be asked about it")
        while act.attempt is not None and time.monotonic() - asked > FRESH_SECONDS:
            asked = time.monotonic()  # frozen or kept waiting since: somebody may have taken over
            if not await self._ledger.is_ours(act.attempt):
                raise NotReady("the delivery is no longer ours")
        with self._metrics.request(act.integration, act.method):
            result = await contained(act.call(), act.redact)
        return replace(result, detail=act.redact(result.detail))

    async def _look_up(self, adapter: Reconciles, act: Act) -> DeliveryResult | None:
        try:
            return await adapter.find(act.what, act.delivery)
        except SURELY_NOT_DONE as error:
            # What surely was not done is the look-up. About the effect it says nothing: that stays unknown.
            wait = error.retry_after
            raise OutcomeUnknown(f"can't look for an earlier effect: {error.detail}", retry_after=wait) from error

    async def _note(self, act: Act, entry: Entry, result: DeliveryResult) -> None:
        if result.outcome in (Outcome.DELIVERED, Outcome.DUPLICATE):
            await self._follow(act, result)
            await self._keep_thread(act, result)
            row = {"outcome": result.outcome.value, "reference": result.reference, "url": result.url}
            failpoint("effect.before_done")
            await self._ledger.done(entry, {**row, "detail": result.detail[:500]})
            failpoint("effect.after_done")
        elif result.outcome is Outcome.UNKNOWN:
            await self._ledger.unknown(entry)
            unknown = OutcomeUnknown(result.detail or "the adapter can't tell", retry_after=result.retry_after)
            _park(act, unknown)
            raise unknown
        elif result.outcome is Outcome.SKIPPED:
            await self._ledger.nothing(entry)
        else:
            is_refused = result.outcome is Outcome.REJECTED
            await self._ledger.not_done(entry, result.detail, for_good=is_refused)
            if result.outcome is Outcome.RETRY:
                raise NotReady(result.detail or "the adapter asked for another attempt", retry_after=result.retry_after)
            raise Rejected(result.detail or "the service refused")

    async def _follow(self, act: Act, result: DeliveryResult) -> None:
        if isinstance(act.adapter, Follows):
            for event, at in await contained(act.adapter.follow(act.what, act.delivery, result), act.redact):
                await self._bus.publish(event, at=at)

    # -- threads: what was made earlier for the same thing -----------------------------------------------------------

    async def _with_earlier(self, act: Act) -> Act:
        if not act.delivery.thread:
            return act
        row = await self._bus.table(act.integration).get(thread_row(act))
        if not isinstance(row, dict):
            return act
        reference, url, state = row.get("reference"), row.get("url"), row.get("state")
        earlier = Earlier(
            reference if isinstance(reference, str) else None,
            url if isinstance(url, str) else None,
            {str(name): str(value) for name, value in state.items()} if isinstance(state, dict) else {},
        )
        return replace(act, delivery=replace(act.delivery, earlier=earlier))

    async def _keep_thread(self, act: Act, result: DeliveryResult) -> None:
        """Before the ledger's row: a crash in between repeats this, one the other way round would lose it."""
        if not act.delivery.thread:
            return
        table = self._bus.table(act.integration)
        if result.ends:
            await table.delete(thread_row(act))
        elif result.reference is not None or result.state:
            row: dict[str, JsonValue] = {"reference": result.reference, "url": result.url, "state": {**result.state}}
            await table.put(thread_row(act), row, lifetime=self._ledger.keep)

    # -- what is told ------------------------------------------------------------------------------------------------

    async def _tell(
        self,
        act: Act,
        heard: list[Exchange],
        started: float,
        *,
        outcome: str,
        error: str = "",
        result: DeliveryResult | None = None,
    ) -> None:
        number, ms = act.delivery.attempt, round((time.perf_counter() - started) * 1000, 1)
        facts: dict[str, Any] = {"outcome": outcome, "latency_ms": ms}
        if result is not None:
            facts |= {"reference": result.reference, "url": result.url, "detail": result.detail}
        if error:
            facts["error"] = error
        route = {"route": act.route} if act.route else {}
        about = {"integration": act.integration, "target": act.delivery.target, "method": act.method, **route}
        log = _log.bind(**about, attempt=number)
        if act.event is not None:
            log = log.bind(event_id=act.event.id, topic=act.event.topic)
        tell = log.warning if error and outcome != "waits" else log.info
        tell(_HEADLINES.get(outcome, "not delivered"), **facts)
        if act.event is not None:
            requests: list[JsonValue] = [asdict(replace(one, answer=act.redact(one.answer))) for one in heard]
            line = {"method": act.method, "attempt": number, **facts, "requests": requests}
            await self._bus.trail.note(act.event.id, act.account, line, route=act.route)


_HEADLINES = {"delivered": "delivered", "duplicate": "delivered", "skipped": "skipped", "waits": "waits"}


def _no_call() -> tuple[How, timedelta]:
    return "none", timedelta()


def _held(act: Act, turn: Turn) -> Waiting:
    budget = turn.cost.name if turn.cost is not None else ""
    per_place = turn.cost is not None and ":" in turn.cost.name
    text = _WAIT[turn.kind].format(account=act.account, budget=budget)
    return Waiting(text, retry_after=turn.after, pause=not per_place)


def _park(act: Act, error: Exception) -> None:
    """Raise Parked for an outcome that nobody can find out: another attempt would know no more."""
    if act.parks and not isinstance(error, EventBusError):
        raise Parked(f"{describe(error)}; see eventbus unknown") from error


def _outcome_of(error: Exception, verdict: Exception) -> str:
    if isinstance(verdict, TryLater):
        return "waits" if isinstance(error, Waiting) else "retry"
    return getattr(verdict, "kind", "rejected")


def _shown(act: Act) -> DeliveryResult:
    """What would be sent, without a word to the service."""
    if type(act.adapter).preview is Integration.preview:
        return DeliveryResult.skipped(f"dry run: {act.integration} can't show what it would send")
    previews = act.adapter.preview(act.what, act.delivery)
    if not previews:
        return DeliveryResult.skipped("dry run: nothing would be sent")
    return DeliveryResult.skipped("dry run: " + "; ".join(f"{one.doing} ({one.request})" for one in previews)[:1000])


def _repeated(row: dict[str, Any]) -> DeliveryResult:
    return DeliveryResult(Outcome.DUPLICATE, row.get("reference"), row.get("url"), row.get("detail", ""))


def thread_row(act: Act) -> str:
    return f"thread:{act.delivery.target}:{act.delivery.thread}"
