"""From the counters of a shard to what is missing: the sums, their kinds and their ranges."""

from __future__ import annotations

from typing import Any

import pytest

from eventbus.audit import Gap, gaps, passed
from eventbus.redis.history import Books, GroupBooks

# 5 trimmed, 15 in the log, 20 numbered.
WHOLE = Books(sequence=20, trimmed=5, length=15, first=6, last=20, undeclared=[], groups=[])
# Started behind number 2 and was given all up to 12.
GROUP = GroupBooks("g", True, start=2, holes=0, past=0, done=4, dead=1, skipped=2, pending=3, given=12)


def with_group(**changes: Any) -> Books:
    return WHOLE._replace(groups=[GROUP._replace(**changes)])


def test_where_all_adds_up_there_is_no_gap() -> None:
    assert gaps(with_group(), seen=20) == []


def test_an_empty_log_that_never_held_anything_has_no_gap() -> None:
    assert gaps(Books(0, 0, 0, 0, 0, [], [])) == []


def test_a_log_that_was_trimmed_to_nothing_has_no_gap() -> None:
    assert gaps(Books(20, 20, 0, 0, 0, [], [])) == []


def test_numbers_that_were_seen_and_are_not_given_out_yet_were_lost() -> None:
    assert gaps(WHOLE, seen=23) == [Gap("rolled back", None, 21, 23, 3)]


@pytest.mark.parametrize(
    ("changes", "first", "last", "count"),
    [
        ({"length": 12, "first": 9}, 6, 8, 3),
        ({"length": 12, "last": 17}, 18, 20, 3),
        ({"length": 12}, 6, 20, 3),
        ({"length": 12, "first": 7}, 6, 20, 3),
        ({"length": 0, "first": 0, "last": 0}, 6, 20, 15),
    ],
    ids=["front", "end", "middle", "front and middle", "all"],
)
def test_deleted_events_are_placed_as_narrowly_as_is_sure(
    changes: dict[str, Any], first: int, last: int, count: int
) -> None:
    assert gaps(WHOLE._replace(**changes)) == [Gap("deleted", None, first, last, count)]


def test_more_entries_than_numbers_are_foreign() -> None:
    assert gaps(WHOLE._replace(length=17)) == [Gap("foreign", None, 6, 20, 2)]


@pytest.mark.parametrize("counter", ["done", "dead", "skipped", "pending", "start"])
def test_every_way_a_delivery_may_stand_is_counted(counter: str) -> None:
    value = getattr(GROUP, counter)
    (less,) = gaps(with_group(**{counter: value - 1}))
    (more,) = gaps(with_group(**{counter: value + 1}))
    assert (less.kind, less.group, less.last, less.count) == ("unhandled", "g", 12, 1)
    assert (more.kind, more.group, more.last, more.count) == ("uncounted", "g", 12, 1)
    assert (less.first, more.first) == ((2, 4) if counter == "start" else (3, 3)), "the first after its start"


@pytest.mark.parametrize(("passed", "found"), [(0, []), (2, []), (3, [Gap("unhandled", "g", 3, 12, 1)])])
def test_what_was_deleted_before_a_group_began_is_not_missed_by_it(passed: int, found: list[Gap]) -> None:
    assert gaps(with_group(holes=2, done=4 - passed)) == found


@pytest.mark.parametrize(
    ("changes", "is_past"),
    [
        ({}, True),
        ({"done": 2}, True),
        ({"past": 13}, False),
        ({"done": 1}, False),
        ({"done": 5}, False),
        ({"holes": 0}, False),
        ({"has_place": False}, False),
    ],
    ids=["met none", "met both", "not that far", "too few", "too many", "none", "no place"],
)
def test_a_group_is_past_its_holes_when_it_has_come_that_far_and_misses_no_more(
    changes: dict[str, Any], is_past: bool
) -> None:
    books = with_group(**{"holes": 2, "past": 12, **changes})
    assert passed(books) == (books.groups if is_past else [])


def test_a_group_without_a_place_is_named_and_its_sums_are_not_looked_at() -> None:
    assert gaps(with_group(has_place=False, pending=0, given=0)) == [Gap("no place", "g", 3, 0, 0)]


def test_all_that_is_wrong_is_told_at_once() -> None:
    books = with_group(done=3)._replace(length=14)
    assert [gap.kind for gap in gaps(books, seen=21)] == ["rolled back", "deleted", "unhandled"]


def test_a_gap_says_what_and_where_to_people() -> None:
    assert Gap("rolled back", None, 1207, 1247, 41).text == (
        "Redis lost its newest events: sequence 1,207 to 1,247 (41) were stored and are gone"
    )
    assert "3 events were deleted" in Gap("deleted", None, 6, 8, 3).text
    assert "2 entries that were not published" in Gap("foreign", None, 6, 20, 2).text
    assert "group g neither finished nor holds 1 " in Gap("unhandled", "g", 3, 12, 1).text
    assert "group g finished 1 " in Gap("uncounted", "g", 3, 12, 1).text
    assert "group g is declared but has no place" in Gap("no place", "g", 3, 0, 0).text
