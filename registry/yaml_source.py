"""A YAML file as plain data that remembers on which line everything stands.

Works on PyYAML's node tree, so that duplicate keys are seen and no tag can construct an object. `${VAR}` and
`${VAR:-default}` are replaced in finished string values, never in the text of the file: whatever a variable holds, it
stays one string. Knows nothing of what the settings mean; that is `settings`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from registry.faults import ConfigError, Fault, Loc

MAX_FILE_BYTES = 1024 * 1024
MAX_VALUES = 50_000
"""Aliases of aliases make a short file grow without end; a real one has some hundred values."""
MAX_DEPTH = 40

_CORE = "tag:yaml.org,2002:"
_TEXT = {f"{_CORE}{kind}" for kind in ("str", "timestamp", "value")}  # dates stay the text they are written as
_PLAIN = {f"{_CORE}{kind}" for kind in ("null", "bool", "int", "float")}
_VARIABLE = re.compile(r"\$(?P<escaped>\$)?\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\})?")


@dataclass(slots=True)
class Source:
    """What was read.

    unreadable   places whose value could not be made out (an unset variable, a tag); each has its fault
    """

    file: str
    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    unreadable: set[Loc] = field(default_factory=set)

    def written(self, loc: Loc) -> Loc:
        """The part of `loc` that the file has, without steps that are not in it (a union's tag, a missing key)."""
        found: Loc = ()
        for step in loc:
            if (*found, step) in self.places:
                found = (*found, step)
        return found

    def fault(self, loc: Loc, message: str) -> Fault:
        """A fault at `loc`, or on the line of the nearest section around it."""
        return Fault(*self.places.get(self.written(loc), (0, 0)), loc, message)

    def at(self, loc: Loc) -> Any:
        """The value at a place that the file has."""
        value: Any = self.data
        for step in loc:
            value = value[step]
        return value


def read(path: Path, environ: Mapping[str, str]) -> Source:
    """Read one file. What can be told apart is collected in `faults`.

    Raises ConfigError when nothing can be made of the file: unreadable, too large, not YAML.
    """
    text = _text(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        fault = _syntax_fault(error, text)
    except RecursionError:
        fault = _whole(f"is nested more than {MAX_DEPTH} deep")
    else:
        return _Reader(str(path), environ).source(node)
    raise ConfigError(str(path), [fault])  # outside the except blocks: their errors quote the file


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), [_whole(f"can't be read: {error.strerror}")]) from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(str(path), [_whole(f"is larger than {MAX_FILE_BYTES} bytes: is this the right file?")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(str(path), [Fault(line, 0, (), "is not UTF-8: save the file as UTF-8")]) from None


def _whole(message: str) -> Fault:
    return Fault(0, 0, (), message)


def _syntax_fault(error: yaml.YAMLError, text: str) -> Fault:
    """PyYAML's words without what it quotes: an undefined alias may be a password that begins with `*`."""
    if isinstance(error, yaml.reader.ReaderError):
        return Fault(text.count("\n", 0, error.position) + 1, 0, (), "holds a control character: remove it")
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = _said(error)
    if any(word in said for word in ("alias", "anchor", "tag handle")):
        said = said.partition("'")[0].rstrip() + "; put a value that begins with *, & or ! in quotes"
    if mark is None:
        return _whole(f"is not YAML: {said}")
    if "${" in text.splitlines()[min(mark.line, text.count("\n"))]:
        said += "; inside [ ] and { } put ${...} in quotes"
    return Fault(mark.line + 1, mark.column + 1, (), f"is not YAML: {said}")


def _said(error: yaml.YAMLError) -> str:
    context, problem = getattr(error, "context", None), getattr(error, "problem", None)
    start = getattr(error, "context_mark", None)
    if context and start and start != getattr(error, "problem_mark", None):
        context += f" that begins on line {start.line + 1}"
    return ", ".join(part for part in (context, problem) if part) or "can't be parsed"


class _TooMuch(Exception):
    """The file expands to more values than any real one."""


class _Reader:
    """Turns nodes into data, noting places and faults."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._source = Source(file)
        self._values = 0
        self._construct = yaml.constructor.SafeConstructor()

    def source(self, root: yaml.Node | None) -> Source:
        try:
            data = {} if root is None else self._value(root, ())
        except _TooMuch as error:
            raise ConfigError(self._source.file, [_whole(str(error))]) from None
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise ConfigError(self._source.file, [_whole("should be a mapping of sections, such as `events:`")])
        self._source.data = data
        return self._source

    def _value(self, node: yaml.Node, loc: Loc) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _TooMuch(f"expands to more than {MAX_VALUES} values: look for aliases of aliases")
        if len(loc) > MAX_DEPTH:
            raise _TooMuch(f"is nested more than {MAX_DEPTH} deep: look for an alias inside what it stands for")
        if node.tag not in _TEXT | _PLAIN | {f"{_CORE}map", f"{_CORE}seq"}:
            return self._unreadable(node, loc, "a tag (a word after !) has no meaning here: remove it")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(self._placed(item, (*loc, i), item), (*loc, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, loc)

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_CORE}merge":
                self._fault(key, loc, "a key is one word; lists, mappings and << can't be keys: write the keys out")
            elif key.value in data:
                first, _ = self._source.places[*loc, key.value]
                self._fault(key, (*loc, key.value), f"duplicate key, first given on line {first}: remove one")
            else:
                here = (*loc, key.value)
                data[key.value] = self._value(self._placed(key, here, value), here)
        return data

    def _scalar(self, node: yaml.Node, loc: Loc) -> Any:
        if node.tag in _TEXT:
            return self._interpolated(node, loc)
        try:
            return self._construct.construct_object(node)
        except (ValueError, KeyError):
            return self._unreadable(
                node, loc, f"is no {node.tag.removeprefix(_CORE)}: put it in quotes to make it text"
            )

    def _interpolated(self, node: yaml.Node, loc: Loc) -> str:
        text, problems = interpolate(node.value, self._environ)
        for problem in problems:
            self._unreadable(node, loc, problem)
        return text

    def _placed(self, at: yaml.Node, loc: Loc, value: yaml.Node) -> yaml.Node:
        self._source.places[loc] = (at.start_mark.line + 1, at.start_mark.column + 1)
        return value

    def _fault(self, node: yaml.Node, loc: Loc, message: str) -> None:
        mark = node.start_mark
        self._source.faults.append(Fault(mark.line + 1, mark.column + 1, loc, message))

    def _unreadable(self, node: yaml.Node, loc: Loc, message: str) -> None:
        self._fault(node, loc, message)
        self._source.unreadable.add(loc)


def interpolate(text: str, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text with its variables replaced, and what is wrong with them.

    As in Compose files (docs.docker.com, "Interpolation"): `${VAR}` is replaced when VAR is set, be it empty, and
    `${VAR:-default}` gives the default when VAR is unset or empty. Ours alone: a default is plain text, and `$${` is
    a literal `${` while a `$` elsewhere is itself.
    """
    problems: list[str] = []

    def replaced(found: re.Match[str]) -> str:
        name, default = found["name"], found["default"]
        if found["escaped"]:
            return found[0][1:]
        if name is None:
            problems.append("${ begins no variable: write ${NAME} or ${NAME:-default}, or $${ for the characters ${")
            return found[0]
        value = environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            problems.append(f"variable {name} is not set: set it, or give a default: ${{{name}:-...}}")
            return found[0]
        return value

    return _VARIABLE.sub(replaced, text), problems
