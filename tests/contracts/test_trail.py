"""What a trail holds: one line for what repeats, in the order of the first time, within its bounds."""

from __future__ import annotations

from typing import Any

import pytest

from eventbus import EventBus
from eventbus.trail import MAX_LINES

WAITS: dict[str, Any] = {"outcome": "waits", "error": "it is failing", "attempt": 1}


async def lines(bus: EventBus) -> list[tuple[str, object, int]]:
    return [(str(one["account"]), one["outcome"], int(str(one["times"]))) for one in await bus.trail.read("e")]


async def test_what_repeats_is_one_line_with_a_count_and_the_time_of_the_first_and_the_last(bus: EventBus) -> None:
    await bus.trail.note("e", "slack", {**WAITS, "latency_ms": 0, "requests": []})
    (first,) = await bus.trail.read("e")
    assert (first["times"], "until" in first) == (1, False)
    for ms in range(1, 17):
        await bus.trail.note("e", "slack", {**WAITS, "latency_ms": ms, "requests": []})
    (line,) = await bus.trail.read("e")
    assert (line["times"], line["latency_ms"], line["requests"]) == (17, 16, [])
    assert line["at"] == first["at"]
    assert str(line["until"]) >= str(line["at"])


@pytest.mark.parametrize(
    "other",
    [{"outcome": "retry"}, {"error": "it is away"}, {"attempt": 2}, {"detail": "x"}],
    ids=["outcome", "error", "attempt", "detail"],
)
async def test_what_says_something_else_is_a_line_of_its_own_and_so_is_what_comes_after_it(
    bus: EventBus, other: dict[str, Any]
) -> None:
    for said in (WAITS, WAITS, {**WAITS, **other}, WAITS):
        await bus.trail.note("e", "slack", said)
    assert [times for _, _, times in await lines(bus)] == [2, 1, 1]


async def test_accounts_and_routes_that_take_turns_are_counted_each_for_itself(bus: EventBus) -> None:
    for _ in range(5):
        for account, route in (("slack", "a"), ("slack", "b"), ("slack", ""), ("slack.x", "a"), ("sla", "a")):
            await bus.trail.note("e", account, WAITS, route=route)
    assert [times for _, _, times in await lines(bus)] == [5] * 5
    assert [line["route"] for line in await bus.trail.read("e")] == ["a", "b", "", "a", "a"]


async def test_a_line_far_behind_is_not_looked_for(bus: EventBus) -> None:
    for account in ("slack", *(f"other-{n}" for n in range(20)), "slack"):
        await bus.trail.note("e", account, WAITS)
    assert [times for _, _, times in await lines(bus)] == [1] * 22


async def test_text_that_looks_like_a_line_is_text(bus: EventBus) -> None:
    odd = {**WAITS, "error": '"},"times":9,"at":"x"} \ud800 \u00e9\n'}
    for _ in range(2):
        await bus.trail.note("e", 'a","route":"b', odd)
    (line,) = await bus.trail.read("e")
    assert (line["times"], line["error"], line["account"]) == (2, odd["error"], 'a","route":"b')


async def test_the_oldest_lines_make_room_and_a_long_one_loses_its_requests(bus: EventBus) -> None:
    for number in range(MAX_LINES + 3):
        await bus.trail.note("e", "slack", {**WAITS, "attempt": number})
    found = await bus.trail.read("e")
    assert [line["attempt"] for line in found] == [*range(3, MAX_LINES + 3)]
    await bus.trail.note("long", "slack", {**WAITS, "error": "x" * 20_000, "requests": [{"answer": "y" * 20_000}]})
    (line,) = await bus.trail.read("long")
    assert "requests" not in line
    assert str(line["error"]) == "x" * 1000
