"""What happened to an event, what did not, and why: everything that is known of it, put together for people.

It reads the log, the trail, the dead letters and the groups' places, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue

from eventbus import DeadLetter, Event, EventBus
from eventbus.pattern import matches_any
from eventbus.redis.whereabouts import Whereabouts
from registry.noise.keeper import group_of
from registry.noise.store import NoiseStore
from registry.routes.decide import Decision, decide, outside_of_windows
from registry.routes.model import Routing

Line = dict[str, JsonValue]
GROUPED = "grouped"
"""The last word of a trail while its event waits in a group."""


@dataclass(frozen=True, slots=True)
class GroupStory:
    """One group and the event.

    patterns  what the group takes
    stand     in one or two words: delivered, skipped, unread, due, dead letter, not for it, ...
    detail    why, or what comes next and when
    lines     its part of the trail, oldest first
    """

    group: str
    patterns: Sequence[str]
    stand: str
    detail: str = ""
    letter: DeadLetter | None = None
    lines: Sequence[Line] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """All of it. `event` is None when the log does not hold it any more; the trail may know more than the log."""

    event_id: str
    event: Event[Any] | None
    sequence: int | None
    groups: list[GroupStory] = field(default_factory=list)
    routes: list[Decision] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        """Whether anything is known of such an event."""
        return self.event is not None or any(group.lines or group.letter for group in self.groups)


async def explain(bus: EventBus, event_id: str, routing: Routing) -> Story:
    """The story of an event. `routing`: as it is configured now. Raises our errors (`eventbus.errors`)."""
    found, lines, declared = await bus.find(event_id), await bus.trail.read(event_id), await bus.groups()
    letters = {letter.group: letter async for letter in bus.dead.find(text=event_id) if letter.event_id == event_id}
    told = [str(line.get("account", "")) for line in lines]
    groups = []
    for group in dict.fromkeys([*declared, *letters, *told]):
        own = [line for line in lines if line.get("account") == group]
        patterns = declared.get(group, [])
        where = None if found is None else await bus.whereabouts(group, found.entry_id)
        takes = found is None or matches_any(patterns, found.event.topic)
        stand, detail = _stand(own, letters.get(group), where, declared=group in declared, takes=takes)
        if stand == GROUPED:
            detail = await _gathered(bus, event_id, own[-1], routing) or detail
        groups.append(GroupStory(group, patterns, stand, detail, letters.get(group), own))
    event = None if found is None else found.event
    routes = [] if event is None else decide(event, routing, event.time)
    return Story(event_id, event, None if found is None else found.sequence, groups, routes)


async def _gathered(bus: EventBus, event_id: str, line: Line, routing: Routing) -> str:
    """What comes next for an event that waits in a group; empty when it does not wait there any more."""
    group, now = await group_of(bus, str(line.get("group", ""))), datetime.now(UTC)
    alert = None if group is None else next((one for one in group.alerts.values() if one.event_id == event_id), None)
    if group is None or alert is None:
        return ""
    route = routing.routes.get(group.route)
    window = "" if route is None else outside_of_windows(route, routing, now)
    mutes = await NoiseStore(bus, routing).mutes()
    muted = window or mutes.why(alert.names, now, alert.cut) or mutes.doubt(alert.names, now, alert.cut)
    where = f"in the group {group.label or 'of its route'}, looked at next at {_moment(round(group.due * 1000))}"
    return f"{where}; {muted}" if muted else where


def _stand(
    lines: Sequence[Line], letter: DeadLetter | None, where: Whereabouts | None, *, declared: bool, takes: bool
) -> tuple[str, str]:
    """How it stands with a group, in a word, and what there is to say about it."""
    last = lines[-1] if lines else None
    said = str(last.get("detail") or last.get("error") or "") if last else ""
    if letter is not None:
        return "dead letter", f"{letter.reason}: {letter.error} (eventbus dead show {letter.id})"
    if where is not None and where.stand != "done" and takes:
        return where.stand, _next(where, said)
    if last is not None:
        return str(last.get("outcome", "")), said
    if not declared:
        return "unknown group", "it was retired, or never was"
    if not takes:
        return "not for it", "none of its patterns fits the topic"
    if where is None:
        return "never read", "the log does not hold the event any more, and no attempt is remembered"
    return "done", "handled, or before this group began; attempts of plain handlers leave no trail"


def _next(where: Whereabouts, said: str) -> str:
    so_far = f"; so far: {said}" if said else ""
    match where.stand:
        case "due":
            at = "soon" if where.due_ms is None else f"at {_moment(where.due_ms)}"
            return f"the next attempt is {at}{so_far}"
        case "waiting":
            return f"it waits for the event ahead of it with the same key{so_far}"
        case "running":
            return f"a worker has it in hand{so_far}"
        case "ready":
            return f"any worker takes it next{so_far}"
        case _:
            return "no worker has read so far yet"


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
