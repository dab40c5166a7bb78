"""A worker of a fault run: it subscribes through the public API and brings every event to the receiver.

    python -m tests.faults.worker SETTINGS

SETTINGS is the JSON of `Settings`. What an event's handler does stands in the event, as its plan:

    do          make the effect
    later:MS    ask for another attempt in MS milliseconds, once; then make the effect
    fail        raise, once; then make the effect
    slow        hold it for a moment, then make the effect
    refuse      never
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections import deque
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel

from eventbus import Attempt, Event, EventBus, Refused, TryLater
from eventbus.backoff import Backoff
from eventbus.gate import Breaker
from eventbus.ledger import Entry, Ledger
from eventbus.observer import Observer
from eventbus.subscription import Options
from integrations.base import Delivery, DeliveryResult, Health, Integration, Manifest, What
from registry.act import Act
from registry.dispatch import Dispatcher
from registry.metrics import Metrics
from tests.faults.checker import KEYED, PLAIN, SEARCHABLE
from tests.faults.history import History
from tests.faults.receiver import YES

SLOW_SECONDS = 0.2
CALL_TIMEOUT = timedelta(seconds=10)
NO_LIMIT = 1_000_000
"""Kills come from outside here: no event is to be blamed for them, however often it is in hand."""

NEVER = Breaker(row=NO_LIMIT, calls=NO_LIMIT)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker is started with.

    `groups`: name to (patterns, whether it keeps order, what its effects are; see `checker.Group`).
    """

    url: str
    receiver: str
    history: str
    lease: float
    sweep_every: float
    retention: float
    groups: dict[str, tuple[list[str], bool, str]]

    def text(self) -> str:
        """As it stands on the command line."""
        return json.dumps(asdict(self))


class Receiver:
    """The way to the receiver; effects under way share one connection, and are confirmed in their order."""

    def __init__(self, answers: asyncio.StreamReader, requests: asyncio.StreamWriter) -> None:
        self._answers = answers
        self._requests = requests
        self._waiting: deque[asyncio.Future[int]] = deque()

    async def ask(self, line: bytes) -> int:
        """Make an effect, or ask for one (see `receiver`): the byte that answers."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._requests.write(line + b"\n")
        return await answer

    async def listen(self) -> None:
        """Let whoever waits go on; ends with the receiver."""
        while answers := await self._answers.read(1 << 16):
            for answer in answers:
                asked = self._waiting.popleft()
                if not asked.done():
                    asked.set_result(answer)


class NoSettings(BaseModel):
    """Nothing to set."""


class Searchable(Integration[NoSettings]):
    """The receiver as a service whose effects can be looked up by their key."""

    manifest = Manifest(
        name="searchable", title="The receiver", config=NoSettings, handles=(">",), effects="searchable"
    )

    def __init__(self, receiver: Receiver, line: bytes) -> None:
        self._receiver = receiver
        self._line = line

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """One effect, named by the key."""
        await self._receiver.ask(b"!" + delivery.key.encode() + b"\t" + self._line)
        return DeliveryResult.delivered(event.id)

    async def find(self, what: What, delivery: Delivery) -> DeliveryResult | None:
        """The effect of this key."""
        found = await self._receiver.ask(b"?" + delivery.key.encode()) == ord(YES)
        return DeliveryResult.delivered(delivery.key) if found else None

    async def health(self) -> Health:
        """It is never away."""
        return Health("healthy")


class Keyed(Integration[NoSettings]):
    """The receiver as a service that takes an idempotency key with each call."""

    manifest = Manifest(name="keyed", title="The receiver", config=NoSettings, handles=(">",), effects="repeatable")

    def __init__(self, receiver: Receiver, history: History, line: bytes) -> None:
        self._receiver = receiver
        self._history = history
        self._line = line

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        """One effect, however often the key comes."""
        if await self._receiver.ask(b"=" + delivery.key.encode() + b"\t" + self._line) == ord(YES):
            self._history.note("known", event=event.id)
        return DeliveryResult.delivered(event.id)

    async def health(self) -> Health:
        """It is never away."""
        return Health("healthy")


class Witnessed(Ledger):
    """The bus' own ledger, which has it written down when it permits an action."""

    def __init__(self, ledger: Ledger, history: History) -> None:
        vars(self).update(vars(ledger))
        self._history = history

    async def intend(self, key: str, content: bytes, attempt: Attempt | None = None) -> Entry:
        """As the ledger's."""
        entry = await super().intend(key, content, attempt)
        self._permitted(attempt)
        return entry

    async def is_ours(self, attempt: Attempt) -> bool:
        """As the ledger's."""
        is_ours = await super().is_ours(attempt)
        self._permitted(attempt)
        return is_ours

    def _permitted(self, attempt: Attempt | None) -> None:
        if attempt is not None:
            self._history.note("may", group=attempt.group, sequence=attempt.sequence)


class Told(Observer):
    """Writes down what the bus refused to finish, and its alarms."""

    def __init__(self, history: History) -> None:
        self._history = history

    def fenced(self, group: str) -> None:
        """A delivery was no longer ours."""
        self._history.note("fenced", group=group)

    def gap(self, kind: str, count: int) -> None:
        """The books do not add up."""
        self._history.note("gap", kind=kind, count=count)


async def work(settings: Settings) -> None:
    """Serve until SIGTERM."""
    history = History(Path(settings.history))
    history.up()
    receiver = Receiver(*await asyncio.open_unix_connection(settings.receiver))
    listening = asyncio.create_task(receiver.listen())
    span = timedelta(seconds=settings.lease), timedelta(seconds=settings.sweep_every)
    async with EventBus.open(
        settings.url,
        lease=span[0],
        sweep_every=span[1],
        retention=timedelta(seconds=settings.retention),
        observer=Told(history),
    ) as bus:
        dispatcher = Dispatcher(bus, Metrics(), Witnessed(bus.ledger, history))
        for group, (patterns, ordered, effects) in settings.groups.items():
            handler = _handler(group, receiver, history, dispatcher, effects)
            bus.on(*patterns, group=group, options=_options(ordered))(handler)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, bus.stop)
        await bus.run(grace=timedelta(seconds=5))
    listening.cancel()


def _options(ordered: bool) -> Options:
    base = timedelta(seconds=0.05)
    return Options(
        ordered=ordered, max_attempts=NO_LIMIT, poison_limit=NO_LIMIT, backoff=Backoff(base, timedelta(seconds=0.5))
    )


def _handler(group: str, receiver: Receiver, history: History, dispatcher: Dispatcher, effects: str) -> Any:
    async def handle(event: Event[Any], attempt: Attempt) -> None:
        number = attempt.number
        history.note("begin", group=group, event=event.id, attempt=number)
        plan, _, after = event.data["plan"].partition(":")
        if plan == "refuse":
            raise Refused("as planned")
        if plan == "fail" and number == 1:
            raise RuntimeError("as planned")
        if plan == "later" and number == 1:
            seconds = int(after) / 1000
            history.note("later", group=group, event=event.id, attempt=number, after=seconds)
            raise TryLater("as planned", after=timedelta(seconds=seconds))
        if plan == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        line = [event.id, event.key or "", attempt.sequence, group, number, history.pid]
        text = json.dumps(line, separators=(",", ":")).encode()
        if effects == PLAIN:
            await receiver.ask(text)
            return
        adapter = {SEARCHABLE: Searchable(receiver, text), KEYED: Keyed(receiver, history, text)}[effects]
        await dispatcher.deliver(
            Act(
                "receiver",
                adapter,
                event,
                Delivery(f"receiver:{group}:{event.id}", group),
                CALL_TIMEOUT,
                event,
                attempt=attempt,
                breaker=NEVER,
            )
        )

    return handle


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(work(Settings(**json.loads(sys.argv[1]))))
