"""A wall clock that jumps: runs a program of a fault run so that the time of day is off by what stands in a file.

    python -m tests.faults.clock FILE MODULE ARGUMENTS

The program's `time.time`, `time.time_ns` and `datetime.now` are off; CLOCK_MONOTONIC is not, as no system sets that.
The clock of Redis is not changed: it is the one clock of the bus, and setting it means setting the machine's.
"""

from __future__ import annotations

import datetime
import mmap
import runpy
import struct
import sys
import time
from pathlib import Path

_OFFSET = struct.Struct("d")


class Clock:
    """How far a program's clock is off, in seconds; set by whoever harms it, read by the program."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            file.write_bytes(_OFFSET.pack(0.0))
        with file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), _OFFSET.size)

    @property
    def offset(self) -> float:
        """Seconds ahead; below 0: behind."""
        return float(_OFFSET.unpack(self._shared)[0])

    @offset.setter
    def offset(self, seconds: float) -> None:
        self._shared[:] = _OFFSET.pack(seconds)


def true_time() -> datetime.datetime:
    """The machine's own time, in UTC."""
    return datetime.datetime.fromtimestamp(time.clock_gettime(time.CLOCK_REALTIME), datetime.UTC)


def _put_in_place(clock: Clock) -> None:
    true = datetime.datetime

    def now_ns() -> int:
        return time.clock_gettime_ns(time.CLOCK_REALTIME) + int(clock.offset * 1e9)

    class Kind(type):
        """Whatever is a datetime is one of ours: `now` makes the plain ones."""

        def __instancecheck__(cls, one: object) -> bool:
            return isinstance(one, true)

    class Datetime(true, metaclass=Kind):  # type: ignore[misc, valid-type]  # a class in a variable
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return true.fromtimestamp(now_ns() / 1e9, tz)

    time.time_ns = now_ns
    time.time = lambda: now_ns() / 1e9
    datetime.datetime = Datetime  # type: ignore[misc]  # before anything else has imported it


if __name__ == "__main__":
    _put_in_place(Clock(Path(sys.argv[1])))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
