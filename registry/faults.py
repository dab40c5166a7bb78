"""What is wrong with a settings file, in words for people: `Fault`, `ConfigError`, and pydantic's errors put plainly.

Pure text. Apart from the name of an adapter, no value that the file or a variable gave is quoted, since any of them
may be a secret; the line tells the reader where to look.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

Loc = tuple[str | int, ...]
"""Where a value stands: ("integrations", "webhook", "endpoints", 0)."""

SCRUBBED_CHARACTERS = 4
"""Shorter values are not looked for in an adapter's error texts: they would match by accident."""

_LIST, _SECTION = "should be a list, one `- item` a line", "should be a section: keys and values below it"
_PLAINLY = {
    "string_type": "should be text: put it in quotes",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _SECTION,
    "mapping_type": _SECTION,
    "model_type": _SECTION,
}
"""pydantic's error types whose own words speak of Python."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. Line and column count from 1; 0 means the file as a whole."""

    line: int
    column: int
    path: Loc
    message: str

    @property
    def dotted(self) -> str:
        """`integrations.webhook.endpoints.0`"""
        return ".".join(map(str, self.path))


class ConfigError(Exception):
    """All that is wrong with a file, by line. Its text has one line per fault: `file:line: path: message`."""

    def __init__(self, file: str, faults: Iterable[Fault]) -> None:
        self.file = file
        self.faults = tuple(sorted(faults, key=lambda fault: (fault.line, fault.column)))
        super().__init__("\n".join(map(self._line, self.faults)))

    def _line(self, fault: Fault) -> str:
        where = f"{self.file}:{fault.line}" if fault.line else self.file
        return ": ".join(part for part in (where, fault.dotted, fault.message) if part)


def describe(detail: ErrorDetails, value: object) -> str:
    """What pydantic found wrong with a value, without quoting it: pydantic's own texts do not, ours must not."""
    if detail["type"] == "missing":
        return "is required and missing"
    if value is None:
        return "is empty: give it a value, or remove the line to keep the default"
    if detail["type"] in _PLAINLY:
        return _PLAINLY[detail["type"]]
    text = re.sub(r"^(Value error|Assertion failed), |^(Input|String) ", "", detail["msg"])
    text = re.sub(r"^\w+ (should have at \w+ \d+ items?) after validation, .*", r"\1", text)
    return text[:1].lower() + text[1:]


def scrubbed(text: str, value: object) -> str:
    """The text of somebody else's validator on one line, without any string of the value that it quotes."""
    for secret in sorted(_strings(value), key=len, reverse=True):
        if len(secret) >= SCRUBBED_CHARACTERS:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return " ".join(text.split())


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The text for a key that nobody reads."""
    known = sorted(known)
    return f"unknown key{did_you_mean(key, known)}; known here: {', '.join(known) or 'none'}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean token?`, or nothing when no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]}?" if close else ""


def keys_at(model: type[BaseModel], loc: Loc) -> set[str]:
    """The keys that are known at a place inside a model; where a union stands, those of all its members."""
    models = {model}
    for step in loc:
        fields = [of.model_fields[str(step)] for of in models if step in of.model_fields]
        inner = {found for field in fields for found in _models_in(field.annotation)}
        models = inner or models  # a list index or the tag of a union leads no further
    return {field.alias or name for of in models for name, field in of.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
