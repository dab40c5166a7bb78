"""A drill: one marked notification the whole way, from the bus to the service and back out of it, step by step.

It takes the way of any event: published, taken from a durable group, through gate and ledger to the adapter. The group
is the drill's own and is retired with it, so that no other event is touched, no worker is needed, and nothing is left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from eventbus import Attempt, Event, EventBusError, Options
from eventbus.event import new_id
from eventbus.ledger import State
from integrations.base import (
    Delivery,
    DeliveryResult,
    Drills,
    Integration,
    Notification,
    Outcome,
    Preview,
    Severity,
    Subscribes,
)
from integrations.errors import Rejected
from registry.account import Account
from registry.act import contained
from registry.dispatch import Dispatcher
from registry.judgement import describe
from service.wiring import Runtime

TOPIC = "integration.drill"
TAKEN_SECONDS = 15.0
SEEN_SECONDS = 30.0
"""What was accepted may take its time to show: PagerDuty answers before it has done anything."""
LOOK_SECONDS = 0.5
EVERYTHING = 10**9
"""More than any backlog: what the drill's own group has not read is nobody's."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a drill, and how long it took."""

    name: str
    is_done: bool
    said: str
    ms: float


class Failed(Exception):
    """A step did not come to its end."""


class Drill:
    """One drill of one account. Its steps can be walked once."""

    def __init__(self, runtime: Runtime, account: Account, target: str) -> None:
        self._bus, self._account = runtime.bus, account
        self._dispatcher = Dispatcher(runtime.bus, runtime.metrics)
        self._id = new_id()
        self._group = f"event_bus.drill-{self._id}"
        self._notification = notification(target)
        self._key = f"drill:{account.name}:{self._id}"
        self._delivery = Delivery(self._key, _target(account, target))
        self._taken: asyncio.Future[Attempt] = asyncio.Future()
        self._sent: asyncio.Future[DeliveryResult] = asyncio.Future()

    def preview(self) -> list[Preview]:
        """The requests that it will make. Raises IntegrationError for what can't be sent."""
        adapter = self._account.adapter
        if not adapter.manifest.notifications:
            raise Rejected(f"{self._account.name} sends no notifications: there is nothing to drill")
        if type(adapter).preview is Integration.preview:
            return []
        return list(adapter.preview(self._notification, self._delivery))

    async def steps(self) -> AsyncIterator[Step]:
        """Walk it. The last step is the one that failed, if one did; then too what was made is taken back."""
        walk: list[tuple[str, Callable[[], Awaitable[str]]]] = [
            ("accepted", self._publish),
            ("taken", self._await_taken),
            ("sent", self._await_sent),
            ("noted", self._look_into_ledger),
            ("seen", self._await_seen),
            ("taken back", self._take_back),
        ]
        async with self._serving():
            for name, work in walk:
                began = time.perf_counter()
                try:
                    said, is_done = await work(), True
                except Failed as error:
                    said, is_done = str(error), False
                except Exception as error:  # noqa: BLE001  an adapter may raise anything
                    said, is_done = describe(error), False
                yield Step(name, is_done, said, round((time.perf_counter() - began) * 1000, 1))
                if not is_done and name not in ("noted", "seen"):  # what is there, or may be, is taken back
                    return

    # -- on the bus --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        options = Options(start="now", concurrency=1)
        subscription = await self._bus.subscribe(TOPIC, self._handle, group=self._group, options=options)
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
        if event.data.get("drill") != self._id or self._taken.done():
            return
        self._taken.set_result(attempt)
        act = self._account.act(self._notification, self._delivery, event=event, attempt=attempt)
        try:
            self._sent.set_result(await self._dispatcher.deliver(act))
        except Exception as error:  # noqa: BLE001  the same
            self._sent.set_exception(error)

    async def _publish(self) -> str:
        receipt = await self._bus.publish(TOPIC, {"drill": self._id, "integration": self._account.name})
        return f"event {receipt.event_id}"

    async def _await_taken(self) -> str:
        try:
            async with asyncio.timeout(TAKEN_SECONDS):
                await self._taken
        except TimeoutError:
            raise Failed(f"nothing came from the bus within {TAKEN_SECONDS:g} s; eventbus doctor") from None
        return "by this process, through a group of its own"

    # -- at the service ----------------------------------------------------------------------------------------------

    async def _await_sent(self) -> str:
        result = await self._sent
        if result.outcome not in (Outcome.DELIVERED, Outcome.DUPLICATE):
            raise Failed(f"{result.outcome.value}: {result.detail}")
        return "  ".join(filter(None, [result.detail, result.reference, result.url]))

    async def _look_into_ledger(self) -> str:
        state = await self._bus.ledger.state(self._key)
        if state is not State.DONE:
            raise Failed(f"the ledger has it as {state.value if state else 'nothing'}, not as done")
        return "the ledger has it as done: it would not be sent again"

    async def _await_seen(self) -> str:
        if not await self._until(there=True):
            return "not looked for: this service can't be asked"
        return "the service has it"

    async def _take_back(self) -> str:
        if not isinstance(self._account.adapter, Drills):
            return "it stays: nothing can be taken back here"
        said = await contained(
            self._account.adapter.take_back(self._notification, self._delivery, self._sent.result()),
            self._account.redact,
        )
        if not said:
            return "it stays: nothing can be taken back here"
        return f"{said}, and gone from the service" if await self._until(there=False) else said

    async def _until(self, *, there: bool) -> bool:
        """Wait for what the service says. False where it can't be asked; raises Failed when it goes on to say else."""
        adapter = self._account.adapter
        if not isinstance(adapter, Drills):
            return False
        until = time.monotonic() + SEEN_SECONDS
        while True:
            seen = await contained(
                adapter.seen(self._notification, self._delivery, self._sent.result()), self._account.redact
            )
            if seen is None or seen is there:
                return seen is not None
            if time.monotonic() > until:
                raise Failed(f"{'not there' if there else 'still there'} after {SEEN_SECONDS:g} s")
            await asyncio.sleep(LOOK_SECONDS)


def notification(target: str) -> Notification:
    """What is sent: marked, and loud enough to open an incident where that is what the service does."""
    said = "Somebody tries out whether messages arrive here. Nothing is wrong, and nothing has to be done."
    return Notification(title="[drill] eventbus", message=said, target=target, severity=Severity.WARNING)


def _target(account: Account, target: str) -> str:
    """Whose gate it passes: of an integration with targets of its own, the one that is named, or the only one."""
    if not isinstance(account.adapter, Subscribes):
        return "default"
    names = [one.name for one in account.adapter.targets()]
    return target or names[0] if len(names) == 1 else target
