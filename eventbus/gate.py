"""The gate before an account of a third party: when may the next call leave?

All workers share it through Redis. It knows three reasons to wait: the service named a time (Retry-After), its budget
is used up, or its breaker is open because it fails again and again. It says so before the call, so that a service that
publishes its limits never has to refuse one of ours. What is called, and what an answer means, others know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys

HOLD = timedelta(seconds=10)
"""How far ahead a call may be booked; it waits for its turn in the worker's hand."""

How = Literal["ok", "bad", "broken", "none"]
"""How a call ended for the breaker: broken credentials open it at once, none says nothing about the service."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a failing service is left alone. Half of the rules are Svix' and Convoy's, see docs/decisions.

    row            failures one after another that open it
    window, calls, percent   or so many per cent of at least so many calls in one to two windows
    first, longest how long it stays open; twice as long each time its one probe fails
    """

    row: int = 5
    window: timedelta = timedelta(minutes=2.5)
    calls: int = 10
    percent: int = 70
    first: timedelta = timedelta(seconds=30)
    longest: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Cost:
    """One call against one budget: `name` of the budget, with its place; `spacing` between calls after `burst`."""

    name: str
    spacing: timedelta
    burst: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What the gate said.

    kind   go, probe (the one call that tries a failing service), or why not: floor, open, full
    after  go and probe: wait so long, then call. Else: ask again after this
    cost   full: which budget
    probe  its number among the account's probes, which counts only as long as there is no later one; 0: none
    """

    kind: Literal["go", "probe", "floor", "open", "full"]
    after: timedelta
    cost: Cost | None = None
    probe: int = 0

    @property
    def is_open(self) -> bool:
        """Whether the call may leave, in its turn."""
        return self.kind in ("go", "probe")


class Gate:
    """The gates of all accounts."""

    def __init__(self, connection: Connection, keys: ShardKeys) -> None:
        self._connection = connection
        self._keys = keys

    async def enter(self, account: str, costs: Sequence[Cost], *, probe: timedelta, hold: timedelta = HOLD) -> Turn:
        """Ask for a turn and book it. `report` how it ended when it `is_open`.

        probe  how long a call may take; nothing for who only asks, and will not call
        """
        gate = self._keys.gate(account)
        sums: list[int] = []
        for cost in costs:
            sums += [int(cost.spacing / timedelta(microseconds=1)), cost.burst]
        keys = [gate, *(f"{gate}:{cost.name}" for cost in costs)]
        said, wait, *probes = await self._connection.run("gate", keys, [_ms(hold), _ms(probe), *sums])
        kind, _, number = said.decode().partition(" ")
        return Turn(kind, timedelta(milliseconds=wait), costs[int(number) - 1] if number else None, *probes)

    async def report(
        self, account: str, turn: Turn, how: How, *, floor: timedelta = timedelta(), breaker: Breaker
    ) -> Literal["opened", "closed", ""]:
        """How a call ended. `floor`: nobody may call for so long. Says whether that opened or closed the breaker."""
        sums = [breaker.row, int(breaker.window.total_seconds()), breaker.calls, breaker.percent]
        times = [_ms(breaker.first), _ms(breaker.longest)]
        facts = [how, turn.probe, _ms(floor), *sums, *times]
        said = await self._connection.run("passed", [self._keys.gate(account)], facts)
        return "opened" if said == b"opened" else "closed" if said == b"closed" else ""


def _ms(time: timedelta) -> int:
    return int(time / timedelta(milliseconds=1))
