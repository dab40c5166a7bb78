"""Checks the books against what this process has seen with its own eyes (`witness`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from eventbus.audit import Gap, gaps, passed
from eventbus.redis.history import History
from eventbus.witness import MOST, Seen, Witness

FEW = 100  # entries looked at, past those that somebody added by hand


class Auditor:
    """Finds gaps, by the books and by what `witness` remembers."""

    def __init__(self, history: History, witness: Witness) -> None:
        self.witness = witness
        self._history = history
        self._back: dict[int, Gap] = {}  # every time that Redis went back, by the last number before

    async def look(self, groups: Sequence[str], *, closes: bool = False) -> list[Gap]:
        """What does not add up. `closes`: groups that are past what was deleted are looked at without leniency then."""
        marks = [*self.witness.marks]
        seen = [one for one in (*marks, self.witness.newest) if one.sequence]
        books = await self._history.books(groups)
        found = gaps(books, seen=max((one.sequence for one in seen), default=0))
        if closes:
            for group in passed(books):
                await self._history.close(group)
        for one in seen:
            if one.sequence <= books.sequence:
                found += await self._replaced(one)
        for one in marks:
            with suppress(ValueError):
                self.witness.marks.remove(one)
        found += [_gap(first, last) for first, last in self.witness.rolled_back]
        return self._once(found)

    def _once(self, found: Iterable[Gap]) -> list[Gap]:
        """Each roll-back as it was found first: the log passes it, and others see more or less of it."""
        others = [gap for gap in found if gap.kind != "rolled back"]
        for gap in found:
            if gap.kind == "rolled back":
                self._back.setdefault(gap.last, gap)
        while len(self._back) > MOST:
            del self._back[next(iter(self._back))]
        return [*others, *self._back.values()]

    def accept(self, gap: Gap) -> None:
        """Don't tell of this loss again."""
        if gap.kind == "rolled back":
            self.witness.forget(gap.last)
            self._back = {last: known for last, known in self._back.items() if last > gap.last}

    async def _replaced(self, seen: Seen) -> list[Gap]:
        """What was stored after it has a lower number: Redis went back, and numbers were given out again."""
        after = await self._history.between(f"({seen.entry_id}", most=FEW)
        number = next((entry.sequence for entry in after if entry.sequence), None)
        if number is None or number > seen.sequence:
            return []
        return [_gap(number, seen.sequence)]


def _gap(first: int, last: int) -> Gap:
    return Gap("rolled back", None, first, last, last - first + 1)
