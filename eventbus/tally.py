"""What is added to the numbers that a table keeps: rows of named parts, changed in one step and once per key.

Kept in Redis and not in a process, so that all workers count together and a crash loses or doubles nothing. What the
numbers mean is for who asks: to Redis a row is a name. See `redis/table.py` and `redis/lua/tally.lua`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

Tally = Mapping[str, Mapping[str, float]]
"""Row to part to number."""

MAX_ROWS = 100_000
"""Of one table. Who asks for the numbers gets all of them in one answer."""


@dataclass(frozen=True, slots=True)
class Change:
    """To one row.

    row    its name
    parts  finite numbers by name; a name holds no `=` and no `;`, and is not `at`
    at     None: the parts are added to the row's. A time: they stand there from now on, unless what stands there is
           of a later time
    """

    row: str
    parts: Mapping[str, float]
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tallied:
    """What became of changes.

    is_new   False: the key is known, and nothing was changed
    refused  changes of new rows for which there was no room
    """

    is_new: bool
    refused: int = 0
