"""Checks the books against what this process has seen with its own eyes: numbers and places that Redis gave out.

The books alone can't tell that Redis went back to an earlier state, since all of them go back together. Whoever
remembers an event that is not there any more can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from eventbus.audit import Gap, gaps, passed
from eventbus.redis.history import History

FEW = 100  # entries looked at, past those that somebody added by hand


class Seen(NamedTuple):
    """An event that was stored: its number and its place. Compared by number first."""

    sequence: int = 0
    entry_id: str = ""


class Auditor:
    """Finds gaps. `highest` tells of the event with the highest number that this process knows of."""

    def __init__(self, history: History, highest: Callable[[], Seen]) -> None:
        self._history = history
        self._highest = highest
        self._accepted = 0  # up to here a loss was taken note of

    async def look(self, groups: Sequence[str], *, closes: bool = False) -> list[Gap]:
        """What does not add up. `closes`: groups that are past what was deleted are looked at without leniency then."""
        seen = self._highest()
        if seen.sequence <= self._accepted:
            seen = Seen()
        books = await self._history.books(groups)
        found = gaps(books, seen=seen.sequence)
        if closes:
            for group in passed(books):
                await self._history.close(group)
        if seen.entry_id and seen.sequence <= books.sequence:
            found += await self._replaced(seen)
        return found

    def accept(self, gap: Gap) -> None:
        """Don't tell of this loss again."""
        if gap.kind == "rolled back":
            self._accepted = gap.last

    async def _replaced(self, seen: Seen) -> list[Gap]:
        """What was stored after it has a lower number: Redis went back, and numbers were given out again."""
        after = await self._history.between(f"({seen.entry_id}", most=FEW)
        number = next((entry.sequence for entry in after if entry.sequence), None)
        if number is None or number > seen.sequence:
            return []
        return [Gap("rolled back", None, number, seen.sequence, seen.sequence - number + 1)]
