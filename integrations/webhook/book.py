"""What is remembered of endpoints in the integration's table: how each stands, and its last attempts.

All workers share it. Whether an endpoint is switched off has to be known before anything is sent to it, so that raises
where Redis does not answer; the caller decides what of the rest an attempt can do without.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import asdict, dataclass
from itertools import count
from typing import TypeVar

from pydantic import JsonValue, TypeAdapter, ValidationError

from eventbus.event import new_id
from integrations.base import Store
from integrations.webhook.standing import Failing, Off, Standing

ATTEMPTS = 200
"""Attempts that are kept for each endpoint. Each process has so many places of its own, so that none takes another's;
what is over is deleted by the next one that starts."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt as it is listed.

    at          when it began, Unix seconds
    topic       of the event, or `notification`
    event_id    of the event; empty for a notification
    webhook_id  what the receiver knows it by
    number      which attempt of its delivery, from 1
    outcome     `delivered`, or what becomes of it: `retry`, `rejected`, `held`
    status      of the answer; None: there was none
    ms          how long it took
    said        what the receiver answered or what went wrong: the start of it, without secrets
    not_before  when the receiver lets us try again, Unix seconds; None: it named no time
    """

    at: float
    topic: str
    event_id: str
    webhook_id: str
    number: int
    outcome: str
    status: int | None
    ms: float
    said: str
    not_before: float | None


_tried, _failing, _off = TypeAdapter(Tried), TypeAdapter(Failing), TypeAdapter(Off)


class Book:
    """The book of one account. Every method raises our errors (`eventbus.errors`)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._process = new_id()
        self._places: defaultdict[str, count[int]] = defaultdict(count)
        self._changing = asyncio.Lock()

    # -- how it stands ---------------------------------------------------------------------------------------------

    async def standing(self, endpoint: str) -> Standing:
        """How an endpoint stands."""
        failing, off = await asyncio.gather(self._store.get(f"failing:{endpoint}"), self._store.get(f"off:{endpoint}"))
        return Standing(_read(_failing, failing), _read(_off, off))

    async def succeeded(self, endpoint: str) -> None:
        """The clock of failures stops."""
        await self._store.delete(f"failing:{endpoint}")

    async def failed(self, endpoint: str, now: float) -> Failing:
        """One more failure."""
        async with self._changing:
            before = _read(_failing, await self._store.get(f"failing:{endpoint}"))
            after = Failing.after(before, now)
            await self._store.put(f"failing:{endpoint}", asdict(after))
            return after

    async def switch_off(self, endpoint: str, off: Off) -> Off:
        """Its events wait from now on. Returns what holds: where it is off already, that stays."""
        async with self._changing:
            before = _read(_off, await self._store.get(f"off:{endpoint}"))
            if before is None:
                await self._store.put(f"off:{endpoint}", asdict(off))
            return before or off

    async def switch_on(self, endpoint: str) -> bool:
        """Its events flow, and what failed before is forgotten. False when it was on."""
        was_off = await self._store.get(f"off:{endpoint}") is not None
        await self.succeeded(endpoint)
        await self._store.delete(f"off:{endpoint}")
        return was_off

    # -- attempts --------------------------------------------------------------------------------------------------

    async def note(self, endpoint: str, tried: Tried) -> None:
        """Write an attempt down, over the oldest one of this process."""
        place = next(self._places[endpoint])
        if place == 0:
            await self._tidy(endpoint)
        await self._store.put(f"tried:{endpoint}:{self._process}:{place % ATTEMPTS}", asdict(tried))

    async def attempts(self, endpoint: str) -> list[Tried]:
        """The last attempts, the newest last."""
        return [tried for _, tried in await self._kept(endpoint)][-ATTEMPTS:]

    async def _tidy(self, endpoint: str) -> None:
        """Processes that ended leave their rows behind."""
        for name, _ in (await self._kept(endpoint))[:-ATTEMPTS]:
            await self._store.delete(name)

    async def _kept(self, endpoint: str) -> list[tuple[str, Tried]]:
        rows = await self._store.items(f"tried:{endpoint}:")
        read = [(name, tried) for name, row in rows.items() if (tried := _read(_tried, row)) is not None]
        return sorted(read, key=lambda one: one[1].at)


def _read(reader: TypeAdapter[T], row: JsonValue) -> T | None:
    """None for no row, and for one that another version wrote and this one can't read."""
    try:
        return None if row is None else reader.validate_python(row)
    except ValidationError:
        return None
