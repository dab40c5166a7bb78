"""Instants and the ids of a stream: half-open ranges, to the millisecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from eventbus.instant import first_id, last_id, stored_at

NINE = datetime(2026, 1, 12, 9, tzinfo=UTC)
NINE_MS = 1768208400000
MICROSECOND = timedelta(microseconds=1)


def test_an_id_says_when_its_entry_was_stored() -> None:
    assert stored_at(f"{NINE_MS}-17") == NINE


@pytest.mark.parametrize("ms", [0, 1, NINE_MS - 1, NINE_MS + 567, 9_999_999_999_999])
def test_the_time_of_an_entry_is_in_the_range_that_begins_with_it_and_not_in_the_one_that_ends_with_it(ms: int) -> None:
    time = stored_at(f"{ms}-0")
    assert first_id(time) == str(ms)
    assert last_id(time) == str(max(0, ms - 1))


def test_what_was_stored_in_the_millisecond_before_is_not_since() -> None:
    assert first_id(NINE + MICROSECOND) == str(NINE_MS + 1)
    assert last_id(NINE + MICROSECOND) == str(NINE_MS)


def test_every_zone_is_understood_and_none_is_refused() -> None:
    assert first_id(NINE.astimezone(timezone(timedelta(hours=-5)))) == str(NINE_MS)
    with pytest.raises(TypeError, match="a time needs a time zone"):
        first_id(datetime(2026, 1, 12, 9))  # noqa: DTZ001  that is what is refused


def test_without_a_time_a_range_is_open_and_before_the_epoch_it_begins_there() -> None:
    assert (first_id(None), last_id(None)) == ("-", "+")
    assert first_id(datetime(1900, 1, 1, tzinfo=UTC)) == "0"
