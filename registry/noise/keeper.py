"""Gathers alerts into groups, and tells of a group when its time has come: the state of `group`, kept in Redis.

Every change of a group is compare-and-set on one row of the table `noise`. Its next time is an event that waits in the
log, `notification.due.<integration>`: so it is met by one worker, in order, retried, and explained like any other. What
is to be sent is written into the row before it is sent, and what was sent after: whoever dies in between, the next
attempt sends the same words under the same key. Sending is the dispatcher's; this decides no words and no times.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

from pydantic import JsonValue

from eventbus import Attempt, Event, EventBus, Refused, TryLater, catalog
from eventbus.ledger import Entry, Permission, State
from eventbus.topics.noise import DUE, NotificationDue
from integrations.base import Delivery, DeliveryResult
from registry.account import Account, Member
from registry.act import account_of
from registry.dispatch import Dispatcher
from registry.noise.digest import digest
from registry.noise.group import Group, Pending, confirmed, doubted, flush, gather
from registry.noise.mute import Mutes
from registry.noise.store import TABLE, NoiseStore
from registry.routes.decide import outside_of_windows
from registry.routes.model import Grouping, Route, Routing
from registry.unknown import delivery_key

ALIVE = timedelta(days=30)
"""How long a group is kept that nothing happens to: longer than its times can wait for a worker."""
MEMORY = timedelta(days=1)
"""How long an ended group remembers which events it has told of."""


@dataclass(slots=True)
class _Batch:
    """Alerts that are written together, since each writing is of the whole group. `done`: None when it failed."""

    members: list[Member]
    done: asyncio.Future[Group | None]


class Keeper:
    """The groups of all routes. Its methods raise TryLater, Refused, or our errors (`eventbus.errors`)."""

    def __init__(self, bus: EventBus, dispatcher: Dispatcher, routing: Routing, store: NoiseStore) -> None:
        self._bus = bus
        self._dispatcher = dispatcher
        self._routing = routing
        self._store = store
        self._table = bus.table(TABLE)
        self._batches: dict[str, _Batch] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # -- alerts come -------------------------------------------------------------------------------------------------

    async def gather(self, member: Member) -> None:
        """Put an alert into its group, once, and see to it that the group is looked at."""
        entry = await self._intended(member)
        if entry is None:
            return
        group = await self._written(member)
        said = _gathered(member, group)
        await self._bus.ledger.done(entry, {"outcome": "grouped", "detail": said[:500]})
        await self._note(member.alert.event_id, member.act.account, member.act.route, "grouped", said, member.group)

    async def _intended(self, member: Member) -> Entry | None:
        """The ledger's row, or None when the event was gathered before."""
        act = member.act
        entry = await self._bus.ledger.intend(act.delivery.key, act.content, act.attempt)
        if entry.permission is Permission.DONE:
            return None
        if entry.permission in (Permission.FENCED, Permission.BUSY):
            raise TryLater("the delivery is no longer ours", counts=False)
        if entry.permission is Permission.CONFLICT:
            raise Refused(f"{act.account}: this idempotency key was used for something else")
        return entry

    async def _written(self, member: Member) -> Group:
        while (batch := self._batches.get(member.group)) is not None:
            batch.members.append(member)
            group = await asyncio.shield(batch.done)
            if group is not None:
                return group
        return await self._lead(member)

    async def _lead(self, member: Member) -> Group:
        """Write a batch: this alert, and those that come until it is our turn."""
        name, group = member.group, None
        batch = self._batches[name] = _Batch([member], asyncio.get_running_loop().create_future())
        try:
            async with self._locks.setdefault(name, asyncio.Lock()):
                del self._batches[name]
                group = await self._write(name, batch.members)
            return group
        finally:
            if self._batches.get(name) is batch:
                del self._batches[name]
            batch.done.set_result(group)

    async def _write(self, name: str, members: Sequence[Member]) -> Group:
        act, born = members[0].act, secrets.token_hex(4)
        rules, empty = self._rules(act.route), Group(route=act.route, values=dict(members[0].values))

        def change(group: Group | None) -> Group:
            group = group or empty
            for member in members:
                group = gather(group, member.thread, member.alert, rules, born)
            return group

        group = await self._change(name, change) or empty
        late = group.due + rules.interval < datetime.now(UTC).timestamp()
        if group.born is not None and (group.tick == 1 or late):  # a crash, or a person, may have lost its time
            await self._schedule(act.integration, act.delivery.target, name, group)
        return group

    def _rules(self, route: str) -> Grouping:
        return self._routing.routes[route].group or Grouping()

    # -- its time comes ----------------------------------------------------------------------------------------------

    async def meet(self, account: Account, target: str, event: Event[NotificationDue], attempt: Attempt) -> None:
        """Look at a group whose time has come, and tell of it what there is to tell. A repeat does the rest of it."""
        due = event.data
        if (due.integration, due.target) != (account.name, target):
            return
        route = self._routing.routes.get(due.route)
        if route is None or not route.enabled or route.group is None or route.to != account.name:
            await self._change(due.group, lambda found: None)  # the settings have no such group any more
            return
        group = await self._looked_at(account, event, route, route.group)
        if group is None:
            return
        if group.born is not None:
            await self._schedule(account.name, target, due.group, group)
        for message in (group.pending, *group.parked):
            if message is not None and message.event_id == event.id:
                await self._send(account, event, attempt, route, message)

    async def _looked_at(
        self, account: Account, event: Event[NotificationDue], route: Route, rules: Grouping
    ) -> Group | None:
        """The group after this time was met, now or by an earlier attempt; None when there is none any more."""
        due = event.data
        while True:
            row, group = await self._read(due.group)
            if group is None or (group.born, group.tick) != (due.born, due.number):
                return group
            group, now = await self._settled(account, due, group), datetime.now(UTC)
            mutes = await self._store.mutes(fresh=True)
            flushed = flush(group, rules, now.timestamp(), self._muted(mutes, group, route, now))
            after = flushed.group
            if flushed.reason:
                words = digest(flushed, rules, route.notification, account.adapter.manifest.notifications)
                doubts = {
                    thread: mutes.doubt(one.names, now, one.cut) for thread, one in flushed.alerts.items() if one.cut
                }
                after = flushed.pending(words, event.id, now.timestamp(), doubts)
            if await self._table.swap(_row(due.group), row, _dumped(after), lifetime=_lifetime(after)):
                name = account_of(account.name, due.target)
                await self._tell_dropped(name, due, group, flushed.dropped)
                return after

    async def _settled(self, account: Account, due: NotificationDue, group: Group) -> Group:
        """The group after a message whose delivery ended otherwise than well, as the ledger knows how."""
        if group.pending is None:
            return group
        key = delivery_key(account.name, due.target, group.pending.event_id, due.route)
        state = await self._bus.ledger.state(key)
        if state is State.DONE:
            return confirmed(group, group.pending.event_id)
        return doubted(group) if state in (State.UNKNOWN, State.INTENT) else group.but(pending=None)

    def _muted(self, mutes: Mutes, group: Group, route: Route, now: datetime) -> dict[str, str]:
        window = outside_of_windows(route, self._routing, now)
        found = {thread: window or mutes.why(one.names, now, one.cut) for thread, one in group.alerts.items()}
        return {thread: why for thread, why in found.items() if why}

    async def _send(
        self, account: Account, event: Event[NotificationDue], attempt: Attempt, route: Route, message: Pending
    ) -> None:
        due = event.data
        key = delivery_key(account.name, due.target, event.id, due.route)
        # A message of moments stands alone: in a thread it would take the place of those told before.
        thread = f"{due.route}:{due.group}:{due.born}" if route.has_ends else ""
        delivery = Delivery(key, due.target, attempt.number, thread)
        origin = {"event": event, "route": due.route, "attempt": attempt, "dry_run": route.dry_run}
        act = account.act(message.what, delivery, **origin)
        result = await self._dispatcher.deliver(act)
        await self._tell_sent(act.account, due, message, result)
        after = await self._change(due.group, lambda found: found and confirmed(found, event.id))
        if after is not None and after.born is None:
            await self._bus.cancel(_once(due.group, due.born, due.number + 1))

    async def _schedule(self, integration: str, target: str, name: str, group: Group) -> None:
        """The next time of the group, as often as it is asked for: the key makes it one."""
        born = group.born or ""
        time = NotificationDue(
            integration=integration, target=target, route=group.route, group=name, born=born, number=group.tick
        )
        event = catalog.event(
            f"{DUE}.{integration}", time, source="/registry/noise", idempotency_key=_once(name, born, group.tick)
        )
        await self._bus.publish(event, at=datetime.fromtimestamp(group.due, UTC))

    # -- the row -----------------------------------------------------------------------------------------------------

    async def _read(self, name: str) -> tuple[JsonValue, Group | None]:
        row = await self._table.get(_row(name))
        return row, None if row is None else Group.model_validate(row)

    async def _change(self, name: str, change: Callable[[Group | None], Group | None]) -> Group | None:
        """Compare and set until nobody was faster; None deletes the row."""
        while True:
            row, group = await self._read(name)
            after = change(group)
            if after == group:
                return after
            kept, lifetime = (None, MEMORY) if after is None else (_dumped(after), _lifetime(after))
            if await self._table.swap(_row(name), row, kept, lifetime=lifetime):
                return after

    # -- what is told of it ------------------------------------------------------------------------------------------

    async def _tell_sent(self, account: str, due: NotificationDue, message: Pending, result: DeliveryResult) -> None:
        others = len(message.alerts) - 1
        said = message.reason + (f", in one message with {others:,} more" if others else "")
        for one in message.alerts.values():
            doubt = f"; {one.doubt}" if one.doubt else ""
            await self._note(one.event_id, account, due.route, "told", said + doubt, due.group, url=result.url)

    async def _tell_dropped(self, account: str, due: NotificationDue, group: Group, dropped: Mapping[str, str]) -> None:
        for thread, reason in dropped.items():
            await self._note(group.alerts[thread].event_id, account, due.route, "not told", reason, due.group)

    async def _note(
        self, event_id: str, account: str, route: str, outcome: str, detail: str, group: str, **more: JsonValue
    ) -> None:
        line: dict[str, JsonValue] = {"outcome": outcome, "detail": detail, "group": group}
        await self._bus.trail.note(event_id, account, line | more, route=route)


async def group_of(bus: EventBus, name: str) -> Group | None:
    """A group as it is now, by the name that the trail of its events gives."""
    row = await bus.table(TABLE).get(_row(name))
    return None if row is None else Group.model_validate(row)


def _gathered(member: Member, group: Group) -> str:
    """For the trail: where the alert is now."""
    where = ", ".join(f"{name}={value}" for name, value in member.values.items()) or "all of the route"
    known = group.alerts.get(member.thread)
    if known is not None and known.event_id == member.alert.event_id:
        return f"in the group {where}, which is told of next at {_moment(group.due)}"
    if known is not None:
        return f"in the group {where}: a later event of {member.thread} came before it"
    if member.alert.status == "resolved":
        return f"nothing of {member.thread} fires in the group {where}"
    return f"counted, not kept: the group {where} is full" if group.beyond else f"told before in the group {where}"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _row(name: str) -> str:
    return f"group:{name}"


def _once(name: str, born: str, tick: int) -> str:
    return f"group:{name}:{born}:{tick}"


def _dumped(group: Group) -> JsonValue:
    dumped: JsonValue = group.model_dump(mode="json")
    return dumped


def _lifetime(group: Group) -> timedelta:
    if group.born is None:
        return ALIVE if group.parked else MEMORY
    return ALIVE + max(timedelta(), timedelta(seconds=group.due - datetime.now(UTC).timestamp()))
