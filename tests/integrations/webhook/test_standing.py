"""When an endpoint has failed for too long."""

from __future__ import annotations

import pytest

from integrations.webhook.standing import Failing, Off, Standing

DAY = 86_400.0


def after(*failures: float) -> Failing:
    """The clock after failures at these days."""
    failing = None
    for day in failures:
        failing = Failing.after(failing, day * DAY)
    assert failing is not None
    return failing


def test_the_clock_starts_with_the_first_failure() -> None:
    assert after(3) == Failing(3 * DAY, 3 * DAY, 1)
    assert after(3, 3.5, 4) == Failing(3 * DAY, 4 * DAY, 3)


def test_a_day_without_an_attempt_starts_it_anew() -> None:
    assert after(0, 1, 2.01).since == 2.01 * DAY
    assert after(0, 7).too_long(5) is None, "two failures in a week are no week of failures"


@pytest.mark.parametrize(("days", "over"), [(5, True), (5.01, False), (0.5, True), (0, False)])
def test_it_is_too_long_when_the_days_are_full_and_never_for_none(days: float, over: bool) -> None:
    assert (after(0, 1, 2, 3, 4, 5).too_long(days) is not None) is over


def test_it_says_how_often_and_since_when() -> None:
    assert after(0, 1, 2).too_long(2) == "3 attempts since 1970-01-01 00:00+00:00 failed and none succeeded"


def test_off_is_what_counts_most() -> None:
    assert Standing().state == "on"
    assert Standing(failing=after(0)).state == "failing"
    assert Standing(failing=after(0), off=Off(0, "410")).state == "off"
