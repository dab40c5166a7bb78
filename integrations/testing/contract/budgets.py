"""Rule 15: calls that are spaced by the declared budgets never meet a limit of the service.

Hundreds of calls at a real pace would take minutes. So it is worked out when the gate lets each of 200 calls leave that
are asked for at once, and each is made at its time by the fake's clock: the budgets, the places and the fake's limits
are the real ones, only the waiting is left out. Calls that leave at the same time are made together.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any

import pytest

from eventbus import Event
from integrations.base import Delivery, Integration
from integrations.errors import IntegrationError
from integrations.testing.contract.bench import Bench, not_applicable
from integrations.testing.fake import FakeService
from integrations.testing.rig import Rig
from integrations.testing.rules import rule
from registry.act import Act

EVENTS = 200
LATE = 0.1
"""Every second call arrives so many seconds after it left: what counts for a service is when it gets them."""


class Clock:
    """Stands in for the module `time` in a fake's module: `monotonic` says what the test says."""

    def __init__(self, now: float) -> None:
        self.now = now

    def monotonic(self) -> float:
        """Where the limits of a fake look."""
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class BudgetRules(Bench):
    """Only what the manifest or the settings declare can be tried."""

    @rule(15)
    async def test_two_hundred_events_within_the_budget_meet_no_limit(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        events = [self.another(number) for number in range(EVENTS)]
        first = rig.delivery("delivery-0")
        budgets = rig.adapter.budgets(events[0], first)
        if not budgets:
            not_applicable("it declares no budget")
        self.keep_limits(rig.service)
        clock = _clock_of(rig.service, monkeypatch)
        start, refused = clock.now, []
        times = _times(rig.adapter, [(event, rig.delivery(f"delivery-{n}")) for n, event in enumerate(events)])
        arrivals = sorted((round(at + LATE * (n % 2), 6), n) for n, at in enumerate(times))
        for at, together in groupby(arrivals, key=lambda one: one[0]):
            clock.now = start + at
            results = await asyncio.gather(*(rig.outcome(events[n], f"delivery-{n}") for _, n in together))
            refused += [result for result in results if isinstance(result, IntegrationError)]
        names = ", ".join(budget.name for budget in budgets)
        assert not refused, f"spaced by the budget {names}, {len(refused)} of {EVENTS} calls failed: {refused[0]!r}"
        assert len(rig.service.effects()) == EVENTS, f"{EVENTS} events made {len(rig.service.effects())} effects"
        assert await self._refuses(rig), "the fake refuses nothing that comes too fast: see Bench.keep_limits"

    async def _refuses(self, rig: Rig) -> bool:
        """Whether the fake has limits at all: without, nothing was proven. The clock stands still."""
        for number in range(EVENTS):
            result = await rig.outcome(self.another(EVENTS + number), f"delivery-{EVENTS + number}")
            if isinstance(result, IntegrationError):
                return True
        return False


def _times(adapter: Integration[Any], calls: Sequence[tuple[Event[Any], Delivery]]) -> list[float]:
    """When the gate lets each call leave that is asked for now, in seconds: GCRA, as `gate.lua` has it."""
    arrival: dict[str, float] = {}
    times = []
    for event, delivery in calls:
        costs = Act(adapter.manifest.name, adapter, event, delivery, timedelta(seconds=1)).costs()
        waits = (arrival.get(cost.name, 0) - (cost.burst - 1) * cost.spacing.total_seconds() for cost in costs)
        at = max([0.0, *waits])
        for cost in costs:
            arrival[cost.name] = max(arrival.get(cost.name, 0), at) + cost.spacing.total_seconds()
        times.append(at)
    return times


def _clock_of(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock for every module that the fake is written in."""
    clock = Clock(time.monotonic())
    own = [sys.modules[cls.__module__] for cls in type(service).__mro__ if issubclass(cls, FakeService)]
    for module in own:
        if vars(module).get("time") is time and module.__name__ != FakeService.__module__:
            monkeypatch.setattr(module, "time", clock)
    return clock
