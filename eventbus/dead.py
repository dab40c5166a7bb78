"""Dead letters for whoever looks after the bus: find them, read them, send them again, drop them.

A dead letter stays until somebody asks for one of the last two; nothing here happens by itself. How a delivery becomes
one is told in `consumer` and in the scripts; this file never looks at the log.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from eventbus.catalog import catalog
from eventbus.codec import decode, encode, fields_of, id_of
from eventbus.errors import InvalidEvent
from eventbus.event import Event
from eventbus.instant import first_id, last_id, stored_at
from eventbus.pattern import check_pattern, matches_any
from eventbus.redis.history import DeadEntry, History
from eventbus.redis.shard import Shard

_ID = re.compile(r"([^/]+)/(\d{1,19}-\d{1,19})")


@dataclass(frozen=True)
class DeadLetter:
    """A delivery that was given up.

    id        `group/number`: what every command and method takes
    event_id  of the event; its place in the log where the event can't be read
    reason    rejected, exhausted, invalid or poison
    error     the last error, for people
    attempts  how often it was tried; for poison how many processes died
    time      when it was given up, by Redis' clock
    wire      the event as it is stored; empty when somebody deleted it from the log before
    retired   its group is retired: it can be dropped, or sent again when the group is declared again
    """

    id: str
    group: str
    event_id: str
    topic: str
    key: str | None
    reason: str
    error: str
    attempts: int
    time: datetime
    wire: bytes = field(repr=False)
    retired: bool = False

    @cached_property
    def event(self) -> Event[Any]:
        """The event. Raises InvalidEvent or UnknownVersion where it can't be read here."""
        if not self.wire:
            raise InvalidEvent(f"the event of {self.id} was deleted from the log before the letter was written")
        return decode(self.topic, self.wire)


class DeadLetters:
    """The dead letters of all groups of a bus: `bus.dead`."""

    def __init__(self, history: History, shard: Shard) -> None:
        self._history = history
        self._shard = shard

    async def find(
        self,
        *,
        groups: Sequence[str] = (),
        topics: Iterable[str] = (),
        reasons: Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
    ) -> AsyncIterator[DeadLetter]:
        """The dead letters that fit all that is given, oldest first.

        `groups`: without any all, retired ones too. `topics`: patterns. `since` and `until`: when they were given up.
        `text`: part of the error, the key or the event's JSON, in any case of its letters. Raises Misconfigured for a
        bad pattern.
        """
        patterns, wanted = [check_pattern(pattern) for pattern in topics], set(reasons)
        declared = await self._shard.declared()
        names = groups or dict.fromkeys([*declared, *await self._history.retired()])
        start, end = first_id(since), last_id(until)
        sources = [self._of(name, start, end, retired=name not in declared) for name in names]
        async for letter in _oldest_first(sources):
            if patterns and not matches_any(patterns, letter.topic):
                continue
            if wanted and letter.reason not in wanted:
                continue
            if text is None or _says(letter, text):
                yield letter

    async def get(self, letter_id: str) -> DeadLetter | None:
        """The dead letter of this id; None when there is none (any more)."""
        place = _ID.fullmatch(letter_id)
        if place is None:
            return None
        group, dead_id = place.groups()
        retired = group not in await self._shard.declared()
        return await anext(self._of(group, dead_id, dead_id, retired=retired), None)

    async def redrive(self, letter: DeadLetter | str, data: Mapping[str, Any] | None = None) -> bool:
        """Deliver it again, to its group alone, as the last event of its key. False when it is no longer there.

        The event keeps its id and idempotency key, so the ledger still knows what was done for it:

        - An action that is done is not done again; the delivery ends at once with the first result.
        - One that surely was not done (rejected, attempts used up on a service that was away) is done now.
        - One whose outcome nobody knows is looked for at the service first, where that can be asked.

        `data` replaces the payload, checked against its topic; the rest of the envelope stays, the ordering key too.
        For the ledger an action of an event belongs to its id, not to its content: an edit is no conflict. It changes
        what will be done, never what was done: to do something else as well, publish a new event. (A handler that
        asks the ledger under the content of the event gets a conflict where it had acted: the ledger's answer to one
        key with two contents.)

        Once in effect, like the ledger: after OutcomeUnknown call it again. Raises InvalidEvent when the event or the
        new data can't be sent, UnknownGroup when its group was retired, Full or Unavailable.
        """
        letter_id = letter if isinstance(letter, str) else letter.id
        wire = None
        if data is not None:
            found = await self.get(letter_id)
            if found is None:
                return False
            wire = edited(found, data)
        if _ID.fullmatch(letter_id) is None:
            return False
        group, _, dead_id = letter_id.partition("/")
        if await self._history.redrive(group, dead_id, wire) is not None:
            return True
        return await self._why_not(letter_id)

    async def _why_not(self, letter_id: str) -> Literal[False]:
        """Raise when it is there but can't be sent; False when it is not there."""
        if await self.get(letter_id) is None:
            return False
        raise InvalidEvent(f"the event of {letter_id} was deleted from the log: there is nothing to send; drop it")

    async def drop(self, letter: DeadLetter | str) -> bool:
        """Delete it for good. False when it is no longer there."""
        place = _ID.fullmatch(letter if isinstance(letter, str) else letter.id)
        return place is not None and await self._history.drop(*place.groups())

    async def _of(self, group: str, start: str, end: str, *, retired: bool) -> AsyncIterator[DeadLetter]:
        async for entry in self._history.dead(group, start, end):
            yield _letter(group, entry, retired=retired)


def edited(letter: DeadLetter, data: Mapping[str, Any]) -> bytes:
    """The event of a dead letter with another payload, of today's version, as it is stored.

    The letter itself need not fit its topic: that may be why it is dead. Raises InvalidEvent or UnknownVersion.
    """
    envelope = fields_of(letter.wire)
    envelope.pop("topic", None)
    if not envelope:
        raise InvalidEvent(f"the event of {letter.id} can't be read: nothing is left to put the new data into")
    version, _ = envelope.pop("version", 1), envelope.pop("data", None)
    catalog.typed(letter.topic, version if isinstance(version, int) else 1)  # raises when it is newer than we know
    if catalog.find(letter.topic) is None:
        envelope["version"] = version
    fields = {name: value for name, value in envelope.items() if name in Event.model_fields}
    return encode(catalog.event(letter.topic, data, **{**fields, "key": letter.key}))


def _letter(group: str, entry: DeadEntry, *, retired: bool) -> DeadLetter:
    return DeadLetter(
        id=f"{group}/{entry.dead_id}",
        group=group,
        event_id=id_of(entry.wire, entry.entry_id),
        topic=entry.topic,
        key=entry.key or None,
        reason=entry.reason,
        error=entry.error,
        attempts=entry.attempts,
        time=stored_at(entry.dead_id),
        wire=entry.wire,
        retired=retired,
    )


def _says(letter: DeadLetter, text: str) -> bool:
    hay = f"{letter.error}\n{letter.key or ''}\n{letter.wire.decode(errors='replace')}"
    return text.casefold() in hay.casefold()


async def _oldest_first(sources: Iterable[AsyncIterator[DeadLetter]]) -> AsyncIterator[DeadLetter]:
    """Several sequences that are in order as one."""
    heads = [(head, source) for source in sources if (head := await anext(source, None)) is not None]
    while heads:
        first = min(range(len(heads)), key=lambda n: heads[n][0].time)
        letter, source = heads.pop(first)
        yield letter
        following = await anext(source, None)
        if following is not None:
            heads.append((following, source))
