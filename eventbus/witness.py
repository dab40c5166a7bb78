"""What this process has seen of the log with its own eyes: its newest event, and numbers that were given out twice.

The books alone can't tell that Redis went back to an earlier state, since all of them go back together. Whoever
remembers what was there before can: numbers rise with places, so a later place with a number that is no higher means
that Redis went back in between. `auditor` tells of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

MOST = 100
"""Roll-backs that are remembered; the oldest goes."""


class Seen(NamedTuple):
    """An event that was stored: its number and its place."""

    sequence: int = 0
    entry_id: str = ""


class Witness:
    """Shared by all that publishes and takes in this process.

    newest       of the events that were seen, the one with the latest place
    rolled_back  for each time that Redis went back: the first number that was seen again, and the last one before
    marks        what was newest when the line to Redis broke, until somebody has looked whether it is still there
    alarm        set when there is a reason to look
    """

    def __init__(self) -> None:
        self.newest = Seen()
        self.rolled_back: deque[tuple[int, int]] = deque(maxlen=MOST)
        self.marks: deque[Seen] = deque(maxlen=MOST)
        self.alarm = asyncio.Event()

    def saw(self, sequence: int, entry_id: str) -> None:
        """An event of the log. One that was seen before, or that is older, changes nothing."""
        newest = self.newest
        if sequence > newest.sequence and not self.rolled_back:  # nearly always
            self.newest = Seen(sequence, entry_id)
        elif sequence and _place(entry_id) > _place(newest.entry_id):
            if sequence <= newest.sequence:
                self.rolled_back.append((sequence, newest.sequence))
                self.alarm.set()
            self.newest = Seen(sequence, entry_id)

    def forget(self, last: int) -> None:
        """A loss of numbers up to this one was taken note of: what was seen of them says nothing any more."""
        if self.newest.sequence <= last:
            self.newest = Seen()
        self.marks = deque((one for one in self.marks if one.sequence > last), maxlen=MOST)
        self.rolled_back = deque((one for one in self.rolled_back if one[1] > last), maxlen=MOST)

    def mark(self) -> None:
        """The line to Redis broke: remember what was newest, whatever comes later."""
        self.marks.append(self.newest)


def _place(entry_id: str) -> tuple[int, int]:
    """An entry id in an order that can be compared (redis.io/docs/latest/develop/data-types/streams, Entry IDs)."""
    milliseconds, _, number = entry_id.partition("-")
    return (int(milliseconds), int(number or 0)) if milliseconds else (0, 0)
