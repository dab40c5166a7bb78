"""A drill: one marked notification the whole way, from the bus to the service and back out of it, step by step.

It takes the way of any event: published, taken by a worker from the group of the integration, through gate and ledger
to the adapter. Where no worker is, or to leave them out, this process does all of it through a group of its own. Either
way what is at the service is looked for and taken back from here, and nothing is left on the bus.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from eventbus import Attempt, Event, EventBusError, Options, catalog
from eventbus.bus import EVERYTHING
from eventbus.event import new_id
from eventbus.ledger import State
from eventbus.topics.integration import IntegrationDrill
from integrations.base import (
    WHOLE,
    Delivery,
    DeliveryResult,
    Drills,
    Integration,
    Notification,
    Outcome,
    Preview,
    Reconciles,
    Subscribes,
)
from integrations.errors import Rejected
from registry.account import Account
from registry.act import contained
from registry.dispatch import Dispatcher, thread_row
from registry.drill import DRILL, delivery_of, marked
from registry.judgement import describe
from service.wiring import Runtime

T = TypeVar("T")

TAKEN_SECONDS = 15.0
SEEN_SECONDS = 30.0
"""What was accepted may take its time to show: PagerDuty answers before it has done anything."""
LOOK_SECONDS = 0.5
TAKEN = ("running", "done")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a drill, and how long it took."""

    name: str
    is_done: bool
    said: str
    ms: float


class Failed(Exception):
    """A step did not come to its end."""


class Way(Protocol):
    """How the notification gets to the service."""

    delivery: Delivery

    def open(self) -> AbstractAsyncContextManager[None]:
        """What it needs, for as long as the drill lasts."""
        ...

    async def publish(self) -> str:
        """Ask for it on the bus. Says as which event."""
        ...

    async def taken(self) -> str:
        """Wait until it came from the bus. Says by whom. Raises Failed."""
        ...

    async def sent(self) -> DeliveryResult:
        """Wait for what the service answered. Raises Failed, or what the dispatcher raises."""
        ...


class Drill:
    """One drill of one account. Its steps can be walked once."""

    def __init__(self, runtime: Runtime, account: Account, target: str, *, here: bool = False) -> None:
        self._bus, self._account = runtime.bus, account
        self._notification = marked(target)
        asked = IntegrationDrill(
            integration=account.name, target=_target(account, target), to=target, drill=new_id(), until=_soon()
        )
        self._way: Way = _Here(runtime, account, asked) if here else _ByWorker(runtime, account, asked)
        self._result = DeliveryResult(Outcome.UNKNOWN)

    def preview(self) -> list[Preview]:
        """The requests that it will make. Raises IntegrationError for what can't be sent."""
        adapter = self._account.adapter
        if not adapter.manifest.notifications:
            raise Rejected(f"{self._account.name} sends no notifications: there is nothing to drill")
        if type(adapter).preview is Integration.preview:
            return []
        return list(adapter.preview(self._notification, self._way.delivery))

    async def steps(self) -> AsyncIterator[Step]:
        """Walk it. The last step is the one that failed, if one did; then too what was made is taken back."""
        walk: list[tuple[str, Callable[[], Awaitable[str]]]] = [
            ("accepted", self._way.publish),
            ("taken", self._way.taken),
            ("sent", self._await_sent),
            ("noted", self._look_into_ledger),
            ("seen", self._await_seen),
            ("taken back", self._take_back),
        ]
        async with self._way.open():
            for name, work in walk:
                began = time.perf_counter()
                try:
                    said, is_done = await work(), True
                except Failed as error:
                    said, is_done = str(error), False
                except Exception as error:  # noqa: BLE001  an adapter may raise anything
                    said, is_done = describe(error), False
                yield Step(name, is_done, said, round((time.perf_counter() - began) * 1000, 1))
                goes_on = is_done or name in ("noted", "seen") or (name != "accepted" and await self._may_be_there())
                if not goes_on:
                    return

    async def _may_be_there(self) -> bool:
        """Whether the call may have left, though nobody heard how it ended: the ledger knows."""
        try:
            state = await self._bus.ledger.state(self._way.delivery.key)
        except EventBusError:
            return True
        return state in (State.INTENT, State.UNKNOWN, State.DONE)

    # -- at the service ----------------------------------------------------------------------------------------------

    async def _await_sent(self) -> str:
        self._result = result = await self._way.sent()
        if result.outcome not in (Outcome.DELIVERED, Outcome.DUPLICATE):
            raise Failed(f"{result.outcome.value}: {result.detail}")
        return "  ".join(filter(None, [result.detail, result.reference, result.url]))

    async def _look_into_ledger(self) -> str:
        state = await self._bus.ledger.state(self._way.delivery.key)
        if state is not State.DONE:
            raise Failed(f"the ledger has it as {state.value if state else 'nothing'}, not as done")
        return "the ledger has it as done: it would not be sent again"

    async def _await_seen(self) -> str:
        if not await self._until(there=True):
            return "not looked for: this service can't be asked"
        return "the service has it"

    async def _take_back(self) -> str:
        try:
            if not await self._is_found():
                return "nothing: it is not there"
            adapter = self._account.adapter
            said = await self._asked(adapter.take_back) if isinstance(adapter, Drills) else ""
        except Exception as error:
            raise Failed(f"{describe(error)}; {self._look_for()}") from error
        if not said and self._result.outcome is Outcome.UNKNOWN:
            raise Failed(f"nothing can be taken back here; {self._look_for()}")
        if not said:
            return "it stays: nothing can be taken back here"
        return f"{said}, and gone from the service" if await self._until(there=False) else said

    async def _is_found(self) -> bool:
        """Whether there is something to take back: where the answer was lost, what the service is asked for."""
        adapter = self._account.adapter
        if self._result.outcome is not Outcome.UNKNOWN:
            return True
        if adapter.manifest.effects != "searchable" or not isinstance(adapter, Reconciles):
            return True
        found = await contained(adapter.find(self._notification, self._way.delivery), self._account.redact)
        self._result = found or self._result
        return found is not None

    def _look_for(self) -> str:
        return f"it may still be there: look for {self._notification.title!r}"

    async def _asked(self, ask: Callable[[Notification, Delivery, DeliveryResult], Awaitable[T]]) -> T:
        return await contained(ask(self._notification, self._way.delivery, self._result), self._account.redact)

    async def _until(self, *, there: bool) -> bool:
        """Wait for what the service says. False where it can't be asked; raises Failed when it goes on to say else."""
        adapter = self._account.adapter
        if not isinstance(adapter, Drills):
            return False
        until = time.monotonic() + SEEN_SECONDS
        while True:
            seen = await self._asked(adapter.seen)
            if seen is None or seen is there:
                return seen is not None
            if time.monotonic() > until:
                raise Failed(f"{'not there' if there else 'still there'} after {SEEN_SECONDS:g} s")
            await asyncio.sleep(LOOK_SECONDS)


class _ByWorker:
    """The way of any event: a worker that serves the integration takes it from the group, and sends it."""

    def __init__(self, runtime: Runtime, account: Account, asked: IntegrationDrill) -> None:
        self._bus, self._account, self._asked = runtime.bus, account, asked
        self.delivery = delivery_of(asked)
        self._act = account.act(marked(asked.to), self.delivery)
        self._event_id = self._entry = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """What its thread was kept under goes with it."""
        try:
            yield
        finally:
            with suppress(EventBusError):
                await self._bus.table(self._account.name).delete(thread_row(self._act))

    async def publish(self) -> str:
        self._asked = self._asked.model_copy(update={"until": _soon()})  # people may have thought about it till now
        event = catalog.event(f"{DRILL}.{self._account.name}", self._asked, source="/cli")
        receipt = await self._bus.publish(event)
        if receipt.status != "stored":
            raise Failed(f"{receipt.status}: Redis does not take it now; eventbus doctor")
        self._event_id, self._entry = receipt.event_id, receipt.entry_id
        return f"event {receipt.event_id}"

    async def taken(self) -> str:
        group = self._act.account
        while (where := await self._bus.whereabouts(group, self._entry)) is None or where.stand not in TAKEN:
            if datetime.now(UTC) > self._asked.until:
                backlog = await self._bus.backlog(group)
                if backlog is not None and backlog.paused_ms:
                    seconds = math.ceil(backlog.paused_ms / 1000)
                    raise Failed(
                        f"the group {group} is left alone for {seconds} s more, as the service fails or asked to wait: "
                        f"eventbus integrations doctor {self._account.name}"
                    )
                stand = "there is no such group" if where is None else f"it is {where.stand}"
                raise Failed(
                    f"no worker took it in the group {group} within {TAKEN_SECONDS:g} s ({stand}): start one, see "
                    "eventbus groups list, or try it without a worker: --here"
                )
            await asyncio.sleep(LOOK_SECONDS)
        return f"by a worker, in the group {group}"

    async def sent(self) -> DeliveryResult:
        seconds = self._account.timeout.total_seconds() + TAKEN_SECONDS
        until = time.monotonic() + seconds
        while not (lines := await self._bus.trail.read(self._event_id)):
            if time.monotonic() > until:
                raise Failed(f"the worker said nothing of it within {seconds:g} s; see its log")
            await asyncio.sleep(LOOK_SECONDS)
        line = {name: value if isinstance(value, str) else None for name, value in lines[-1].items()}
        if line.get("error"):
            raise Failed(str(line["error"]))
        row = await self._bus.table(self._account.name).get(thread_row(self._act))
        state = row.get("state") if isinstance(row, dict) else None
        return DeliveryResult(
            Outcome(str(line["outcome"])),
            line.get("reference"),
            line.get("url"),
            line.get("detail") or "",
            state={name: str(value) for name, value in state.items()} if isinstance(state, dict) else {},
        )


class _Here:
    """By this process alone: through a group of the drill's own, which is retired with it."""

    def __init__(self, runtime: Runtime, account: Account, asked: IntegrationDrill) -> None:
        self._bus, self._account, self._asked = runtime.bus, account, asked
        self._dispatcher = Dispatcher(runtime.bus, runtime.metrics)
        self._group = f"event_bus.drill-{asked.drill}"
        self.delivery = replace(delivery_of(asked), thread="")
        self._taken: asyncio.Future[Attempt] = asyncio.Future()
        self._sent: asyncio.Future[DeliveryResult] = asyncio.Future()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Its own group, served."""
        options = Options(start="now", concurrency=1)
        subscription = await self._bus.subscribe(DRILL, self._handle, group=self._group, options=options)
        serving = asyncio.create_task(self._bus.run(grace=timedelta(seconds=1)), name="drill")
        try:
            yield
        finally:
            self._bus.stop()
            await asyncio.gather(serving, return_exceptions=True)
            with suppress(EventBusError):
                await self._bus.unsubscribe(subscription)
                await self._bus.retire(self._group, EVERYTHING)

    async def _handle(self, event: Event[Any], attempt: Attempt) -> None:
        """Send it. What goes wrong is the drill's to tell: no retry, no dead letter."""
        if event.data.get("drill") != self._asked.drill or self._taken.done():
            return
        self._taken.set_result(attempt)
        act = self._account.act(marked(self._asked.to), self.delivery, event=event, attempt=attempt)
        try:
            self._sent.set_result(await self._dispatcher.deliver(act))
        except Exception as error:  # noqa: BLE001  the same
            self._sent.set_exception(error)

    async def publish(self) -> str:
        receipt = await self._bus.publish(DRILL, {"drill": self._asked.drill, "integration": self._account.name})
        return f"event {receipt.event_id}"

    async def taken(self) -> str:
        try:
            async with asyncio.timeout(TAKEN_SECONDS):
                await self._taken
        except TimeoutError:
            raise Failed(f"nothing came from the bus within {TAKEN_SECONDS:g} s; eventbus doctor") from None
        return "by this process, through a group of its own"

    async def sent(self) -> DeliveryResult:
        return await self._sent


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=TAKEN_SECONDS)


def _target(account: Account, target: str) -> str:
    """Whose gate it passes: of an integration with targets of its own, the one that is named, or the only one."""
    if not isinstance(account.adapter, Subscribes):
        return WHOLE
    names = [one.name for one in account.adapter.targets()]
    return target or names[0] if len(names) == 1 else target
