"""What `| name` and `is name` may do to a value. Each is bounded whatever the value is, and reads nothing else.

A value is JSON: text, number, true, false, null, list or mapping. What can't be answered is `Unknown`, with the reason;
it is never an exception, since an event must not be able to break a template.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeGuard

Value = Any
"""JSON, or Unknown."""

MAX_TEXT = 65_536
"""Characters of any text that a template makes."""
MAX_ITEMS = 1_000
"""Entries that `items` gives of a mapping."""
MAX_BITS = 10_000
"""Of a number in decimals: Python refuses to write those of more than 4,300 digits (sys.int_info)."""
ENDING = "..."


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that is not there, or a question that has no answer.

    reason      for people: `data.environment is missing`
    is_mistake  the template asks what no event can answer, such as text + 1
    is_cut      the event had an answer that was not kept: no `default` and no `is defined` may guess it
    """

    reason: str
    is_mistake: bool = False
    is_cut: bool = False


def is_cut(value: Value) -> TypeGuard[Unknown]:
    """Whether it was there, and was not kept."""
    return isinstance(value, Unknown) and value.is_cut


@dataclass(frozen=True, slots=True)
class Word:
    """A filter or a test: what it does, and how many arguments it takes, least and most.

    takes_unknown  it is asked even when the value is Unknown
    """

    does: Callable[..., Value]
    arguments: tuple[int, int] = (0, 0)
    takes_unknown: bool = False


def as_text(value: Value, limit: int = MAX_TEXT) -> str:
    """A value as people read it, cut at `limit`: nothing for null, 1834 for 1834.0, JSON for lists and mappings."""
    if value is None or isinstance(value, Unknown):
        return ""
    if isinstance(value, str):
        return value[:limit]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        return hex(value)[:limit]
    return str(value) if isinstance(value, int | float) else as_json(value, limit)


def as_json(value: Value, limit: int = MAX_TEXT) -> str:
    """A value as JSON on one line, cut at `limit`."""
    return bounded(json.JSONEncoder(ensure_ascii=False).iterencode(value), limit)


def bounded(pieces: Iterable[str], limit: int = MAX_TEXT) -> str:
    """The pieces as one text, without asking for more of them than fit."""
    found, left = [], limit
    for piece in pieces:
        found.append(piece[:left])
        left -= len(piece)
        if left <= 0:
            break
    return "".join(found)


def cut(text: str, length: int) -> str:
    """The text, or its beginning with ... at the end: `length` characters at most."""
    if len(text) <= length:
        return text
    return text[: max(0, length - len(ENDING))] + ENDING[:length]


def kind(value: Value) -> str:
    """What a value is, for people."""
    if value is None:
        return "null"
    names: dict[type, str] = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "a mapping")


def is_number(value: Value) -> bool:
    """JSON's numbers; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


# -- filters ---------------------------------------------------------------------------------------------------------


def _default(value: Value, instead: Value) -> Value:
    if is_cut(value):
        return value
    return instead if value is None or value == "" or isinstance(value, Unknown) else value


def _truncate(value: Value, length: Value) -> Value:
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        return Unknown(f"truncate takes a number of characters, not {as_text(length, 40)!r}", is_mistake=True)
    return cut(as_text(value), length)


def _duration(value: Value) -> Value:
    """Milliseconds as the two largest units."""
    if not is_number(value) or not 0 <= value < 1e15:
        return Unknown(f"duration takes milliseconds, not {kind(value)}", is_mistake=not is_number(value))
    if value < 1000:
        return f"{value:.0f} ms" if value >= 10 or value == int(value) else f"{value:.1f} ms"
    if value < 60_000:
        return f"{value / 1000:.1f}".removesuffix(".0") + " s"
    seconds = int(value // 1000)
    for size, unit, smaller_size, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // smaller_size
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    raise AssertionError("less than a minute was answered above")


def _round(value: Value, digits: Value = 0) -> Value:
    if not is_number(value) or not is_number(digits) or not 0 <= digits <= 15 or value in (_INFINITE, -_INFINITE):
        return Unknown(f"round takes a number and 0 to 15 digits, not {kind(value)}", is_mistake=True)
    if value != value:  # NaN
        return value
    return round(value, int(digits)) if digits else round(value)


_INFINITE = float("inf")


def _join(value: Value, between: Value = ", ") -> Value:
    if not isinstance(value, list):
        return Unknown(f"join takes a list, not {kind(value)}", is_mistake=True)
    separator = as_text(between, 100)
    return bounded(as_text(item) if not n else separator + as_text(item) for n, item in enumerate(value))


def _length(value: Value) -> Value:
    if not isinstance(value, str | list | dict):
        return Unknown(f"length takes text, a list or a mapping, not {kind(value)}", is_mistake=True)
    return len(value)


def _at(place: int, word: str) -> Callable[[Value], Value]:
    def taken(value: Value) -> Value:
        if not isinstance(value, list | str):
            return Unknown(f"{word} takes a list, not {kind(value)}", is_mistake=True)
        return value[place] if value else Unknown("the list is empty")

    return taken


def _items(value: Value) -> Value:
    if not isinstance(value, dict):
        return Unknown(f"items takes a mapping, not {kind(value)}", is_mistake=True)
    return [[name, of] for name, of in islice(value.items(), MAX_ITEMS)]


FILTERS: Mapping[str, Word] = {
    "default": Word(_default, (1, 1), takes_unknown=True),
    "duration": Word(_duration),
    "first": Word(_at(0, "first")),
    "items": Word(_items),
    "join": Word(_join, (0, 1)),
    "json": Word(as_json),
    "last": Word(_at(-1, "last")),
    "length": Word(_length),
    "lower": Word(lambda value: as_text(value).lower()[:MAX_TEXT]),
    "round": Word(_round, (0, 1)),
    "trim": Word(lambda value: as_text(value).strip()),
    "truncate": Word(_truncate, (1, 1)),
    "upper": Word(lambda value: as_text(value).upper()[:MAX_TEXT]),
}


def _defined(value: Value) -> Value:
    return value if is_cut(value) else not isinstance(value, Unknown)


TESTS: Mapping[str, Word] = {
    "defined": Word(_defined, takes_unknown=True),
    "none": Word(lambda value: value is None),
    "number": Word(is_number),
    "string": Word(lambda value: isinstance(value, str)),
    "startswith": Word(lambda value, start: as_text(value).startswith(as_text(start)), (1, 1)),
    "endswith": Word(lambda value, end: isinstance(value, str) and value.endswith(as_text(end)), (1, 1)),
}
