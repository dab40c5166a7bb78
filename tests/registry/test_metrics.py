"""What is counted of the bus: what alarms need to see from its beginning on."""

from __future__ import annotations

from typing import get_args

from eventbus import EventBus
from eventbus.audit import Kind
from registry.metrics import Metrics


def test_every_kind_of_gap_is_shown_before_the_first_one() -> None:
    """increase() does not see how a series comes to be: an alarm would sleep through the first gap."""
    metrics = Metrics()
    shown = {kind: metrics.registry.get_sample_value("event_bus_gaps_total", {"kind": kind}) for kind in get_args(Kind)}
    assert shown == dict.fromkeys(get_args(Kind), 0.0)


async def test_results_that_came_too_late_are_shown_from_0_for_every_group() -> None:
    metrics = Metrics()
    async with EventBus.open("memory://") as bus:
        await bus.declare("slack", ("vm.*",))
        backlog = await bus.backlog("slack")
        assert backlog is not None
        metrics.backlog("slack", backlog)
    assert metrics.registry.get_sample_value("event_bus_fenced_total", {"integration": "slack"}) == 0
