"""Time intervals contain what Alertmanager's contain (its timeinterval_test.go has the same cases in other words)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from registry.routes.windows import TimeInterval, contains, next_change

OFFICE = [{"start_time": "09:00", "end_time": "17:00"}]


def interval(**given: Any) -> TimeInterval:
    return TimeInterval.model_validate(given)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "inside", "outside"),
    [
        ({}, ["2026-01-12T00:00", "2026-12-31T23:59"], []),
        ({"times": OFFICE}, ["2026-01-12T09:00", "2026-01-12T16:59"], ["2026-01-12T08:59", "2026-01-12T17:00"]),
        ({"times": [{"start_time": "22:00", "end_time": "24:00"}]}, ["2026-01-12T23:59"], ["2026-01-12T00:00"]),
        (
            {"weekdays": ["monday:friday"]},
            ["2026-01-12T12:00", "2026-01-16T12:00"],
            ["2026-01-17T12:00", "2026-01-18T12:00"],
        ),
        ({"weekdays": ["Sunday"]}, ["2026-01-18T12:00"], ["2026-01-17T12:00"]),
        (
            {"days_of_month": ["1:5", "-3:-1"]},
            ["2026-02-05T12:00", "2026-02-26T12:00"],
            ["2026-02-06T12:00", "2026-02-25T12:00"],
        ),
        ({"days_of_month": ["30:31"]}, ["2026-01-30T12:00"], ["2026-02-28T12:00"]),
        ({"days_of_month": ["-31:-28"]}, ["2026-02-01T12:00"], ["2026-02-02T12:00"]),
        (
            {"months": ["may:august", "12"]},
            ["2026-05-01T12:00", "2026-12-01T12:00"],
            ["2026-04-30T12:00", "2026-09-01T12:00"],
        ),
        ({"years": ["2026:2027", "2030"]}, ["2027-06-01T12:00", "2030-06-01T12:00"], ["2028-06-01T12:00"]),
        (
            {"times": OFFICE, "weekdays": ["monday"], "months": ["january"]},
            ["2026-01-12T12:00"],
            ["2026-01-12T08:00", "2026-01-13T12:00", "2026-02-02T18:00"],
        ),
        ({"times": OFFICE, "location": "Australia/Sydney"}, ["2026-01-11T22:00"], ["2026-01-12T12:00"]),
    ],
)
def test_what_an_interval_contains(given: dict[str, Any], inside: list[str], outside: list[str]) -> None:
    tested = interval(**given)
    assert [time for time in inside if not tested.contains(at(time))] == []
    assert [time for time in outside if tested.contains(at(time))] == []


@pytest.mark.parametrize(
    "given",
    [
        {"times": [{"start_time": "17:00", "end_time": "09:00"}]},
        {"times": [{"start_time": "9:00", "end_time": "17:00"}]},
        {"times": [{"start_time": "09:00", "end_time": "24:01"}]},
        {"times": [{"start_time": "09:00"}]},
        {"times": []},
        {"weekdays": ["friday:monday"]},
        {"weekdays": ["mon"]},
        {"weekdays": ["1:5"]},
        {"days_of_month": ["0"]},
        {"days_of_month": ["5:1"]},
        {"days_of_month": ["-1:5"]},
        {"days_of_month": ["32"]},
        {"days_of_month": ["1:2:3"]},
        {"months": ["december:january"]},
        {"months": ["13"]},
        {"years": ["2027:2026"]},
        {"location": "Mars/Olympus"},
        {"hours": ["9:17"]},
    ],
    ids=str,
)
def test_what_is_no_interval(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        interval(**given)


def test_a_window_ends_when_it_says() -> None:
    nights = [
        interval(times=[{"start_time": "22:00", "end_time": "24:00"}], location="Europe/Berlin"),
        interval(times=[{"start_time": "00:00", "end_time": "07:00"}], location="Europe/Berlin"),
    ]
    assert next_change(nights, at("2026-01-12T21:30")) == at("2026-01-13T06:00")
    assert next_change(nights, at("2026-01-13T06:00")) == at("2026-01-13T21:00")


def test_a_window_that_ends_in_the_hour_that_is_not_there_ends_with_it() -> None:
    early = [interval(times=[{"start_time": "01:00", "end_time": "02:30"}], location="Europe/Berlin")]
    assert next_change(early, at("2026-03-29T00:30")) == at("2026-03-29T01:00"), "02:00 there is 03:00 at once"


def test_a_window_without_an_end_has_none() -> None:
    assert next_change([interval()], at("2026-01-12T12:00")) is None
    assert next_change([interval(years=["2020"])], at("2026-01-12T12:00")) is None


RANGES = st.tuples(st.integers(0, 1439), st.integers(1, 1440)).filter(lambda r: r[0] < r[1])


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@given(
    st.lists(RANGES, min_size=1, max_size=3),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),  # noqa: DTZ001
)
def test_nothing_changes_before_the_next_change(ranges: list[tuple[int, int]], location: str, naive: datetime) -> None:
    times = [{"start_time": clock(start), "end_time": clock(end)} for start, end in ranges]
    windows, now = [interval(times=times, location=location)], naive.replace(tzinfo=UTC)
    change = next_change(windows, now)
    state = contains(windows, now)
    if change is not None:
        assert contains(windows, change) is not state
    steps = 48 * 60 // 7 if change is None else int((change - now) / timedelta(minutes=7))
    assert all(contains(windows, now + n * timedelta(minutes=7)) is state for n in range(min(steps, 400)))
