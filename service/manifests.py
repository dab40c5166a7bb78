"""What manifests say, for people and machines: settings, topics, artifacts, effects, limits, budgets and rights.

`eventbus integrations show` prints it, and `service.generate` makes the project's tables and `.env.example` of it, so
that no page can say something else than the code. Pure.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import StrEnum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from integrations.base import Budget, Effects, Inbound, Integration, Scope

EFFECTS: Mapping[Effects, str] = {
    "keyed": "the service drops a repeat by its key: after a doubt it is sent again",
    "searchable": "after a doubt the service is asked whether it is there, and it is sent only when it is not",
    "repeatable": "the receiver knows a repeat by its id: after a doubt it is sent again",
    "at_least_once": "nobody can tell after a doubt: it waits for a person (`eventbus unknown`)",
}
"""What each class means (`integrations.base.Effects`), in a line for people. A doubt: a crash, a lost answer."""

_WORDS = {bool: "true | false", int: "whole number", float: "number"}
"""Types in plain words, the narrower first; any other is a text in a file."""

_TIMES = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One key that may be set.

    name     dotted; `[]` stands for each item of a list, `<name>` for each key of a table
    default  as it would be written; None: it must be given
    """

    name: str
    type: str
    default: str | None
    secret: bool
    meaning: str


def settings(model: type[BaseModel]) -> list[Setting]:
    """Every key of a model, those of the models within it after their own."""
    return list(_rows(model, ""))


def facts(integration: type[Integration[Any]], takes: Sequence[str] | None = None) -> dict[str, Any]:
    """All that the manifest says, as JSON. `takes`: what an account takes, where its settings say that."""
    manifest = integration.manifest
    return {
        "name": manifest.name,
        "title": manifest.title,
        "about": inspect.getdoc(integration) or "",
        "tier": manifest.tier,
        "takes": list(manifest.handles if takes is None else takes),
        "publishes": list(manifest.emits),
        "webhooks": f"/api/v1/webhooks/{manifest.name}" if calls_us(integration) else None,
        "notifications": list(manifest.notifications),
        "artifacts": {kind: [asdict(one) for one in settings(model)] for kind, model in manifest.artifacts.items()},
        "effects": {"class": manifest.effects, "meaning": EFFECTS[manifest.effects]},
        "limits": manifest.limits,
        "budgets": [_budget(budget) for budget in manifest.budgets],
        "scopes": [asdict(scope) for scope in manifest.scopes],
        "settings": [asdict(one) for one in settings(manifest.config)],
    }


def calls_us(integration: type[Integration[Any]]) -> bool:
    """Whether its service sends us webhooks."""
    return issubclass(integration, Inbound)


def budget_text(budget: Budget) -> str:
    """`calls: 50 a minute for each place, 5 at once`"""
    each = " for each place" if budget.each == "place" else ""
    burst = f", {budget.burst} at once" if budget.burst > 1 else ""
    return f"{budget.name}: {budget.count:,} {_per(budget.per)}{each}{burst}"


def scope_text(scope: Scope) -> str:
    """`issues:write: comments on issues`"""
    return f"{scope.name}: {scope.why}" + ("" if scope.needed else " (optional)")


def _budget(budget: Budget) -> dict[str, Any]:
    return asdict(budget) | {"per": budget.per.total_seconds()}


def _per(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"a{'n' if seconds == 3600 else ''} {_TIMES[int(seconds)]}" if seconds in _TIMES else f"in {seconds:g} s"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        kind, meaning = _type(field.annotation), field.description or ""
        yield Setting(prefix + name, kind, _default(field), _holds(field.annotation, SecretStr), meaning)
    for name, field in model.model_fields.items():
        for place, inner in _models_in(field.annotation, prefix + name):
            yield from _rows(inner, f"{place}.")


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()  # written in the code, so no secret
    plain = to_jsonable_python(value, fallback=str)
    if plain is None or plain == "":
        return "none"
    return plain if isinstance(plain, str) else json.dumps(plain)


def _type(annotation: Any) -> str:
    """A type in plain words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(one) for one in inner if one is not type(None)))
    if origin is Literal:
        return " | ".join(map(str, inner))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"table of {_type(inner[1])}"
    if isinstance(origin, type) and issubclass(origin, Collection):
        return f"list of {_type(inner[0])}"
    return _word(annotation)


def _word(annotation: Any) -> str:
    if annotation is Any or not isinstance(annotation, type):
        return "anything"
    if issubclass(annotation, StrEnum):
        return " | ".join(annotation)
    if issubclass(annotation, BaseModel):
        return "section"
    return next((word for kind, word in _WORDS.items() if issubclass(annotation, kind)), "text")


def _models_in(annotation: Any, place: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models that a value is made of, each with where its keys stand."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield place, annotation
    elif origin is Annotated:
        yield from _models_in(inner[0], place)
    elif origin in (Union, UnionType):
        for one in inner:
            yield from _models_in(one, place)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        yield from _models_in(inner[1], f"{place}.<name>")
    elif isinstance(origin, type) and issubclass(origin, Collection):
        yield from _models_in(inner[0], f"{place}[]")


def _holds(annotation: Any, kind: type) -> bool:
    return annotation is kind or any(_holds(one, kind) for one in get_args(annotation))
