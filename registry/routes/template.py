"""Conditions and templates: what the settings hold, and what they come to for one event.

Neither can fail because of an event. A condition over a missing field does not hold, and says which field it was. A
template leaves the place empty and notes it; a text that would grow or take too long ends where its bound is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from jinja2 import nodes
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from registry.routes.evaluate import Cut, Evaluation, Names, Spent
from registry.routes.filters import ENDING, MAX_TEXT, Unknown, Value
from registry.routes.syntax import (
    GROUP_NAMES,
    MUTE_NAMES,
    NAMES,
    Reference,
    parse_expression,
    parse_template,
    references,
)


@dataclass(frozen=True, slots=True)
class Note:
    """What people should know of a text, though it was made.

    line        of the template
    is_mistake  the template's own, whatever the event
    """

    line: int
    text: str
    is_mistake: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """What a template came to. Without notes it is whole: nothing was missing, nothing was cut."""

    text: str
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class _Parsed:
    """A source and its tree. Two of them are equal when their sources are. `known`: the names it may read."""

    known: ClassVar[tuple[str, ...]] = NAMES

    source: str
    tree: nodes.Node = field(repr=False, compare=False)

    @classmethod
    def of(cls, source: str) -> Self:
        """Raises Malformed, which pydantic makes a fault of the settings."""
        return cls(source, cls._parse(source))

    @classmethod
    def _parse(cls, source: str) -> nodes.Node:
        raise NotImplementedError

    @property
    def references(self) -> tuple[Reference, ...]:
        """The paths it reads."""
        return tuple(references(self.tree))

    def reads(self, *names: str) -> bool:
        """Whether one of its paths begins with one of these names."""
        return any(reference.path[0] in names for reference in self.references)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls.of,
            core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.source),
        )


class Template(_Parsed):
    """A text with places for values of the event."""

    @classmethod
    def _parse(cls, source: str) -> nodes.Node:
        return parse_template(source, cls.known)

    def render(self, names: Names) -> Text:
        """Its text for these names, MAX_TEXT characters at most."""
        walk = Evaluation()
        text, spent = _collected(walk.text([self.tree], names))
        notes = [Note(line, unknown.reason, unknown.is_mistake) for line, unknown in walk.noted]
        if spent:
            notes.append(Note(0, f"cut: {spent}"))
        return Text(text, tuple(dict.fromkeys(notes)))


class Condition(_Parsed):
    """An expression: true or not, or with a value."""

    @classmethod
    def _parse(cls, source: str) -> nodes.Node:
        return parse_expression(source, cls.known)

    def why_not(self, names: Names) -> str | None:
        """None when it holds, else the first part that did not, with the values it was asked about.

        Where a field is missing it does not hold, nor would its opposite.
        """
        try:
            walk = Evaluation()
            return None if walk.is_true(self.tree, names) else walk.why_not(self.tree, names)
        except (Spent, RecursionError) as error:
            return f"given up: {_why(error)}"

    def value(self, names: Names, cut: Cut = ()) -> Value:
        """What it comes to: JSON or Unknown. `cut`: what of the names was cut."""
        try:
            return Evaluation(cut).value(self.tree, names)
        except (Spent, RecursionError) as error:
            return Unknown(f"given up: {_why(error)}")


class MuteCondition(Condition):
    """A condition about an event on a route."""

    known = MUTE_NAMES


class GroupTemplate(Template):
    """A text about a group of alerts."""

    known = GROUP_NAMES


def _collected(pieces: Iterator[str]) -> tuple[str, str]:
    """The text as far as it may go, and why it ends there if it had more to say."""
    found: list[str] = []
    left = MAX_TEXT
    try:
        for piece in pieces:
            if len(piece) > left:
                found.append(piece[:left])
                return _ended(found), f"more than {MAX_TEXT:,} characters"
            found.append(piece)
            left -= len(piece)
    except (Spent, RecursionError) as error:
        return _ended(found), _why(error)
    return "".join(found), ""


def _ended(found: list[str]) -> str:
    return "".join(found)[: MAX_TEXT - len(ENDING)] + ENDING


def _why(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)
