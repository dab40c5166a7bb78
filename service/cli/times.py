"""Times on the command line: `TIME` an instant, `SPAN` a length such as 1h30m, `SINCE` either, a length being ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class _Span(click.ParamType[timedelta]):
    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = _SPAN.fullmatch(value)
        if not value or found is None:
            self.fail(f"{value!r} is no span of time: write 90s, 15m, 2h, 1d or 1h30m", param, ctx)
        numbers = dict(zip(_UNITS.values(), (int(part or 0) for part in found.groups()), strict=True))
        try:
            return timedelta(**numbers)
        except OverflowError:
            self.fail(f"{value!r} is too long", param, ctx)


class _Time(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time: write it as 2026-01-12T09:00Z or 2026-01-12T09:00+01:00", param, ctx)
        if time.tzinfo is None:
            self.fail(f"{value!r} needs a time zone: end it with Z for UTC, or an offset such as +01:00", param, ctx)
        return time


class _Since(click.ParamType[datetime]):
    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, str) and _SPAN.fullmatch(value) and value:
            return datetime.now(UTC) - SPAN.convert(value, param, ctx)
        return TIME.convert(value, param, ctx)


SPAN = _Span()
TIME = _Time()
SINCE = _Since()
