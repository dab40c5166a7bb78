"""Who is connected: the configured accounts, their life, and their subscriptions.

Each target of each account is a durable subscription of its own, so one that is slow or down never delays another.
An account that can't be initialised keeps its place: its events wait, it is tried again, the others work.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic import JsonValue

from eventbus import (
    Attempt,
    Event,
    EventBus,
    EventBusError,
    Options,
    Refused,
    TryLater,
    Unavailable,
)
from eventbus.backoff import RECONNECT
from eventbus.ledger import State
from eventbus.pattern import check_pattern, check_topic
from eventbus.subscription import Handler
from eventbus.topics.integration import IntegrationDrill
from eventbus.topics.noise import NotificationDue
from integrations.base import (
    Artifact,
    Context,
    Delivery,
    DeliveryResult,
    Exposes,
    Health,
    InboundReply,
    Listens,
    Notification,
    Target,
)
from integrations.errors import IntegrationError, NotReady, Rejected
from integrations.http import Http
from registry.account import Account, Held, Member, plan
from registry.act import Act, contained
from registry.dispatch import Dispatcher, thread_row
from registry.drill import delivery_of, marked
from registry.judgement import describe, for_the_bus
from registry.metrics import Metrics
from registry.noise.keeper import Keeper
from registry.noise.sources import INHIBITIONS, keep_tending
from registry.noise.store import NoiseStore
from registry.routes.model import Routing
from registry.scrapes import Scrapes
from registry.unknown import Doubts

HEALTH_SECONDS = 5.0
START_SECONDS = 5.0
"""What `initialize` gets at the start, while the other integrations wait for it."""
INITIALIZE_SECONDS = 30.0
"""What it gets when it is tried again; then nobody waits."""
RETRY_SECONDS = 15.0

_log = structlog.get_logger("registry")


class UnknownIntegration(KeyError):
    """No account of this name."""

    def __str__(self) -> str:
        return str(self.args[0])


class Registry:
    """The accounts of this process. `serve=True` also subscribes them to the bus: that is a worker."""

    def __init__(self, bus: EventBus, metrics: Metrics, *, serve: bool, routing: Routing | None = None) -> None:
        self._bus = bus
        self._routing = routing or Routing()
        self._serve = serve
        self._dispatcher = Dispatcher(bus, metrics)
        self._noise = NoiseStore(bus, self._routing)
        self._groups = Keeper(bus, self._dispatcher, self._routing, self._noise)
        self._accounts: dict[str, Account] = {}
        self._scrapes: dict[str, Scrapes] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- accounts --------------------------------------------------------------------------------------------------

    def register(self, account: Account) -> None:
        """Add an account; ValueError when its name is taken."""
        if account.name in self._accounts:
            raise ValueError(f"integration {account.name} is registered already")
        self._accounts[account.name] = account

    def get(self, name: str) -> Account:
        """The account; UnknownIntegration naming the known ones."""
        try:
            return self._accounts[name]
        except KeyError:
            known = ", ".join(sorted(self._accounts)) or "none"
            raise UnknownIntegration(f"no integration {name!r} is configured; configured: {known}") from None

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Initialise every account, together, and subscribe them. A failing one is told, kept and tried again.

        A Redis that is away is waited for.
        """
        await asyncio.gather(*(self._initialize(account, START_SECONDS) for account in self))
        if self._serve:
            await self._observe()
        for account in self:
            await self._start(account)

    async def stop(self) -> None:
        """Close every account."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._close(account) for account in self))

    async def _observe(self) -> None:
        """See what inhibits; the events that do are a subscription of our own."""
        with contextlib.suppress(Unavailable):
            await self._noise.forget_old()
            await self._noise.announce()
        each = self._routing.inhibitions.values()
        topics = tuple(dict.fromkeys(pattern for one in each for pattern in one.topics))
        tending = keep_tending(self._bus, self._noise, are_here=bool(topics))
        self._tasks.add(asyncio.create_task(tending, name="inhibitions"))
        if topics:
            await self._serve_group(INHIBITIONS, topics, self._noise.observe, Options(start="now"))

    async def _start(self, account: Account) -> None:
        if account.fault is None:
            await self._subscribe(account)
            return
        _log.error("not ready; its events wait", integration=account.name, fault=account.fault)
        if self._serve:
            for group, target in account.targets(self._routing):
                await self._declare(account, group, target)
        self._tasks.add(asyncio.create_task(self._keep_trying(account), name=f"initialize {account.name}"))

    async def _initialize(self, account: Account, seconds: float) -> None:
        context = Context(
            name=account.name,
            config=account.config,
            http=Http(timeout=account.timeout),
            store=self._bus.table(account.name),
            log=structlog.get_logger(f"integrations.{account.name}").bind(integration=account.name),
            components=self.health,
            doubts=Doubts(self._bus, self._routing.routes),
        )
        try:
            async with asyncio.timeout(seconds):
                await contained(account.adapter.initialize(context), account.redact)
            account.fault = None
            for group, target in account.targets(self._routing):
                check_topic(group)
                for pattern in target.topics:
                    check_pattern(pattern)
        except TimeoutError:
            account.fault = f"initialize did not end within {seconds:g} s"
            await context.http.close()
        except Exception as error:  # noqa: BLE001  an adapter may raise anything; it must not stop the others
            account.fault = describe(error)
            await context.http.close()

    async def _keep_trying(self, account: Account) -> None:
        while account.fault is not None:
            await asyncio.sleep(RETRY_SECONDS * random.uniform(0.75, 1.25))  # noqa: S311  jitter
            await self._initialize(account, INITIALIZE_SECONDS)
        _log.info("ready", integration=account.name)
        await self._subscribe(account)

    async def _subscribe(self, account: Account) -> None:
        if not self._serve:
            return
        if isinstance(account.adapter, Listens) and account.adapter.listens:
            listening = self._keep_listening(account, account.adapter)
            self._tasks.add(asyncio.create_task(listening, name=f"listen {account.name}"))
        for group, target in account.targets(self._routing):
            await self._subscribe_target(account, group, target)

    async def _keep_listening(self, account: Account, adapter: Listens) -> None:
        """Connection after connection, for as long as we serve."""

        async def accept(reply: InboundReply) -> None:
            await self._bus.publish_many(reply.events, remember=reply.remember, first_wins=reply.first_wins)

        lost = 0
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await contained(adapter.listen(accept), account.redact)
                lost = 0
            except Exception as error:  # noqa: BLE001  an adapter may raise anything; it must not stop the others
                lost = 1 if asyncio.get_running_loop().time() - began > RETRY_SECONDS else lost + 1
                _log.warning("not listening", integration=account.name, fault=describe(error))
                await asyncio.sleep(RECONNECT.delay(lost).total_seconds())

    async def _subscribe_target(self, account: Account, group: str, target: Target) -> None:
        async def handle(event: Event[Any], attempt: Attempt) -> None:
            await self._deliver(account, target.name, event, attempt)

        await self._serve_group(group, target.topics, handle, account.options)

    async def _serve_group(self, group: str, topics: tuple[str, ...], handle: Handler, options: Options) -> None:
        while True:
            await self._bus.declare(group, topics, start=options.start)  # waits for Redis
            with contextlib.suppress(Unavailable):  # it went away in between
                await self._bus.subscribe(topics, handle, group=group, options=options)
                return

    async def _declare(self, account: Account, group: str, target: Target) -> None:
        await self._bus.declare(group, target.topics, start=account.options.start)

    async def _close(self, account: Account) -> None:
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                await contained(account.adapter.close(), account.redact)
        except Exception as error:  # noqa: BLE001  the same
            _log.warning("did not close cleanly", integration=account.name, fault=describe(error))
        context = getattr(account.adapter, "context", None)
        if context is not None:
            await context.http.close()

    # -- what it is for --------------------------------------------------------------------------------------------

    async def _deliver(self, account: Account, target: str, event: Event[Any], attempt: Attempt) -> None:
        """Each act is tried, and done once; the delivery is over when none is left to try again."""
        if isinstance(event.data, NotificationDue):
            with _judged():
                await self._groups.meet(account, target, event, attempt)
            return
        if isinstance(event.data, IntegrationDrill):
            await self._drill(account, target, event, attempt)
            return
        with _judged():
            mutes = await self._noise.mutes() if self._routing.routes else None
        planned = plan(account, target, event, attempt, self._routing, datetime.now(UTC), mutes)
        failed: list[TryLater | Refused] = []
        for one in planned:
            if isinstance(one, Rejected):
                failed.append(Refused(one.detail))
                continue
            try:
                with _judged():
                    await self._do(one)
            except (TryLater, Refused) as error:
                failed.append(error)
        if failed:
            raise min(failed, key=lambda error: isinstance(error, Refused))  # what can be tried again goes first

    async def _drill(self, account: Account, target: str, event: Event[IntegrationDrill], attempt: Attempt) -> None:
        """Send what a drill asks for. What goes wrong is told in the trail, where whoever asked reads it: no retry."""
        drill = event.data
        if (drill.integration, drill.target) != (account.name, target):
            return
        act = account.act(marked(drill.to), delivery_of(drill), event=event, attempt=attempt)
        if drill.until < datetime.now(UTC):
            line: dict[str, JsonValue] = {"outcome": "rejected", "error": "too late, by the clock of this worker"}
            await self._bus.trail.note(event.id, act.account, line)
            return
        with contextlib.suppress(TryLater, Refused):
            await self._dispatcher.deliver(act)

    async def _do(self, planned: Act | Held | Member) -> None:
        if isinstance(planned, Member):
            await self._groups.gather(planned)
        elif isinstance(planned, Act) or await self._goes_on(planned):
            await self._dispatcher.deliver(planned if isinstance(planned, Act) else planned.act)
        else:
            act, line = planned.act, {"outcome": "muted", "detail": planned.reason}
            await self._bus.trail.note(planned.event.id, act.account, line, route=act.route)

    async def _goes_on(self, held: Held) -> bool:
        """Whether it may have left before, or ends what was begun: that is done, whoever keeps quiet."""
        if await self._bus.ledger.state(held.act.delivery.key) in (State.INTENT, State.UNKNOWN):
            return True  # a crash cut it off: what it made has to be known, or its end would not find it
        if not held.resolves or not held.act.delivery.thread:
            return False
        return await self._bus.table(held.act.integration).get(thread_row(held.act)) is not None

    async def send_notification(self, name: str, notification: Notification, key: str) -> DeliveryResult:
        """Tell people through an integration, once per key. Raises what `Dispatcher.once` raises."""
        account = self._ready(name)
        return await self._ask(account, "send_notification", key, notification)

    async def create_artifact(self, name: str, artifact: Artifact, key: str) -> DeliveryResult:
        """Make a thing at an integration's service, once per key. Raises what `Dispatcher.once` raises."""
        account = self._ready(name)
        return await self._ask(account, "create_artifact", key, artifact)

    async def exposition(self, name: str) -> bytes:
        """What an integration has counted, in the Prometheus text format, a few seconds old at most.

        Raises UnknownIntegration, NotReady.
        """
        account = self._ready(name)
        if not isinstance(account.adapter, Exposes):
            raise UnknownIntegration(f"{name} counts nothing for others to scrape")
        if name not in self._scrapes:
            self._scrapes[name] = Scrapes(account.adapter, account.redact)
        return await self._scrapes[name].text()

    async def _ask(self, account: Account, method: str, key: str, what: Notification | Artifact) -> DeliveryResult:
        return await self._dispatcher.once(account.act(what, Delivery(f"asked:{account.name}:{method}:{key}")))

    def _ready(self, name: str) -> Account:
        account = self.get(name)
        if account.fault is not None:
            raise NotReady(f"{name} is not ready: {account.fault}")
        return account

    async def health(self) -> Mapping[str, Health]:
        """How every component is, asked now and all together: each integration, and the bus itself."""
        names = list(self._accounts)
        found = await asyncio.gather(self._bus_health(), *(self._health(self._accounts[name]) for name in names))
        return {"event_bus": found[0], **dict(zip(names, found[1:], strict=True))}

    async def _bus_health(self) -> Health:
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                latency = await self._bus.check_server()
        except TimeoutError:
            return Health("unhealthy", f"{self._bus.address} did not answer within {HEALTH_SECONDS:g} s")
        except EventBusError as error:
            return Health("unhealthy", str(error))
        return Health("healthy", self._bus.address, round(latency, 1))

    async def _health(self, account: Account) -> Health:
        if account.fault is not None:
            return Health("unhealthy", account.fault)
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                found = await contained(account.adapter.health(), account.redact)
                return replace(found, detail=account.redact(found.detail))
        except TimeoutError:
            return Health("unhealthy", f"no answer within {HEALTH_SECONDS:g} s")
        except IntegrationError as error:
            return Health("unhealthy", describe(error))
        except Exception as error:  # noqa: BLE001  the same
            return Health("unhealthy", describe(error))


@contextlib.contextmanager
def _judged() -> Iterator[None]:
    """A Redis that is away uses up no attempt of a delivery."""
    try:
        yield
    except EventBusError as error:
        raise for_the_bus(error) from error
