"""History again for one group: copies of what it has finished, addressed to it alone, at the end of the log.

Reaches what the log still keeps (`retention`). Events keep their ids, so the ledger knows what was done for them: a
replay brings what a group never acted on, and to a handler without a ledger everything again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from eventbus.backoff import RECONNECT
from eventbus.errors import Full, Unavailable
from eventbus.event import new_id
from eventbus.instant import first_id, last_id, stored_at
from eventbus.pattern import check_pattern, matches_any
from eventbus.redis.history import PAGE, Entry, History

ATTEMPTS = 8  # of each step, about 8 s: a restart of Redis does not end a long replay

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Replayed:
    """How far a replay has come.

    copied      events the group is given again; of a dry run: at most so many
    looked_at   events of the log in the range
    missed      of the range, gone from the log when their turn came: trimmed while a slow replay was under way
    log_begins  when the oldest event of the log was stored: what is older can't be replayed; None: the log is empty
    reached     when the last event that was looked at was stored
    """

    copied: int = 0
    looked_at: int = 0
    missed: int = 0
    log_begins: datetime | None = None
    reached: datetime | None = None


async def replay(
    history: History,
    group: str,
    patterns: Sequence[str],
    *,
    since: datetime,
    until: datetime | None = None,
    rate: float | None = None,
    dry_run: bool = False,
    progress: Callable[[Replayed], object] | None = None,
) -> Replayed:
    """See `EventBus.replay`. What the group is given from now on is not history: so it never meets its own copies."""
    wanted = [check_pattern(pattern) for pattern in patterns]
    start, end = first_id(since), last_id(until)
    (books,) = (await history.books([group])).groups
    begin = await history.between(most=1)
    done = Replayed(log_begins=stored_at(begin[0].entry_id) if begin else None)
    token, page, most, before = new_id(), 0, _most(rate), 0
    while True:
        entries = await _patiently(partial(history.between, start, end, most=most))
        handed_out = [entry for entry in entries if entry.sequence <= books.given]  # what is behind comes anyway
        if not handed_out:
            return done
        page, last = page + 1, handed_out[-1]
        if dry_run:
            copied = sum(_is_wanted(entry, wanted) for entry in handed_out)
        else:
            call = partial(history.replay, group, wanted, token, page, start, last.entry_id)
            copied = (await _patiently(call)).copied
        done = replace(
            done,
            copied=done.copied + copied,
            looked_at=done.looked_at + len(handed_out),
            missed=done.missed + (handed_out[0].sequence - before - 1 if before else 0),
            reached=stored_at(last.entry_id),
        )
        before = last.sequence
        if progress is not None:
            progress(done)
        if len(handed_out) < most:
            return done
        start = f"({last.entry_id}"
        if rate is not None and not dry_run:
            await asyncio.sleep(copied / rate)


def _most(rate: float | None) -> int:
    """Events a page: of a slow replay no more than a second's worth."""
    return PAGE if rate is None else max(1, min(PAGE, int(rate)))


def _is_wanted(entry: Entry, patterns: Sequence[str]) -> bool:
    """What replay.lua copies, but for what the group still holds: that only the script can tell."""
    return entry.group is None and matches_any(patterns, entry.topic)


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """A step of a replay may be repeated: the script knows its token and page, and copies nothing twice."""
    for attempt in range(1, ATTEMPTS):
        try:
            return await call()
        except Full:
            raise
        except Unavailable:
            await asyncio.sleep(RECONNECT.delay(attempt).total_seconds())
    return await call()
