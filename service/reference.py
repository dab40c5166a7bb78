"""What the author of an adapter is given and may call, field by field: the text of `docs/adapter-reference.md`.

A class of the interface says in its docstring what each field is for, a line each, and a method what it does in its
first sentences. They are read here, so that the page can't say something else; `service.generate` writes it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from pydantic import BaseModel

from eventbus.event import Event
from eventbus.tally import Change, Tallied
from integrations.base import (
    Artifact,
    Budget,
    Context,
    Delivery,
    DeliveryResult,
    Earlier,
    InboundReply,
    InboundRequest,
    Manifest,
    Notification,
    Preview,
    Scope,
    Store,
    Target,
)
from integrations.http import Answer, Http
from integrations.testing.fake import FakeService, Recorded
from integrations.testing.rules import MEANING, RULES, Tier

HEAD = """\
# Adapter reference

What an adapter is given and may call, made from the docstrings by `make generate`. [Write an adapter](adapters.md) says
how they belong together."""


@dataclass(frozen=True, slots=True)
class Part:
    """One class, as it is imported. `methods`: those are what it is used by; otherwise its fields are."""

    cls: type[Any]
    methods: bool = False


PARTS: Mapping[str, tuple[Part, ...]] = {
    "What comes in": (Part(Event), Part(Notification), Part(Artifact), Part(Delivery), Part(Earlier)),
    "What goes out": (Part(DeliveryResult), Part(Preview), Part(Target)),
    "What you live on": (
        Part(Context),
        Part(Http, methods=True),
        Part(Answer, methods=True),
        Part(Store, methods=True),
        Part(Change),
        Part(Tallied),
    ),
    "What you declare": (Part(Manifest), Part(Budget), Part(Scope)),
    "Inbound": (Part(InboundRequest), Part(InboundReply)),
    "The stand-in": (Part(FakeService, methods=True), Part(Recorded)),
}

_FIELD = re.compile(r"(\w+(?:, \w+)*) {2,}(\S.*)")


def reference() -> str:
    """The page."""
    parts = [HEAD]
    for heading, those in PARTS.items():
        parts += [f"## {heading}", *(_part(one) for one in those)]
    parts += ["## The rules of the contract", *_rules()]
    return "\n\n".join(parts) + "\n"


def _part(part: Part) -> str:
    cls = part.cls
    heading = f"### {cls.__name__}\n\n`from {_home(cls)} import {cls.__name__}`"
    said, meanings = _read(inspect.getdoc(cls) or "")
    rows = list(_methods(cls) if part.methods else _fields(cls, meanings))
    names = ["method", "does"] if part.methods else ["field", "type", "default", "meaning"]
    return "\n\n".join([heading, said, _table(names, rows)])


def _home(cls: type[Any]) -> str:
    return "eventbus" if cls is Event else cls.__module__


def _read(doc: str) -> tuple[str, dict[str, str]]:
    """A docstring's prose, and what it says of each field: `name  meaning` or `one, two  meaning`, then indented."""
    prose: list[str] = []
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in doc.splitlines():
        found = _FIELD.fullmatch(line)
        if found is not None:
            names = found[1].split(", ")
            meanings |= dict.fromkeys(names, found[2])
        elif names and line.startswith("  "):
            meanings |= {name: f"{meanings[name]} {line.strip()}" for name in names}
        else:
            names = []
            prose.append(line)
    return "\n".join(prose).strip(), meanings


def _fields(cls: type[Any], meanings: Mapping[str, str]) -> Iterator[list[str]]:
    if issubclass(cls, BaseModel):
        for name, info in cls.model_fields.items():
            default = "required" if info.is_required() else _shown(info.default, info.default_factory)
            yield [f"`{name}`", _typed(cls, name), default, info.description or meanings.get(name, "")]
        return
    for one in fields(cls):
        factory = None if one.default_factory is MISSING else one.default_factory
        needed = one.default is MISSING and factory is None
        default = "required" if needed else _shown(one.default, factory)
        yield [f"`{one.name}`", _typed(cls, one.name), default, meanings.get(one.name, "")]


def _typed(cls: type[Any], name: str) -> str:
    """As it is written in the class: its module postpones annotations."""
    return f"`{vars(cls)['__annotations__'][name]}`"


def _shown(default: Any, factory: Any) -> str:
    """A default as it is written; what is made anew each time is shown where it is empty."""
    if factory is not None:
        return "empty" if factory in (dict, list, tuple) else "made anew"
    if default in ("", (), {}):
        return "empty"
    return f"`{getattr(default, 'value', default)}`"


def _methods(cls: type[Any]) -> Iterator[list[str]]:
    for name, member in vars(cls).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if name.startswith("_") or not callable(function):
            continue
        said = (inspect.getdoc(function) or "").partition("\n\n")[0]
        yield [f"`{_called(name, member, function)}`", " ".join(said.split())]


def _called(name: str, member: Any, function: Callable[..., Any]) -> str:
    """`fail(status, *, times=1)`; a property is its name."""
    if isinstance(member, property):
        return name
    given = [one for one in inspect.signature(function).parameters.values() if one.name not in ("self", "cls")]
    shown = [one.replace(annotation=inspect.Parameter.empty) for one in given]
    return f"{name}{inspect.Signature(shown)}"


def _rules() -> Iterator[str]:
    """Each rule with the tier that it belongs to, and what the tiers are good for."""
    yield "\n".join(f"- `{tier.name.lower()}`: {MEANING[tier]}." for tier in Tier)
    yield _table(
        ["rule", "tier", "says"], [[str(n), f"`{one.tier.name.lower()}`", one.text] for n, one in RULES.items()]
    )


def _table(names: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in (names, *rows)]
    return "\n".join([lines[0], "|---" * len(names) + "|", *lines[1:]])
