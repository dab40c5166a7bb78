"""What is not told of, though a route would: silences that people make, and inhibitions of the settings. Pure.

Both have Alertmanager's meaning (prometheus/alertmanager, silence/silence.go and inhibit/inhibit.go). Whether
something that was begun is ended in spite of them is decided where it is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from eventbus.pattern import matches
from registry.routes.evaluate import Cut
from registry.routes.filters import Unknown, Value, as_text, is_cut
from registry.routes.model import Inhibition, Inhibitions, Muted
from registry.routes.template import MuteCondition

KEPT = timedelta(hours=120)
"""How long a silence can be looked up after its end: Alertmanager's default (--data.retention)."""
MAX_SOURCES = 1_000
"""Alerts of one inhibition that are remembered; beyond them the oldest goes."""

ABOUT_SILENCES = "silence.*"
"""Topics that no silence mutes: its end would come unannounced."""

Names = Mapping[str, Any]


class Silence(BaseModel):
    """What a person does not want to be told of for a while. Written again under the same id, the last one holds."""

    model_config = ConfigDict(frozen=True)

    id: str
    when: MuteCondition
    starts: AwareDatetime
    ends: AwareDatetime
    by: str = ""
    comment: str = ""

    def stand(self, now: datetime) -> str:
        """pending, active or expired."""
        if now < self.starts:
            return "pending"
        return "active" if now < self.ends else "expired"

    def __str__(self) -> str:
        said = ": ".join(filter(None, (self.by, self.comment)))
        return f"silence {self.id}{f' ({said})' if said else ''} until {self.ends.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


class Source(BaseModel):
    """An alert that inhibits others.

    sequence   of its latest event, which says whether it fires
    until      seconds since 1970 at which it ends by itself
    equal      what has to be the same at what it mutes
    two_sided  it is also of the kind that its inhibition mutes
    """

    model_config = ConfigDict(frozen=True)

    topic: str
    event_id: str
    sequence: int
    fires: bool
    until: float
    equal: list[str] = Field(default_factory=list)
    two_sided: bool = False


Sources = Mapping[str, Source]
"""The alerts of one inhibition, by what they are about."""


@dataclass(frozen=True)
class Mutes:
    """All that keeps notifications quiet at a time: silences, and what fires of the inhibitions."""

    silences: Sequence[Silence] = ()
    inhibitions: Inhibitions = field(default_factory=dict)
    sources: Mapping[str, Sources] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be muted."""
        return not self.silences and not any(self.sources.values())

    def why(self, names: Names, now: datetime, cut: Cut = ()) -> str:
        """Why what these names say is not told of now; empty when it is.

        names  a route's, with `route` and `to`
        cut    what of them was cut: what depends on that mutes nothing
        """
        return next((f"muted by {what}" for what, doubt in self._apply(names, now, cut) if doubt is None), "")

    def doubt(self, names: Names, now: datetime, cut: Cut) -> str:
        """What might mute it and does not, since it asks about what was cut, in one sentence; empty for nothing."""
        doubts = (f"not muted by {what}: {doubt.reason}" for what, doubt in self._apply(names, now, cut) if doubt)
        return next(doubts, "")

    def _apply(self, names: Names, now: datetime, cut: Cut) -> Iterator[tuple[str, Unknown | None]]:
        """What mutes it, in words, or would if it were known what was cut."""
        for silence in () if matches(ABOUT_SILENCES, names["topic"]) else self.silences:
            held = silence.when.value(names, cut) if silence.stand(now) == "active" else False
            if is_cut(held) or _holds(held):
                yield str(silence), held if is_cut(held) else None
        for name, inhibition in self.inhibitions.items():
            source = inhibitor(inhibition, self.sources.get(name, {}), names, now, cut)
            if isinstance(source, Source):
                until = datetime.fromtimestamp(source.until, UTC)
                fires = (
                    f"while {source.topic} ({source.event_id}) fires, until {until:%Y-%m-%dT%H:%M:%SZ} at the latest"
                )
                yield f"inhibition {name} {fires}", None
            elif source is not None:
                yield f"inhibition {name}", source


def inhibitor(
    inhibition: Inhibition, sources: Sources, names: Names, now: datetime, cut: Cut = ()
) -> Source | Unknown | None:
    """What mutes an alert by an inhibition; Unknown where that depends on what was cut. One of both kinds is not muted
    by another such, nor by itself."""
    firing = [source for source in sources.values() if source.fires and now.timestamp() < source.until]
    if not firing or not (fits := _fits(inhibition.mutes, names, cut)):
        return None
    is_source = _fits(inhibition, names, cut)
    equal = [expression.value(names, cut) for expression in inhibition.equal]
    unknown = next(filter(is_cut, [fits, is_source, *equal]), None)
    if unknown is not None:
        return unknown
    same = [as_text(value) for value in equal]
    return next((one for one in firing if one.equal == same and not (is_source and one.two_sided)), None)


def observed(
    inhibition: Inhibition, sources: Sources, names: Names, event_id: str, sequence: int, now: datetime
) -> Sources:
    """The alerts of an inhibition after an event, whose `names` are those of no route."""
    if not _fits(inhibition, names):
        return sources
    equal = _equal(inhibition, names)
    about = as_text(names["event"].get("key")) or "\0".join(equal)
    before = sources.get(about)
    if before is not None and sequence <= before.sequence:
        return sources  # a repeat, or older than what is known
    ends = inhibition.resolves is not None and inhibition.resolves.why_not(names) is None
    made = Source(
        topic=names["topic"],
        event_id=event_id,
        sequence=sequence,
        fires=not ends,
        until=now.timestamp() + inhibition.lasts,
        equal=equal,
        two_sided=bool(_fits(inhibition.mutes, names)),
    )
    alive = {name: one for name, one in sources.items() if name != about and one.until > now.timestamp()}
    return dict(list({**alive, about: made}.items())[-MAX_SOURCES:])


def _fits(side: Inhibition | Muted, names: Names, cut: Cut = ()) -> bool | Unknown:
    """Whether a side of an inhibition selects it; an Unknown where that depends on what was cut."""
    if not side.matches(names["topic"]):
        return False
    held = True if side.when is None else side.when.value(names, cut)
    return held if is_cut(held) else _holds(held)


def _holds(value: Value) -> bool:
    return not isinstance(value, Unknown) and bool(value)


def _equal(inhibition: Inhibition, names: Names) -> list[str]:
    """A missing value equals an empty one."""
    return [as_text(expression.value(names)) for expression in inhibition.equal]
