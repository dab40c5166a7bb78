"""Is everything accounted for? Pure: from the counters of a shard to what is missing.

The scripts keep books: every event has a dense number, trimming counts what it forgets, each group counts what became
of its deliveries. So a loss of any origin (a fail-over, a cut append-only file, FLUSHALL, XDEL, a fault of ours) shows
as a sum that does not add up, without looking at a single event.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from eventbus.redis.history import Books, GroupBooks

Kind = Literal["rolled back", "deleted", "foreign", "unhandled", "uncounted", "no place"]


@dataclass(frozen=True, slots=True)
class Gap:
    """One sum that does not add up.

    kind     rolled back: the log ends before numbers that were given out; deleted: events are gone that trimming did
             not forget; foreign: the log holds entries that were not published; unhandled: deliveries of a group are
             neither finished nor pending; uncounted: more were finished than given (the group was set back);
             no place: a declared group is not in the log
    group    whose deliveries, or None when it is about the log
    first    the first sequence number that may be concerned
    last     the last one
    count    how many; 0 where that can't be said
    """

    kind: Kind
    group: str | None
    first: int
    last: int
    count: int

    @property
    def name(self) -> tuple[str, str | None, int]:
        """What stays the same while the log goes on and the range that may be concerned grows.

        A gap of the same count that opens before anybody looked after the last one was accepted is not told apart.
        """
        return self.kind, self.group, self.last if self.kind == "rolled back" else self.count

    @property
    def text(self) -> str:
        """One sentence for people."""
        where = f"sequence {self.first:,} to {self.last:,}"
        match self.kind:
            case "rolled back":
                return f"Redis lost its newest events: {where} ({self.count:,}) were stored and are gone"
            case "deleted":
                return f"{self.count:,} events were deleted from the log by somebody else, within {where}"
            case "foreign":
                return f"the log holds {self.count:,} entries that were not published through the bus"
            case "unhandled":
                return f"group {self.group} neither finished nor holds {self.count:,} deliveries, within {where}"
            case "uncounted":
                return f"group {self.group} finished {self.count:,} deliveries twice: somebody set it back"
            case "no place":
                return f"group {self.group} is declared but has no place in the log: its deliveries are lost"


def gaps(books: Books, *, seen: int = 0) -> list[Gap]:
    """What does not add up. `seen` is the highest sequence number that this process knows was given out."""
    found: list[Gap] = []
    if seen > books.sequence:
        found.append(Gap("rolled back", None, books.sequence + 1, seen, seen - books.sequence))
    missing = books.sequence - books.trimmed - books.length
    if missing > 0:
        found.append(_deleted(books, missing))
    elif missing < 0:
        found.append(Gap("foreign", None, books.trimmed + 1, books.sequence, -missing))
    found += _of_groups(books.groups)
    return found


def _deleted(books: Books, missing: int) -> Gap:
    """The narrowest range that surely holds them: the front, the end, or anywhere."""
    first, last = books.trimmed + 1, books.sequence
    if books.length:
        front, end = books.first - first, last - books.last
        if front == missing:
            last = books.first - 1
        elif end == missing:
            first = books.last + 1
    return Gap("deleted", None, first, last, missing)


def _of_groups(groups: Iterable[GroupBooks]) -> Iterable[Gap]:
    for group in groups:
        if not group.has_place:
            yield Gap("no place", group.name, group.start + 1, group.given, 0)
            continue
        if group.missing > group.holes:
            yield Gap("unhandled", group.name, group.start + 1, group.given, group.missing - group.holes)
        elif group.missing < 0:
            yield Gap("uncounted", group.name, group.start + 1, group.given, -group.missing)


def passed(books: Books) -> list[GroupBooks]:
    """The groups that have come by all their holes. What is missing in them now will be for ever: close them."""
    return [
        group
        for group in books.groups
        if group.has_place and group.holes and group.given >= group.past and 0 <= group.missing <= group.holes
    ]
