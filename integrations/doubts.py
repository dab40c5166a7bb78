"""Calls in doubt, as an adapter sees them: what nobody knows to be done, and what a person says of it.

An adapter that people can answer through lists them and passes the answer on; the registry, which makes these, writes
it into the ledger and lets the delivery go on. Who may answer is for the adapter to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

As = Literal["done", "resend"]
"""It was made; or it was not, and shall be sent again."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A call that was cut off, to a service that can't be asked about it.

    id     names it, as in `eventbus unknown resolve ID`
    group  the integration, with its target where it has several
    since  when it was parked
    """

    id: str
    group: str
    topic: str
    event_id: str
    error: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of a doubt, and who said so."""

    how: As
    by: str
    at: datetime


class Doubts(Protocol):
    """All of them. Every method raises errors of the bus (`eventbus.errors`)."""

    async def newest(self, most: int) -> tuple[Sequence[Doubt], int]:
        """The newest ones, the newest last, and how many there are in all."""
        ...

    async def resolve(self, doubt_id: str, event_id: str, how: As, by: str) -> Resolved | None:
        """Say what became of one. Returns what holds: this, or what somebody said before; None where nobody knows."""
        ...
