"""Silences and inhibiting alerts in Redis, shared by all processes: the table `noise`.

`silence:ID` rows stay until 120 hours after their end, `inhibition:NAME` rows until nothing in them can fire any more,
and the row `inhibitions` for an hour after the last program that has any said so.
A process looks at them once a second at most, so that long a change may take to be seen.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pydantic import JsonValue, ValidationError

from eventbus import Attempt, Conflict, Event, EventBus
from registry.noise.announce import announcements, ended_by_hand
from registry.noise.mute import KEPT, Mutes, Silence, Source, Sources, observed
from registry.routes.model import Routing
from registry.routes.scope import names_of

TABLE = "noise"
LOOK_SECONDS = 1.0
SAID = "inhibitions"
SAID_FOR = timedelta(hours=1)
"""Longer than a program with inhibitions is away in a rolling deploy."""

_log = structlog.get_logger("registry.noise")


class NoiseStore:
    """Reads and writes them. Every method raises our errors (`eventbus.errors`)."""

    def __init__(self, bus: EventBus, routing: Routing, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._table = bus.table(TABLE)
        self._routing = routing
        self._clock = clock
        self._seen: Mutes | None = None
        self._looked = 0.0

    async def mutes(self, *, fresh: bool = False) -> Mutes:
        """All that keeps notifications quiet, at most LOOK_SECONDS old; `fresh`: as it is now."""
        if fresh or self._seen is None or self._clock() - self._looked >= LOOK_SECONDS:
            looked = self._clock()
            silences = [one for one in await self.silences() if one.ends > datetime.now(UTC)]
            sources = {name: _sources(await self._table.get(_row(name))) for name in self._routing.inhibitions}
            self._seen, self._looked = Mutes(silences, self._routing.inhibitions, sources), looked
        return self._seen

    async def silences(self) -> list[Silence]:
        """Every silence that is kept, the one that ends last at the end."""
        rows = await self._table.items("silence:")
        found = [silence for name, row in rows.items() if (silence := _silence(name, row)) is not None]
        return sorted((one for one in found if datetime.now(UTC) < one.ends + KEPT), key=lambda one: one.ends)

    async def put(self, silence: Silence) -> None:
        """Make a silence, or change the one of its id: the last write holds. What is told of it is scheduled."""
        before = await self._found(silence.id)
        await self._write(silence)
        if before is not None and before != silence:
            await self._recall(before)
        await self._announce(silence)

    async def announce(self) -> None:
        """Schedule what is told of each silence, if whoever made it died before that. A repeat changes nothing."""
        for silence in await self.silences():
            if silence.ends > datetime.now(UTC):
                await self._announce(silence)

    async def expire(self, silence_id: str) -> Silence | None:
        """End a silence now. None when there is none of this id, or it ended before."""
        now = datetime.now(UTC)
        silence = await self._found(silence_id)
        if silence is None or silence.ends <= now:
            return None
        ended = silence.model_copy(update={"ends": now, "starts": min(silence.starts, now)})
        await self._write(ended)
        await self._recall(silence)
        if silence.starts < now:
            await self._bus.publish(ended_by_hand(ended), remember=KEPT)
        return ended

    async def _found(self, silence_id: str) -> Silence | None:
        row = await self._table.get(f"silence:{silence_id}")
        return None if row is None else _silence(f"silence:{silence_id}", row)

    async def _write(self, silence: Silence) -> None:
        await self._table.put(f"silence:{silence.id}", silence.model_dump(mode="json"))
        self._seen = None

    async def _announce(self, silence: Silence) -> None:
        for event, at in announcements(silence):
            with contextlib.suppress(Conflict):  # told already, before the silence was changed
                await self._bus.publish(event, at=at, remember=silence.ends - silence.starts + KEPT)

    async def _recall(self, silence: Silence) -> None:
        """Take back what was not told of it yet."""
        for event, _ in announcements(silence):
            await self._bus.cancel(event.idempotency_key)

    async def forget_old(self) -> None:
        """Delete the silences that ended long ago."""
        for name, row in (await self._table.items("silence:")).items():
            silence = _silence(name, row)
            if silence is not None and datetime.now(UTC) >= silence.ends + KEPT:
                await self._table.delete(name)

    async def say_inhibitions(self) -> None:
        """Let the other programs know that one here has inhibitions."""
        await self._table.put(SAID, datetime.now(UTC).isoformat(), lifetime=SAID_FOR)

    async def said_inhibitions(self) -> bool:
        """Whether a program has inhibitions, or had until an hour ago: it may be restarting, or not be replaced yet."""
        return await self._table.get(SAID) is not None

    async def observe(self, event: Event[Any], attempt: Attempt) -> None:
        """Take note of what an event means for the inhibitions. A repeat of it changes nothing."""
        names = names_of(event, self._routing)
        for name, inhibition in self._routing.inhibitions.items():
            while True:
                row, now = await self._table.get(_row(name)), datetime.now(UTC)
                before = _sources(row)
                after = observed(inhibition, before, names, event.id, attempt.sequence, now)
                if after is before:
                    break
                rows: JsonValue = {about: source.model_dump(mode="json") for about, source in after.items()}
                if await self._table.swap(_row(name), row, rows, lifetime=timedelta(seconds=inhibition.lasts)):
                    self._seen = None
                    break


def new_silence_id() -> str:
    """Short enough to be typed."""
    return secrets.token_hex(4)


def _row(inhibition: str) -> str:
    return f"inhibition:{inhibition}"


def _sources(row: JsonValue) -> Sources:
    if not isinstance(row, Mapping):
        return {}
    return {about: Source.model_validate(source) for about, source in row.items()}


def _silence(name: str, row: JsonValue) -> Silence | None:
    try:
        return Silence.model_validate(row)
    except ValidationError:
        _log.warning("a silence is not understood: a newer program made it", row=name)
        return None
