"""The serving side of a bus: its consumers and what they share.

One name in Redis for all of them, one doorbell, one upkeep, and one suspect at a time in the whole process.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable
from datetime import timedelta

import structlog

from eventbus.announcer import Announcer
from eventbus.audit import Gap
from eventbus.consumer import Consumer
from eventbus.observer import Observer
from eventbus.redis.connection import Connection
from eventbus.redis.history import History
from eventbus.redis.shard import Shard
from eventbus.redis.signals import Signals
from eventbus.subscription import Subscription
from eventbus.upkeep import Keep, Upkeep

LATER = "~later"  # rung when an event is scheduled; no group has such a name

_log = structlog.get_logger("eventbus")


class Serving:
    """Started and ended any number of times. `broken` is set when a fault of ours ended a consumer."""

    def __init__(
        self,
        connection: Connection,
        shard: Shard,
        history: History,
        *,
        lease: timedelta,
        sweep_every: timedelta,
        keep: Keep,
        observer: Observer,
        announcer: Announcer,
        highest: Callable[[], int],
    ) -> None:
        self._shard = shard
        self._lease = lease
        self._observer = observer
        self._announcer = announcer
        self._published_highest = highest
        self._name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._consumers: dict[str, Consumer] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._suspect_turn = asyncio.Lock()
        self._bell = Signals(connection, shard.keys.bell, self._rung, back=self._ring_all)
        self._upkeep = Upkeep(
            shard,
            history,
            self._name,
            self._subscriptions.values,
            lease=lease,
            sweep_every=sweep_every,
            keep=keep,
            announcer=announcer,
            highest=self._highest,
            found=self._gap_found,
        )
        self._fault: BaseException | None = None
        self.is_on = False
        self.broken = asyncio.Event()

    async def begin(self) -> None:
        """Listen for the bell and keep house. Consumers are added one by one."""
        self.is_on = True
        await self._bell.start()
        self._upkeep.start()

    def add(self, subscription: Subscription) -> None:
        """Take and handle what this subscription wants. Nothing happens when it is served already."""
        if subscription.id in self._consumers:
            return
        group = str(subscription.group)
        consumer = Consumer(
            self._shard,
            subscription,
            self._name,
            lease=self._lease,
            suspect_turn=self._suspect_turn,
            buried=lambda: self._announcer.dead(group),
            observer=self._observer,
            failed=self._broke,
        )
        self._consumers[subscription.id] = consumer
        self._subscriptions[subscription.id] = subscription
        consumer.start()

    async def remove(self, subscription_id: str, grace: timedelta) -> None:
        """Stop serving one subscription: finish or hand back."""
        self._subscriptions.pop(subscription_id, None)
        consumer = self._consumers.pop(subscription_id, None)
        if consumer is not None:
            await consumer.stop(grace)

    async def end(self, grace: timedelta) -> None:
        """Stop serving altogether; the beat goes on until everything is finished or handed back."""
        if not self.is_on:
            return
        self.is_on = False
        await asyncio.gather(*(self.remove(subscription_id, grace) for subscription_id in list(self._consumers)))
        await self._upkeep.stop()
        await self._bell.stop()

    @property
    def holds(self) -> int:
        """Deliveries taken and not finished."""
        return sum(consumer.holds for consumer in self._consumers.values())

    def raise_fault(self) -> None:
        """Raise what broke a consumer, once."""
        fault, self._fault = self._fault, None
        self.broken.clear()
        if fault is not None:
            raise fault

    def _broke(self, fault: BaseException) -> None:
        _log.critical("serving ends: a fault in the bus", error=f"{type(fault).__name__}: {fault}")
        self._fault = self._fault or fault
        self.broken.set()

    def _highest(self) -> int:
        """The highest sequence number this process has seen, in a receipt or in a delivery."""
        return max([self._published_highest(), *(consumer.highest for consumer in self._consumers.values())])

    def _gap_found(self, gap: Gap) -> None:
        self._observer.gap(gap.kind, gap.count)

    async def _rung(self, message: bytes) -> None:
        group = message.decode()
        if group == LATER:
            self._upkeep.something_is_later()
            return
        for consumer in self._consumers.values():
            if not group or consumer.group == group:
                consumer.ring()

    def _ring_all(self) -> None:
        for consumer in self._consumers.values():
            consumer.ring()
