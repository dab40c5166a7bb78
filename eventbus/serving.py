"""The serving side of a bus: its consumers and what they share.

One name in Redis for all of them, one doorbell, one upkeep, and one suspect at a time in the whole process.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import socket
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog

from eventbus.announcer import Announcer
from eventbus.audit import Gap
from eventbus.auditor import Auditor
from eventbus.consumer import Consumer
from eventbus.observer import Observer
from eventbus.pattern import matches_any
from eventbus.redis.connection import Connection
from eventbus.redis.history import History
from eventbus.redis.shard import Letter, Shard
from eventbus.redis.signals import Signals
from eventbus.subscription import Subscription
from eventbus.upkeep import Keep, Upkeep

# What the bell says beside the names of groups, which never begin like this.
LATER = "~later"  # an event was scheduled
PAUSE = "~pause "  # a group is paused: its name, milliseconds

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
        auditor: Auditor,
    ) -> None:
        self._shard = shard
        self._lease = lease
        self._observer = observer
        self._announcer = announcer
        self._witness = auditor.witness
        self._name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._number = itertools.count(1)
        self._leaving: set[Consumer] = set()
        self._ending: asyncio.Task[None] | None = None
        self._consumers: dict[str, Consumer] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._suspect_turn = asyncio.Lock()
        self._bell = Signals(connection, shard.keys.bell, self._rung, back=self._line_back, lost=self._line_lost)
        shard.on_publish(self._published)
        self._upkeep = Upkeep(
            shard,
            history,
            self._names,
            self._subscriptions.values,
            lease=lease,
            sweep_every=sweep_every,
            keep=keep,
            announcer=announcer,
            auditor=auditor,
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
            f"{self._name}:{next(self._number)}",
            lease=self._lease,
            suspect_turn=self._suspect_turn,
            buried=lambda: self._announcer.dead(group),
            failing=lambda taken, error, again: self._announcer.failing(group, taken, error, again),
            witness=self._witness,
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
        if consumer is None:
            return
        self._leaving.add(consumer)
        try:
            await consumer.stop(grace)
        finally:
            self._leaving.discard(consumer)

    async def end(self, grace: timedelta) -> None:
        """Stop serving altogether; the beat goes on until everything is finished or handed back.

        Whoever is cancelled here leaves it going on; asking again waits for the same end.
        """
        if self._ending is None:
            if not self.is_on:
                return
            self._ending = asyncio.create_task(self._end(grace), name="end of serving")
        await asyncio.shield(self._ending)

    async def _end(self, grace: timedelta) -> None:
        try:
            await asyncio.gather(*(self.remove(subscription_id, grace) for subscription_id in list(self._consumers)))
            await self._upkeep.stop()
            await self._bell.stop()
        finally:
            self.is_on = False
            self._ending = None

    def _names(self) -> list[str]:
        """Whose beat it is: also of those that are about to leave."""
        return [consumer.name for consumer in (*self._consumers.values(), *self._leaving)]

    def runs(self, subscription_id: str, task: asyncio.Task[Any] | None) -> bool:
        """Whether this task is calling a handler of the subscription."""
        consumer = self._consumers.get(subscription_id)
        return consumer is not None and consumer.runs(task)

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

    def _gap_found(self, gap: Gap) -> None:
        self._observer.gap(gap.kind, gap.count)

    def _rung(self, message: bytes) -> None:
        group = message.decode()
        if group == LATER:
            self._upkeep.something_is_later()
            return
        if group.startswith(PAUSE):
            _, paused, ms = group.split()
            for consumer in self._consumers.values():
                if consumer.group == paused:
                    consumer.pause(int(ms) / 1000)
            return
        for consumer in self._consumers.values():
            if not group or consumer.group == group:
                consumer.ring()

    def _published(self, letters: Sequence[Letter]) -> None:
        """Ring who wants an event that this process has just sent: a take sent behind it saves the bell's way back.

        A hint, for one event at a time, where that way counts; the bell rings all the same.
        """
        if len(letters) == 1:
            for subscription_id, consumer in self._consumers.items():
                if matches_any(self._subscriptions[subscription_id].patterns, letters[0].topic):
                    consumer.ring()

    def _line_lost(self) -> None:
        self._witness.mark()

    def _line_back(self) -> None:
        self._witness.alarm.set()  # the Redis that is back may have lost its newest events
        self._ring_all()

    def _ring_all(self) -> None:
        for consumer in self._consumers.values():
            consumer.ring()
