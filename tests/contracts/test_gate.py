"""What the gate promises, on both backends: budgets are never exceeded, a floor holds for all, one probe at a time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from eventbus.gate import Breaker, Cost, Gate, How, Turn
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from integrations.base import Budget

MS = timedelta(milliseconds=1)
HOWS: tuple[How, ...] = ("bad", "bad", "ok")
PROBE = timedelta(seconds=5)
QUICK = Breaker(row=3, calls=10, percent=70, first=20 * MS, longest=60 * MS)


@pytest.fixture
async def gate(url: str, namespace: str) -> AsyncIterator[Gate]:
    connection = await Connection.open(url)
    yield Gate(connection, ShardKeys(namespace))
    await connection.close()


async def enter(gate: Gate, *costs: Cost, hold: timedelta = timedelta(seconds=10)) -> Turn:
    return await gate.enter("acme", costs, probe=PROBE, hold=hold)


async def opened(gate: Gate) -> None:
    """Three failures in a row."""
    turns = [await enter(gate) for _ in range(3)]
    said = [await gate.report("acme", turn, "bad", breaker=QUICK) for turn in turns]
    assert said == ["", "", "opened"]


async def probe(gate: Gate) -> Turn:
    """The probe, as soon as there may be one."""
    async with asyncio.timeout(5):
        while (turn := await enter(gate)).kind != "probe":
            assert turn.kind == "open"
            await asyncio.sleep(turn.after.total_seconds())
    return turn


# -- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "burst"), [(5, 1), (5, 3), (5, 5), (1, 1)])
async def test_any_window_holds_at_most_the_budget(gate: Gate, count: int, burst: int) -> None:
    per = timedelta(seconds=60)
    budget = Budget("calls", count, per, burst)
    cost = Cost("calls", budget.spacing, burst)
    at = [(await enter(gate, cost, hold=timedelta(hours=1))).after.total_seconds() for _ in range(3 * count + 1)]
    assert sum(when == 0 for when in at) == burst
    # Times are those of the reservation, all asked within moments: a few milliseconds between them are forgiven.
    for first, behind in itertools.pairwise([at[n] for n in range(0, len(at), count)]):
        assert behind - first >= per.total_seconds() - 0.5, at


async def test_a_call_that_would_have_to_wait_too_long_books_nothing(gate: Gate) -> None:
    cost = Cost("calls", timedelta(seconds=4), 1)
    assert (await enter(gate, cost)).after == timedelta()
    waits = [(await enter(gate, cost, hold=5000 * MS)) for _ in range(4)]
    assert [turn.kind for turn in waits] == ["go", "full", "full", "full"]
    assert all(turn.cost == cost and timedelta(seconds=7) < turn.after <= timedelta(seconds=8) for turn in waits[1:])


async def test_a_call_is_booked_in_all_of_its_budgets_or_in_none(gate: Gate) -> None:
    account, channel = Cost("calls", 10 * MS, 1), Cost("messages:#ops", timedelta(hours=1), 1)
    assert (await enter(gate, account, channel)).is_open
    assert (await enter(gate, account, channel)).cost == channel
    assert (await enter(gate, account)).after < 15 * MS, "the refused call took nothing of the account's budget"


async def test_a_call_that_waits_for_one_budget_counts_in_the_others_when_it_leaves(gate: Gate) -> None:
    account, channel = Cost("calls", timedelta(seconds=1), 1), Cost("messages:#ops", timedelta(seconds=5), 1)
    assert [(await enter(gate, account, channel)).is_open for _ in range(2)] == [True, True]
    after = (await enter(gate, account)).after
    assert timedelta(seconds=5.5) < after <= timedelta(seconds=6)


async def test_places_have_a_budget_each(gate: Gate) -> None:
    for place in ("#ops", "#vms"):
        assert (await enter(gate, Cost(f"messages:{place}", timedelta(hours=1), 1))).after == timedelta()


async def test_a_budget_that_rested_gives_its_burst_and_no_more(gate: Gate) -> None:
    cost = Cost("calls", 20 * MS, 3)
    for _ in range(2):
        async with asyncio.timeout(5):
            while (await enter(gate, cost, hold=timedelta())).kind == "go":
                pass
        refused = await enter(gate, cost, hold=timedelta())
        assert refused.kind == "full"
        assert refused.after <= 20 * MS


# -- the floor --------------------------------------------------------------------------------------------------------


async def test_a_floor_holds_for_everybody_and_is_never_shortened(gate: Gate) -> None:
    turn = await enter(gate)
    await gate.report("acme", turn, "none", floor=timedelta(seconds=50), breaker=QUICK)
    await gate.report("acme", turn, "none", floor=timedelta(seconds=5), breaker=QUICK)
    held = await enter(gate)
    assert held.kind == "floor"
    assert timedelta(seconds=49) < held.after <= timedelta(seconds=50)
    other = await gate.enter("another", (), probe=PROBE)
    assert other.kind == "go"


async def after_the_floor(gate: Gate) -> Turn:
    """The call that goes ahead once a floor is over."""
    await gate.report("acme", await enter(gate), "none", floor=20 * MS, breaker=QUICK)
    async with asyncio.timeout(5):
        while (turn := await enter(gate)).kind == "floor":  # noqa: ASYNC110  time has to pass, in Redis
            await asyncio.sleep(turn.after.total_seconds())
    return turn


async def test_after_a_floor_one_call_goes_ahead_of_all_others(gate: Gate) -> None:
    ahead = await after_the_floor(gate)
    assert ahead.kind == "probe"
    others = await asyncio.gather(*(enter(gate) for _ in range(8)))
    assert {turn.kind for turn in others} == {"floor"}
    assert all(turn.after <= timedelta(seconds=0.5) for turn in others), "it may be answered any moment"


@pytest.mark.parametrize("how", ["ok", "bad", "none"])
async def test_unless_it_is_told_to_wait_again_all_may_call(gate: Gate, how: How) -> None:
    assert await gate.report("acme", await after_the_floor(gate), how, breaker=QUICK) == ""
    assert [(await enter(gate)).kind for _ in range(3)] == ["go"] * 3


async def test_told_to_wait_again_everybody_waits_and_one_goes_ahead_again(gate: Gate) -> None:
    ahead = await after_the_floor(gate)
    await gate.report("acme", ahead, "none", floor=timedelta(seconds=50), breaker=QUICK)
    held = await enter(gate)
    assert held.kind == "floor"
    assert timedelta(seconds=49) < held.after


async def test_who_went_ahead_does_not_lift_a_floor_that_a_late_answer_set(gate: Gate) -> None:
    late, ahead = await enter(gate), await after_the_floor(gate)
    await gate.report("acme", late, "none", floor=timedelta(seconds=50), breaker=QUICK)
    await gate.report("acme", ahead, "ok", breaker=QUICK)
    assert (await enter(gate)).kind == "floor"


# -- the breaker ------------------------------------------------------------------------------------------------------


async def test_failures_in_a_row_open_it_and_a_success_between_them_does_not(gate: Gate) -> None:
    for how in ("bad", "bad", "ok", "bad", "bad"):
        assert await gate.report("acme", await enter(gate), how, breaker=QUICK) == ""
    assert await gate.report("acme", await enter(gate), "bad", breaker=QUICK) == "opened"
    assert (await enter(gate)).kind == "open"


async def test_most_calls_failing_opens_it_though_some_succeed(gate: Gate) -> None:
    most = Breaker(row=9, calls=10, percent=60)
    said = [await gate.report("acme", await enter(gate), how, breaker=most) for how in HOWS * 4]
    assert said == [""] * 9 + ["opened", "", ""]


async def test_refused_credentials_open_it_at_once(gate: Gate) -> None:
    assert await gate.report("acme", await enter(gate), "broken", breaker=QUICK) == "opened"


async def test_what_says_nothing_of_the_service_changes_nothing(gate: Gate) -> None:
    for _ in range(20):
        assert await gate.report("acme", await enter(gate), "none", breaker=QUICK) == ""
    assert (await enter(gate)).kind == "go"


async def test_one_probe_at_a_time_and_its_success_closes_it(gate: Gate) -> None:
    await opened(gate)
    trying = await probe(gate)
    others = await asyncio.gather(*(enter(gate) for _ in range(8)))
    assert {turn.kind for turn in others} == {"open"}
    assert all(turn.after <= timedelta(seconds=0.5) for turn in others), "the probe may answer any moment"
    assert await gate.report("acme", trying, "ok", breaker=QUICK) == "closed"
    assert (await enter(gate)).kind == "go"


async def test_each_failed_probe_doubles_the_time_up_to_a_limit(gate: Gate) -> None:
    await opened(gate)
    slow = replace(QUICK, first=100 * MS, longest=350 * MS)
    waits = []
    for _ in range(3):
        trying = await probe(gate)
        assert await gate.report("acme", trying, "bad", breaker=slow) == ""
        waits.append((await enter(gate)).after)
    assert 100 * MS < waits[0] <= 200 * MS
    assert 200 * MS < waits[1] <= 350 * MS
    assert 200 * MS < waits[2] <= 350 * MS


async def test_the_probe_of_a_worker_that_died_is_given_out_again(gate: Gate) -> None:
    await opened(gate)
    async with asyncio.timeout(5):
        while (await gate.enter("acme", (), probe=30 * MS)).kind != "probe":  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # time has to pass, in Redis
    again = await probe(gate)
    assert again.kind == "probe"


@pytest.mark.parametrize("how", ["ok", "bad", "none"])
async def test_a_probe_that_has_a_successor_says_nothing_any_more(gate: Gate, how: How) -> None:
    await opened(gate)
    async with asyncio.timeout(5):
        while (stale := await gate.enter("acme", (), probe=30 * MS)).kind != "probe":  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # time has to pass, in Redis
    trying = await probe(gate)
    assert await gate.report("acme", stale, how, breaker=QUICK) == ""
    others = await asyncio.gather(*(enter(gate) for _ in range(4)))
    assert {turn.kind for turn in others} == {"open"}, "the later one is under way"
    assert await gate.report("acme", trying, "ok", breaker=QUICK) == "closed"


async def test_who_only_asks_takes_no_probe_its_word(gate: Gate) -> None:
    await opened(gate)
    async with asyncio.timeout(5):
        while (late := await gate.enter("acme", (), probe=30 * MS)).kind != "probe":  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # time has to pass, in Redis
        while (await gate.enter("acme", (), probe=timedelta())).kind != "probe":  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert await gate.report("acme", late, "ok", breaker=QUICK) == "closed"


async def test_late_results_of_calls_before_it_opened_change_nothing(gate: Gate) -> None:
    early = await enter(gate)
    await gate.report("acme", await enter(gate), "broken", breaker=replace(QUICK, first=10_000 * MS))
    for how in ("ok", "bad", "broken"):
        assert await gate.report("acme", early, how, breaker=Breaker(first=timedelta(hours=1))) == ""
    held = await enter(gate)
    assert (held.kind, held.after <= 10_000 * MS) == ("open", True)
