"""What `eventbus explain` makes of a trail."""

from __future__ import annotations

from eventbus import EventBus
from tests.service.cli.conftest import Desk
from tests.service.cli.terminal import eventbus


def test_what_repeats_is_one_line_that_says_how_often_and_until_when(desk: Desk) -> None:
    desk.declare("post", "vm.*")
    event_id = desk.publish("vm.created", vm_id="1")

    async def wait(bus: EventBus) -> None:
        for _ in range(17):
            await bus.trail.note(event_id, "post", {"outcome": "waits", "error": "post is failing", "attempt": 1})
        await bus.trail.note(event_id, "post", {"outcome": "delivered", "attempt": 1})

    desk.do(wait)
    told = eventbus("explain", event_id).stdout
    assert told.count("post is failing") == 1
    assert "      17 times until " in told
    assert told.count(" times until ") == 1
