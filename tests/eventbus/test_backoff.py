"""The back-off: doubled each time, bounded, with jitter over its upper half."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eventbus import Backoff

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (9, 256), (10, 300), (10_000, 300)])
def test_the_longest_wait_doubles_up_to_the_bound(attempt: int, seconds: int) -> None:
    assert Backoff().delay(attempt, chance=1) == seconds * SECOND
    assert Backoff().delay(attempt, chance=0) == seconds * SECOND / 2


@pytest.mark.parametrize(
    ("base", "most", "attempt", "longest"),
    [
        (timedelta(minutes=2), timedelta(hours=1), 41, timedelta(hours=1)),
        (timedelta(minutes=2), timedelta(hours=1), 10_000, timedelta(hours=1)),
        (timedelta(days=1), timedelta.max, 10_000, timedelta.max),
        (timedelta(), timedelta(hours=1), 10_000, timedelta()),
        (timedelta(hours=2), timedelta(hours=1), 1, timedelta(hours=1)),
        (timedelta(hours=2), timedelta(), 10_000, timedelta()),
    ],
    ids=["minutes", "minutes, ten thousand times", "without a bound", "no base", "base above the bound", "no wait"],
)
def test_no_base_and_no_number_of_attempts_is_too_much(
    base: timedelta, most: timedelta, attempt: int, longest: timedelta
) -> None:
    assert longest / 2 <= Backoff(base, most).delay(attempt) <= longest


def test_the_jitter_lies_in_the_upper_half() -> None:
    waits = {Backoff(base=SECOND).delay(1) for _ in range(200)}

    assert len(waits) > 100
    assert all(SECOND / 2 <= wait <= SECOND for wait in waits)


def test_it_is_never_nothing() -> None:
    assert Backoff().delay(1, chance=0) > timedelta()
