"""A group of alerts: what it holds, when it is told of, and what it remembers of that. Pure: the time is handed in.

An alert is a thread of a route: firing from the event that began it until one that resolves it, or until it has lasted
long enough. On a route without either an alert is momentary: told of once, then forgotten. The rules are those of
Alertmanager (prometheus/alertmanager, notify/notify.go `DedupStage.needsUpdate` and dispatch/dispatch.go); where they
differ, a comment says so. `keeper` writes each state into Redis before it acts on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from integrations.base import Notification
from registry.routes.model import Grouping

MAX_ALERTS = 1_000
MAX_BYTES = 1024 * 1024
"""Of all alerts of a group; beyond either bound alerts are counted, not kept: a group is written anew with each."""
MAX_NAMES = 8 * 1024
MAX_CUT = 20
"""Paths of cut data that are told apart; of more, all of data counts as cut."""
MAX_DOUBT = 300
LONG = ("data", "event")
"""Of the names, those without a bound of their own."""
ALL_LONG = (("data",), ("event",))
MAX_PARKED = 100
MAX_SEEN = 1_000
"""Threads whose last event is remembered after they are forgotten, so that a late repeat of it says nothing new."""

Paths = tuple[tuple[str, ...], ...]
Status = Literal["firing", "resolved", "momentary"]
Reason = Literal[
    "first notification",
    "new alerts in group",
    "all alerts resolved",
    "new resolved alerts",
    "repeat interval elapsed",
    "",
]
"""Why a group is told of; empty: it is not."""


class _State(BaseModel):
    model_config = ConfigDict(frozen=True)


class Alert(_State):
    """One alert, as its latest event in the order of the log says.

    since, at  seconds since 1970 of its first and its latest event here
    by_time    resolved since its time was over, not by an event
    what       how the route tells of the latest event
    names      what conditions of silences and inhibitions may ask about
    cut        paths of what the names do not hold whole; nothing is muted because of it
    """

    status: Status
    event_id: str
    sequence: int
    since: float
    at: float
    by_time: bool = False
    what: Notification
    names: dict[str, JsonValue] = Field(default_factory=dict)
    cut: Paths = ()
    size: int = 0


class Told(_State):
    """The last message of a group: which alerts it said fire and are resolved, and when that was decided."""

    firing: frozenset[str]
    resolved: frozenset[str]
    at: float


class Covered(_State):
    """An alert as a message tells of it. `doubt`: what might have muted it, had it been known what was cut."""

    sequence: int
    event_id: str
    status: Status
    doubt: str = ""


class Pending(_State):
    """A message that is being sent: the same words under the same key until it is known how that ended.

    event_id  of the time that decided it, which is the only one that sends it
    alerts    what it tells of
    at        when that was
    """

    event_id: str
    reason: Reason
    what: Notification
    alerts: dict[str, Covered]
    at: float

    def threads(self, status: Status) -> frozenset[str]:
        """The alerts it tells of with this status."""
        return frozenset(thread for thread, one in self.alerts.items() if one.status == status)


class Group(_State):
    """All that is known of a group.

    values  what its alerts have in common, by the label of each expression
    born    names this life of the group; None: it ended, and only `seen` and `parked` are left of it
    tick    number of the next time it is looked at, and `due` when that is
    told    the last message
    open    alerts whose fire was told and whose end was not
    beyond  alerts that found no room
    parked  a message of which nobody knows whether it was sent, until a person says so
    seen    sequence of the last event of alerts that were forgotten
    """

    route: str
    values: dict[str, str]
    born: str | None = None
    tick: int = 1
    due: float = 0
    alerts: dict[str, Alert] = Field(default_factory=dict)
    told: Told | None = None
    open: frozenset[str] = frozenset()
    beyond: int = 0
    pending: Pending | None = None
    parked: tuple[Pending, ...] = ()
    seen: dict[str, int] = Field(default_factory=dict)

    def but(self, **changes: object) -> Self:
        """The group with these changes. Values are ours, so they are not checked again."""
        return self.model_copy(update=changes)

    @property
    def label(self) -> str:
        """Its values, for people: `environment=prod`."""
        return ", ".join(f"{name}={value}" for name, value in self.values.items())


def digest_of(*parts: str) -> str:
    """Names a group by what makes it one."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()


# -- an event comes ---------------------------------------------------------------------------------------------------


def gather(group: Group, thread: str, alert: Alert, rules: Grouping, born: str) -> Group:
    """The group with an alert in it, as its latest event says; `born` names its life if that begins now.

    An event that is no later in the log than what is known of its thread changes nothing: so a repeat counts once, and
    a fire that comes late does not outlive its end.
    """
    before = group.alerts.get(thread)
    if alert.sequence <= (before.sequence if before else group.seen.get(thread, 0)):
        return group
    if before is None and alert.status == "resolved":
        return group.but(seen=_remembered(group.seen, {thread: alert.sequence}))
    if group.born is None:
        group = Group(route=group.route, values=group.values, parked=group.parked, seen=group.seen)
        group = group.but(born=born, due=alert.at + rules.wait)
    alert = alert.model_copy(update={"size": len(alert.model_dump_json())})
    if before is None and not _has_room(group, alert):
        return group.but(beyond=group.beyond + 1)
    if before is not None and sum(one.size for one in group.alerts.values()) - before.size + alert.size > MAX_BYTES:
        names = before.names | {name: of for name, of in alert.names.items() if name not in LONG}
        kept = {"what": before.what, "names": names, "cut": ALL_LONG, "size": before.size}
        alert = alert.model_copy(update=kept)
    since = before.since if before and before.status != "resolved" else alert.at
    return group.but(alerts={**group.alerts, thread: alert.model_copy(update={"since": since})})


def _has_room(group: Group, alert: Alert) -> bool:
    if not group.alerts:
        return True
    taken = sum(one.size for one in group.alerts.values())
    return len(group.alerts) < MAX_ALERTS and taken + alert.size <= MAX_BYTES


def _remembered(seen: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    kept = {**{thread: last for thread, last in seen.items() if thread not in more}, **more}
    return dict(list(kept.items())[-MAX_SEEN:])


# -- its time comes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flush:
    """What a group comes to at one of its times.

    group     as it goes on, with nothing pending
    reason    why it is told of; empty: it is not
    alerts    what is told of, each as its status is now
    dropped   alerts that are forgotten untold, each with the reason
    """

    group: Group
    reason: Reason
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)

    def pending(self, what: Notification, event_id: str, now: float, doubts: Mapping[str, str] | None = None) -> Group:
        """The group with this message on its way. `event_id`: of the time that is met; `doubts`: of its threads."""
        said = doubts or {}
        alerts = {
            thread: Covered(
                sequence=one.sequence, event_id=one.event_id, status=one.status, doubt=said.get(thread, "")[:MAX_DOUBT]
            )
            for thread, one in self.alerts.items()
        }
        made = Pending(event_id=event_id, reason=self.reason, what=what, alerts=alerts, at=now)
        return self.group.but(pending=made)


def flush(group: Group, rules: Grouping, now: float, muted: Mapping[str, str] | None = None) -> Flush:
    """Decide what is told at this time. `muted`: threads that are kept quiet now, with the reason.

    Muting counts here and not when an event comes: a silence made late still works, and what fires when one ends is
    told. What was told to fire is told to be resolved even so; Alertmanager would leave it open for ever.
    """
    quiet = muted or {}
    alerts = {thread: _aged(alert, rules.lasts, now) for thread, alert in group.alerts.items()}
    firing = {thread for thread, one in alerts.items() if one.status != "resolved" and thread not in quiet}
    resolved = {thread for thread, one in alerts.items() if one.status == "resolved" and thread in group.open}
    reason = _reason(group.told, firing, resolved, now, rules)
    dropped = dict(_untold(alerts, firing | resolved, quiet))
    if not rules.send_resolved:
        dropped |= dict.fromkeys(resolved, "its end is not told here")
    after = _forget(group.but(alerts=alerts, open=group.open.difference(dropped), pending=None), dropped)
    after = after.but(tick=group.tick + 1, due=now + rules.interval)
    told = {thread: one for thread, one in after.alerts.items() if thread in firing | resolved}
    if reason and told:
        return Flush(after, reason, told, dropped)
    if reason:  # Alertmanager's row 3 without send_resolved: nothing leaves, but the log is cleared
        after = after.but(told=Told(firing=frozenset(), resolved=frozenset(), at=now))
    return Flush(_ended(after), "", dropped=dropped)


def _aged(alert: Alert, lasts: float | None, now: float) -> Alert:
    is_over = alert.status == "firing" and lasts is not None and alert.at + lasts <= now
    return alert.model_copy(update={"status": "resolved", "by_time": True}) if is_over else alert


def _reason(told: Told | None, firing: set[str], resolved: set[str], now: float, rules: Grouping) -> Reason:
    """The table of Alertmanager's DedupStage, row by row."""
    if not firing and not resolved:
        return ""  # all are muted: Alertmanager's pipeline ends before the table
    if told is None:
        return "first notification"  # what is only resolved was not told either, so it is none of `resolved`
    if not firing <= told.firing:
        return "new alerts in group" if told.firing else "first notification"
    if not firing:
        # Alertmanager asks whether its log holds what fired. What it had muted meanwhile is not in there any more, and
        # its end would be lost; here `resolved` is what was told to fire, whatever was told since.
        return "all alerts resolved"
    if rules.send_resolved and not resolved <= told.resolved:
        return "new resolved alerts"
    return "repeat interval elapsed" if now - told.at >= rules.repeat else ""


def _untold(alerts: Mapping[str, Alert], told: Collection[str], quiet: Mapping[str, str]) -> list[tuple[str, str]]:
    """What leaves the group without a word: ends of what was never told, and muted alerts that do not go on."""
    ends = [
        (t, "resolved before it was told") for t, one in alerts.items() if one.status == "resolved" and t not in told
    ]
    return ends + [(t, quiet[t]) for t, one in alerts.items() if one.status == "momentary" and t in quiet]


# -- it was told ------------------------------------------------------------------------------------------------------


def sent(group: Group) -> Group:
    """The group once its pending message was sent. What changed meanwhile stays to be told of."""
    pending = group.pending
    if pending is None:
        return group
    firing, resolved = pending.threads("firing"), pending.threads("resolved")
    told = Told(firing=firing, resolved=resolved, at=pending.at)
    after = group.but(pending=None, beyond=0, told=told, open=(group.open | firing) - resolved)
    over = {
        thread: one.sequence
        for thread, one in pending.alerts.items()
        if one.status != "firing" and thread in group.alerts and group.alerts[thread].sequence == one.sequence
    }
    after = _forget(after, over)
    # A digest of moments keeps its distance to the next one; Alertmanager, which has no moments, ends any empty group.
    return after if pending.threads("momentary") else _ended(after)


def confirmed(group: Group, event_id: str) -> Group:
    """The group once the message of this time, pending or parked, was sent."""
    if group.pending is not None and group.pending.event_id == event_id:
        return sent(group)
    kept = tuple(one for one in group.parked if one.event_id != event_id)
    return group if kept == group.parked else group.but(parked=kept)


def doubted(group: Group) -> Group:
    """The group when nobody can say whether its pending message was sent: it counts as told, so that it is not told
    twice, and is kept for the person who finds out."""
    return sent(group).but(parked=(*group.parked, *filter(None, [group.pending]))[-MAX_PARKED:])


def _forget(group: Group, threads: Collection[str]) -> Group:
    gone = {thread: group.alerts[thread].sequence for thread in threads if thread in group.alerts}
    kept = {thread: one for thread, one in group.alerts.items() if thread not in gone}
    return group.but(alerts=kept, seen=_remembered(group.seen, gone)) if gone else group


def _ended(group: Group) -> Group:
    """A group that holds nothing any more ends: the next alert of it waits as a first one does."""
    if group.alerts:
        return group
    return Group(route=group.route, values=group.values, parked=group.parked, seen=group.seen)


# -- names ------------------------------------------------------------------------------------------------------------


def kept_names(names: Mapping[str, JsonValue]) -> tuple[dict[str, JsonValue], Paths]:
    """What can be asked about an alert later, within MAX_NAMES bytes, and the paths of what is not whole: long texts
    and lists are cut, then data goes."""
    for limit in (MAX_NAMES, 1_000, 100):
        gone: dict[tuple[str, ...], None] = {}
        kept = {name: _cut(of, limit, (name,), gone) if name in LONG else of for name, of in names.items()}
        if len(json.dumps(kept)) <= MAX_NAMES:
            return kept, tuple(gone) if len(gone) <= MAX_CUT else tuple({path[:1]: None for path in gone})
    return {name: value for name, value in kept.items() if name not in LONG}, ALL_LONG


def _cut(value: JsonValue, limit: int, at: tuple[str, ...], gone: dict[tuple[str, ...], None]) -> JsonValue:
    """The value within its limit. Where it is longer goes into `gone`: of what stands in a list, the list."""
    if not isinstance(value, str | list | dict):
        return value
    if len(value) > limit:
        gone[at] = None
    if isinstance(value, str):
        return value[:limit]
    if isinstance(value, list):
        return [_cut(one, limit, at, gone) for one in value[:limit]]
    return {name: _cut(of, limit, (*at, name), gone) for name, of in list(value.items())[:limit]}
