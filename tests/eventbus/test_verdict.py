"""What becomes of a delivery: a table from what the handler raised to what is done, and texts that can't do harm."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from eventbus import Backoff, InvalidEvent, Options, Refused, TryLater
from eventbus.errors import UnknownVersion
from eventbus.verdict import PARK, Again, Bury, verdict

STEADY = timedelta(seconds=8)
OPTIONS = Options(max_attempts=3, backoff=Backoff(STEADY, STEADY))
SOON, LATE = timedelta(seconds=1), timedelta(hours=1)
FILE = os.fsdecode(b"\xff.txt")
"""A file name that is no UTF-8, as `open` has it in its errors: with a lone surrogate, which UTF-8 can't write."""


@pytest.fixture(autouse=True)
def _without_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 1.0)


@pytest.mark.parametrize(
    ("error", "attempt", "decided"),
    [
        (ValueError("wrong"), 1, Again(STEADY, "ValueError: wrong")),
        (ValueError("wrong"), 2, Again(STEADY, "ValueError: wrong")),
        (ValueError("wrong"), 3, Bury("exhausted", "ValueError: wrong")),
        (ValueError("wrong"), 4, Bury("exhausted", "ValueError: wrong")),
        (Refused("no such channel"), 1, Bury("rejected", "no such channel")),
        (InvalidEvent("data.n: missing"), 1, Bury("invalid", "data.n: missing")),
        (UnknownVersion("version 9"), 99, Again(PARK, "version 9", counts=False, outcome="parked")),
        (TryLater("busy"), 1, Again(STEADY, "busy")),
        (TryLater("busy"), 3, Bury("exhausted", "busy")),
        (TryLater("busy", after=SOON), 1, Again(STEADY, "busy")),
        (TryLater("busy", after=LATE), 1, Again(LATE, "busy")),
        (TryLater("busy", after=SOON, counts=False), 99, Again(SOON, "busy", counts=False)),
        (TryLater("busy", counts=False), 99, Again(STEADY, "busy", counts=False)),
        (TryLater("busy", after=LATE, pause=True), 1, Again(LATE, "busy", pause=LATE)),
        (TryLater("busy", pause=True), 1, Again(STEADY, "busy", pause=STEADY)),
    ],
)
def test_every_way_an_attempt_can_fail_is_decided(error: Exception, attempt: int, decided: Bury | Again) -> None:
    assert verdict(error, attempt, OPTIONS) == decided


@pytest.mark.parametrize("attempt", [1, 3])
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (FileNotFoundError, r"FileNotFoundError: \udcff.txt"),
        (Refused, r"\udcff.txt"),
        (TryLater, r"\udcff.txt"),
        (InvalidEvent, r"\udcff.txt"),
        (UnknownVersion, r"\udcff.txt"),
    ],
)
def test_a_text_that_utf8_can_not_write_is_shown_with_escapes(make: type[Exception], text: str, attempt: int) -> None:
    assert verdict(make(FILE), attempt, OPTIONS).text == text


class Silent(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError("a fault in the text of a fault")


class Wordless(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]  # what a foreign library may do all the same


@pytest.mark.parametrize("make", [Silent, Wordless])
def test_an_error_that_can_not_be_shown_is_named(make: type[Exception]) -> None:
    shown = f"{make.__name__}: (it can't be shown)"

    assert verdict(make(), 1, OPTIONS) == Again(STEADY, shown)
    assert verdict(make(), 3, OPTIONS) == Bury("exhausted", shown)
