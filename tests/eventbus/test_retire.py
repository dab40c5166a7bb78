"""The end of a subscription: only what its operator was shown is thrown away. On both backends."""

from __future__ import annotations

import pytest

from eventbus import BacklogGrew, EventBus, UnknownGroup


async def test_a_retired_group_is_forgotten_with_the_backlog_that_was_shown(bus: EventBus) -> None:
    await bus.declare("old", ("vm.*",))
    for _ in range(3):
        await bus.publish("vm.created", {"vm_id": "1"})
    assert await bus.retire("old", 3) == 3
    assert await bus.groups() == {}
    assert await bus.backlog("old") is None
    assert await bus.audit() == []


async def test_a_backlog_that_grew_is_told_and_kept(bus: EventBus) -> None:
    await bus.declare("old", ("vm.*",))
    for _ in range(3):
        await bus.publish("vm.created", {"vm_id": "1"})
    with pytest.raises(BacklogGrew, match="old has 3 deliveries that are not handled, not 2: nothing was") as caught:
        await bus.retire("old", 2)
    assert caught.value.backlog == 3
    backlog = await bus.backlog("old")
    assert backlog is not None
    assert backlog.unread == 3


async def test_a_group_that_never_was_is_refused_naming_those_that_are(bus: EventBus) -> None:
    await bus.declare("slack", (">",))
    with pytest.raises(UnknownGroup, match="no group 'slak' is declared; declared: slack"):
        await bus.retire("slak", 0)
