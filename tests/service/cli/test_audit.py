"""`eventbus audit`: for people, for cron and for machines, on a real Redis."""

from __future__ import annotations

import json

import pytest

from eventbus import EventBus
from tests.service.cli.conftest import Desk
from tests.service.cli.terminal import eventbus, on_a_terminal


@pytest.fixture
def books(desk: Desk) -> Desk:
    """Four events, the last tells of a dead letter; `slack` has done one, has one dead, and skipped two."""
    desk.publish("vm.created", vm_id="1")
    desk.publish("custom.x")
    desk.serve("slack", "vm.*")
    desk.publish("vm.created", vm_id="2")
    desk.serve("slack", "vm.*", refuse="no")
    return desk


async def _lose_the_first(bus: EventBus) -> None:
    keys = bus._shard.keys
    first = await bus._connection.do("XRANGE", keys.log, "-", "+", "COUNT", 1)
    await bus._connection.do("XDEL", keys.log, first[0][0])


async def _lose_the_place(bus: EventBus) -> None:
    await bus._connection.do("XGROUP", "DESTROY", bus._shard.keys.log, "slack")


def test_books_that_add_up_are_exit_code_0(books: Desk) -> None:
    done = eventbus("audit")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["LOG", "PUBLISHED", "TRIMMED", "IN", "THE", "LOG", "STATE"]
    published = int(lines[1].split()[2])
    assert lines[1].split() == ["shard", "0", str(published), "0", str(published), "✓", "adds", "up"]
    assert lines[3].split() == ["GROUP", "GIVEN", "DONE", "DEAD", "SKIPPED", "PENDING", "STATE"]
    assert lines[4].split()[2:] == ["1", "1", "2", "0", "✓", "adds", "up"]
    assert lines[-1] == "every event is accounted for"


def test_a_gap_is_told_as_a_range_and_exit_code_1(books: Desk) -> None:
    books.do(_lose_the_first)
    done = eventbus("audit")
    assert done.exit_code == 1
    assert "✗ 1 deleted" in done.stdout
    assert "gap: 1 events were deleted from the log by somebody else, within sequence 1 to 1\n" in done.stdout
    assert done.stdout.endswith("1 gap. To take note of them: eventbus audit --accept\n")


def test_a_gap_that_was_noted_is_a_gap_no_more(books: Desk) -> None:
    books.do(_lose_the_first)
    noted = eventbus("audit", "--accept")
    assert noted.exit_code == 0
    assert "noted: 1 events were deleted" in noted.stdout
    assert noted.stdout.endswith("every event is accounted for from now on\n")
    assert eventbus("audit").exit_code == 0


def test_a_lost_place_is_no_gap_to_take_note_of(books: Desk) -> None:
    books.do(_lose_the_place)
    for _ in range(2):
        done = eventbus("audit", "--accept")
        assert done.exit_code == 1
        assert "gap: group slack is declared but has no place in the log" in done.stdout
        assert "start a worker that serves it, or: eventbus groups retire slack\n" in done.stdout


def test_as_json_the_sums_of_each_shard_and_group_are_told(books: Desk) -> None:
    books.do(_lose_the_first)
    done = eventbus("audit", "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert (sorted(found), found["ok"]) == (["gaps", "ok", "shards"], False)
    (shard,) = found["shards"]
    assert shard["published"] == shard["in_log"] + 1
    (group,) = shard["groups"]
    assert (group["done"], group["dead"], group["skipped"], group["pending"]) == (1, 1, 2, 0)
    (gap,) = found["gaps"]
    assert (gap["kind"], gap["group"], gap["first"], gap["last"], gap["count"]) == ("deleted", None, 1, 1, 1)
    assert json.loads(eventbus("audit", "--json", "--accept").stdout)["gaps"][0]["accepted"] is True


def test_a_group_of_somebody_else_is_named(books: Desk) -> None:
    async def intrude(bus: EventBus) -> None:
        await bus._connection.do("XGROUP", "CREATE", bus._shard.keys.log, "stranger", "$")

    books.do(intrude)
    assert "not declared, so not audited, and trimming waits for them: stranger\n" in eventbus("audit").stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_nothing_is_wider_than_it(books: Desk, columns: int) -> None:
    shown = on_a_terminal(columns, "audit")
    assert max(map(len, shown.splitlines())) <= columns
    assert "every event is accounted for" in shown
