"""Log lines read back from the journal: what is asked for, and how a line is told. Pure but for the reading itself.

What lies in the journal is not trusted: a line that is no line of ours is passed over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from eventbus.journal import START, Journal, Kept

PAGE = 500
MOST_LOOKED_AT = 20_000
"""A search that has looked at so many lines answers what it has found, and where to go on."""

LATE = timedelta(minutes=5)
"""A line may arrive by Redis' clock so long before the time that its program's clock gave it."""

Level = Literal["debug", "info", "warning", "error", "critical"]
LEVELS: tuple[Level, ...] = get_args(Level)

_HEAD = ("timestamp", "level", "event", "logger", "program", "host", "pid")
_ABOUT = ("integration", "group", "account", "logger", "program")
_OTHER_NAMES = {"event_bus": "eventbus"}
"""What /api/v1/health calls the bus."""


def _place(text: str) -> str:
    """redis.io, "Streams", "Entry IDs": both numbers are of 64 bits."""
    if any(int(number) >= 1 << 64 for number in text.split("-")):
        raise ValueError("is no place in the journal: give `next` of an answer as it is")
    return text


class Query(BaseModel):
    """Which lines are wanted. Of `component` and its kind a line has to fit all that are given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    component: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="An integration (github), one of its targets (webhook.billing), a logger or the beginning of its "
        "name (eventbus), or a program (worker)",
    )
    level: Level = Field(default="debug", description="This level and those above it")
    limit: int = Field(default=100, ge=1, le=1000, strict=True, description="So many lines at most")
    since: AwareDatetime | None = Field(default=None, description="Written then or later, by its program's clock")
    event_id: str | None = Field(default=None, min_length=1, max_length=200, description="About this event")
    contains: str | None = Field(
        default=None, min_length=1, max_length=500, description="Its message or a field has this text, in any case"
    )
    next: Annotated[str, Field(pattern=r"^[0-9]{1,20}-[0-9]{1,20}$"), AfterValidator(_place)] | None = Field(
        default=None, description="Go on from an answer that had this"
    )

    @property
    def is_of_warnings(self) -> bool:
        """Whether the part of the journal that has nothing else answers it: that reaches back further."""
        return LEVELS.index(self.level) >= LEVELS.index("warning")


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `component` is the integration or group it is about, else the logger that wrote it."""

    time: datetime
    level: str
    message: str
    said: Mapping[str, Any]

    @classmethod
    def of(cls, raw: bytes) -> Self | None:
        """The line of these bytes; None when they are none of ours."""
        try:
            said = json.loads(raw.decode(), parse_constant=str, parse_float=_float)
            if b"\\u" in raw:
                shown(said).encode()  # half of a surrogate pair can't be answered
            time = datetime.fromisoformat(said["timestamp"])
            level, message = said["level"], said["event"]
            if time.tzinfo is None or level not in LEVELS or not isinstance(message, str):
                return None
            return cls(time.astimezone(UTC), level, message, said)
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return None

    @property
    def component(self) -> str:
        """Whom it is about."""
        return next(iter(self._names()), "")

    @property
    def fields(self) -> dict[str, Any]:
        """What else it says, by name."""
        return {name: value for name, value in self.said.items() if name not in _HEAD}

    def fits(self, query: Query) -> bool:
        """Whether it is wanted."""
        return (
            LEVELS.index(self.level) >= LEVELS.index(query.level)
            and (query.since is None or self.time >= query.since)
            and (query.event_id is None or self.said.get("event_id") == query.event_id)
            and (query.component is None or self._is_of(_OTHER_NAMES.get(query.component, query.component)))
            and (query.contains is None or self._has(query.contains))
        )

    def document(self) -> dict[str, Any]:
        """For machines."""
        head = {name: self.said.get(name) for name in ("logger", "program", "host", "pid")}
        time = self.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        about = {"time": time, "level": self.level, "component": self.component, "message": self.message}
        return {**about, **head, "fields": self.fields}

    def _names(self) -> list[str]:
        return [name for field in _ABOUT if isinstance(name := self.said.get(field), str)]

    def _is_of(self, component: str) -> bool:
        return any(name == component or name.startswith(component + ".") for name in self._names())

    def _has(self, text: str) -> bool:
        wanted = text.casefold()
        return any(wanted in shown(value).casefold() for value in (self.message, *self.fields.values()))


def _float(digits: str) -> float | str:
    """What is too large for a number of JSON's is told as text, as NaN is."""
    return number if math.isfinite(number := float(digits)) else digits


def shown(value: Any) -> str:
    """A field as people read it and search for it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Found:
    """An answer: lines, the newest first. `next`: where a query goes on, None at the end of the journal.

    There may be fewer lines than the limit and a `next` all the same: nothing else fitted so far.
    `newest` is the place of the newest line looked at.
    """

    lines: list[Line]
    next: str | None
    newest: str


async def search(journal: Journal, query: Query) -> Found:
    """Look for lines, from the newest on. Raises our errors (`eventbus.errors`)."""
    found: list[Line] = []
    place, newest, looked = query.next, START, 0
    since = None if query.since is None else _earlier(query.since)
    while looked < MOST_LOOKED_AT:
        page = await journal.before(place, warnings=query.is_of_warnings, since=since, most=PAGE)
        newest = page[0].place if page and not looked else newest
        for kept in page:
            place = kept.place
            if (line := _wanted(kept, query)) is not None:
                found.append(line)
                if len(found) == query.limit:
                    return Found(found, place, newest)
        looked += len(page)
        if len(page) < PAGE:
            return Found(found, None, newest)
    return Found(found, place, newest)


async def later(journal: Journal, query: Query, place: str) -> tuple[list[Line], str]:
    """Lines that came after this place, the oldest first, and the place to go on from."""
    page = await journal.after(place, warnings=query.is_of_warnings, most=PAGE)
    lines = [line for kept in page if (line := _wanted(kept, query)) is not None]
    return lines, page[-1].place if page else place


def _wanted(kept: Kept, query: Query) -> Line | None:
    line = Line.of(kept.line)
    return line if line is not None and line.fits(query) else None


def _earlier(time: datetime) -> datetime:
    try:
        return time - LATE
    except OverflowError:
        return time
