"""Windows of time in which a route is active or mute: Alertmanager's time intervals.

Its semantics (prometheus/alertmanager, timeinterval/timeinterval.go): within one interval every list that is given must
contain the time, and one entry of a list is enough; of several intervals one is enough. Days, months and years include
both ends, times exclude the end. Pure: the time is handed in.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

LONGEST = 366
"""Days that are looked ahead for the end of a window."""

_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = tuple(name.lower() for name in calendar.month_name)
_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00")


def _minute(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise ValueError("is no time of day: write 09:00, or 24:00 for the end of the day, in quotes")
    return text


def _location(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone of this machine; use a name such as Europe/Berlin") from None
    return name


def _range(value: Any, names: Sequence[str], least: int, most: int, what: str) -> tuple[int, int]:
    """`monday:friday`, `1:5`, `2026` as two numbers."""
    parts = str(value).lower().split(":")
    numbers = [_number(part.strip(), names) for part in parts]
    if len(parts) > 2 or not all(number is not None and least <= number <= most for number in numbers):
        raise ValueError(f"is no {what} and no range of two, with a colon between them and in quotes")
    first, last = numbers[0], numbers[-1]
    assert first is not None
    assert last is not None
    return first, last


def _number(part: str, names: Sequence[str]) -> int | None:
    if part in names and part:
        return names.index(part)
    return int(part) if re.fullmatch(r"-?[0-9]{1,4}", part) else None


def _forwards(found: tuple[int, int]) -> tuple[int, int]:
    if found[0] > found[1]:
        raise ValueError("ends before it begins: write it as two ranges")
    return found


def _weekdays(value: Any) -> tuple[int, int]:
    if any(part.strip().lstrip("-").isdigit() for part in str(value).split(":")):
        raise ValueError("is no weekday: write monday, or monday:friday")
    return _forwards(_range(value, _WEEKDAYS, 0, 6, "weekday"))


def _months(value: Any) -> tuple[int, int]:
    return _forwards(_range(value, _MONTHS, 1, 12, "month"))


def _years(value: Any) -> tuple[int, int]:
    return _forwards(_range(value, (), 1, 9999, "year"))


def _days(value: Any) -> tuple[int, int]:
    """Negative days count from the end of the month: -1 is its last."""
    first, last = _range(value, (), -31, 31, "day")
    if first == 0 or last == 0:
        raise ValueError("days are 1 to 31, or -1 to -31 from the end of the month")
    if first < 0 < last:
        raise ValueError("begins from the end of the month, so it must end from there too")
    if (first + 28 if first < 0 else first) > (last + 28 if last < 0 else last):
        raise ValueError("ends before it begins: write it as two ranges")
    return first, last


Range = tuple[int, int]


class TimeRange(BaseModel):
    """Part of a day."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    start_time: Annotated[str, AfterValidator(_minute)] = Field(description="The first minute, such as 09:00")
    end_time: Annotated[str, AfterValidator(_minute)] = Field(
        description="The minute after the last; 24:00 is the end of the day"
    )

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.minutes[0] >= self.minutes[1]:
            raise ValueError("ends before it begins: a range over midnight is two, one to 24:00 and one from 00:00")
        return self

    @property
    def minutes(self) -> Range:
        """Its ends in minutes of the day."""
        start, end = (60 * int(text[:2]) + int(text[3:]) for text in (self.start_time, self.end_time))
        return start, end


class TimeInterval(BaseModel):
    """A set of times; what is left out does not narrow it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    times: tuple[TimeRange, ...] | None = Field(default=None, min_length=1, description="Parts of the day")
    weekdays: tuple[Annotated[Range, BeforeValidator(_weekdays)], ...] | None = Field(
        default=None, min_length=1, description="Such as monday:friday"
    )
    days_of_month: tuple[Annotated[Range, BeforeValidator(_days)], ...] | None = Field(
        default=None, min_length=1, description="Such as 1:5; -1 is the last day"
    )
    months: tuple[Annotated[Range, BeforeValidator(_months)], ...] | None = Field(
        default=None, min_length=1, description="Such as may:august, or 1:3"
    )
    years: tuple[Annotated[Range, BeforeValidator(_years)], ...] | None = Field(
        default=None, min_length=1, description="Such as 2026:2028"
    )
    location: Annotated[str, AfterValidator(_location)] = Field(
        default="UTC", description="Whose time is meant, such as Europe/Berlin"
    )

    def contains(self, instant: datetime) -> bool:
        """Whether an aware time lies in it."""
        local = instant.astimezone(ZoneInfo(self.location))
        return (
            self._has_minute(local.hour * 60 + local.minute)
            and self._has_day(local)
            and _within(self.months, local.month)
            and _within(self.weekdays, (local.weekday() + 1) % 7)
            and _within(self.years, local.year)
        )

    def _has_minute(self, minute: int) -> bool:
        return self.times is None or any(start <= minute < end for start, end in (part.minutes for part in self.times))

    def _has_day(self, local: datetime) -> bool:
        length = calendar.monthrange(local.year, local.month)[1]
        ranges = [(_of_month(first, length), _of_month(last, length)) for first, last in self.days_of_month or ()]
        return self.days_of_month is None or _within(ranges, local.day)

    def changes(self, after: datetime) -> Iterator[datetime]:
        """Every later time at which it may begin or end, day by day, as UTC."""
        zone = ZoneInfo(self.location)
        today = after.astimezone(zone).date()
        minutes = {0} | {minute for part in self.times or () for minute in part.minutes if minute < 24 * 60}
        for n in range(LONGEST + 1):
            midnight = datetime.combine(today + timedelta(days=n), time(), zone)
            following = datetime.combine(today + timedelta(days=n + 1), time(), zone)
            # A day that sets its clock may begin and end a window at the change itself, on a quarter of an hour.
            steps = minutes if midnight.utcoffset() == following.utcoffset() else minutes | set(range(0, 24 * 60, 15))
            instants = (_instant(midnight, minute, fold) for minute in steps for fold in (0, 1))
            yield from sorted({instant for instant in instants if instant > after})


def contains(intervals: Sequence[TimeInterval], instant: datetime) -> bool:
    """Whether one of them contains the time."""
    return any(interval.contains(instant) for interval in intervals)


def next_change(intervals: Sequence[TimeInterval], now: datetime) -> datetime | None:
    """When the time will be outside of them if it is inside now, or the other way; None: not within a year."""
    return _next_change(tuple(intervals), now.replace(second=0, microsecond=0))  # windows begin and end with a minute


@lru_cache(maxsize=1024)  # every event of a muted route asks for it, and a long window takes milliseconds
def _next_change(intervals: tuple[TimeInterval, ...], now: datetime) -> datetime | None:
    state = contains(intervals, now)
    firsts = (
        next((at for at in interval.changes(now) if contains(intervals, at) is not state), None)
        for interval in intervals
    )
    return min((at for at in firsts if at is not None), default=None)


def _within(ranges: Sequence[Range] | None, number: int) -> bool:
    return ranges is None or any(first <= number <= last for first, last in ranges)


def _of_month(day: int, length: int) -> int:
    """A day counted from either end; one past the end stays past it as a beginning, and is no harm as an end."""
    return length + day + 1 if day < 0 else day


def _instant(midnight: datetime, minute: int, fold: int) -> datetime:
    hours, minutes = divmod(minute, 60)
    return midnight.replace(hour=hours, minute=minutes, fold=fold).astimezone(UTC)
