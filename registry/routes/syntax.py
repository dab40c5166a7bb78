"""The language of conditions and templates: Jinja2's syntax, and of it only what is safe and needed.

Jinja2 parses; every node that is not listed here is refused before any event is seen. There are no calls, assignments,
imports and macros: a template is made of paths into the event, operators, filters, `if` and `for`. The tree is never
turned into Python code: `evaluate` walks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from registry.faults import did_you_mean
from registry.routes.filters import FILTERS, TESTS

NAMES = ("topic", "event", "data", "runbook", "severity")
MUTE_NAMES = ("topic", "event", "data", "runbook", "severity", "route", "to")
"""What a silence and an inhibition may ask about: also the route that would be taken, and its integration."""
GROUP_NAMES = ("group", "firing", "resolved", "status")
"""What the texts of a grouped message may read."""
MAX_SOURCE = 8_192
MAX_DEPTH = 40
MAX_LOOPS = 2
"""Loops within loops: each may run over a list that came with the event."""
LOOP_FACTS = ("index", "first", "last", "length")

_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For),
    *(nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.Getattr, nodes.Getitem, nodes.Slice),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.CondExpr, nodes.Filter, nodes.Test),
    *(nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg, nodes.Pos, nodes.Concat),
)
_INSTEAD: dict[type[nodes.Node], str] = {
    nodes.Call: "nothing can be called; use a filter, such as {{ data.name | upper }}",
    nodes.Keyword: "the arguments of a filter have no names: write truncate(80)",
    nodes.Pow: "there are no powers",
    nodes.Dict: "there are no dictionaries",
    nodes.Assign: "there is no set: write the expression where it is needed",
    nodes.AssignBlock: "there is no set: write the expression where it is needed",
    nodes.FilterBlock: "there are no filter blocks: write {{ value | filter }}",
}
_SIGNS = {"eq": "==", "ne": "!=", "gt": ">", "gteq": ">=", "lt": "<", "lteq": "<=", "in": "in", "notin": "not in"}
_BINARY: dict[type[nodes.Node], str] = {
    nodes.Add: "+",
    nodes.Sub: "-",
    nodes.Mul: "*",
    nodes.Div: "/",
    nodes.FloorDiv: "//",
    nodes.Mod: "%",
    nodes.And: "and",
    nodes.Or: "or",
}
_WORDS = {"None": "none", "True": "true", "False": "false"}

_environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)

N = TypeVar("N", bound=nodes.Node)


class Malformed(ValueError):
    """No template or condition of this language. The text names the line where there is more than one."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A path that is read: `data.environment` is ("data", "environment")."""

    path: tuple[str, ...]
    line: int


def parse_template(source: str, known: Sequence[str] = NAMES) -> nodes.Template:
    """A text with {{ expressions }} and {% statements %} in it. `known`: the names it may read. Raises Malformed."""
    return _checked(source, known, lambda: _environment.parse(source))


def parse_expression(source: str, known: Sequence[str] = NAMES) -> nodes.Expr:
    """A condition. `known`: the names it may read. Raises Malformed."""

    def parsed() -> nodes.Expr:
        parser = Parser(_environment, source, state="variable")
        expression = parser.parse_expression()
        if not parser.stream.eos:
            rest = parser.stream.current
            raise TemplateSyntaxError(f"{str(rest.value)[:40]!r} is not understood here", rest.lineno)
        return expression

    return _checked(source, known, parsed)


def references(node: nodes.Node, own: frozenset[str] = frozenset()) -> Iterator[Reference]:
    """Every path into the event that is read, as far as it is spelled out. `own`: names of the loops around it."""
    if isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem):
        path, rest = _path(node)
        if path and path[0] not in own:
            yield Reference(path, node.lineno)
        for other in rest:
            yield from references(other, own)
        return
    if isinstance(node, nodes.For):
        yield from references(node.iter, own)
        inner = own | _targets(node) | {"loop"}
        for child in (*node.body, *([node.test] if node.test else [])):
            yield from references(child, inner)
        for child in node.else_:
            yield from references(child, own)
        return
    for child in node.iter_child_nodes():
        yield from references(child, own)


def path_of(node: nodes.Node) -> tuple[str, ...]:
    """The path into the event that a node reads, as far as it is spelled out; empty for any other expression."""
    return _path(node)[0] if isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem) else ()


def written(node: nodes.Node) -> str:
    """An expression as it may be written, in one line."""
    match node:
        case nodes.Const():
            return _WORDS.get(repr(node.value)) or repr(node.value)
        case nodes.Name():
            return node.name
        case nodes.Getattr():
            return f"{_grouped(node.node)}.{node.attr}"
        case nodes.Getitem():
            return f"{_grouped(node.node)}[{written(node.arg)}]"
        case nodes.Slice():
            return ":".join(written(part) if part else "" for part in (node.start, node.stop))
        case nodes.List() | nodes.Tuple():
            return f"[{', '.join(map(written, node.items))}]"
        case nodes.Not():
            return f"not {_grouped(node.node)}"
        case nodes.Neg() | nodes.Pos():
            return f"{'-' if isinstance(node, nodes.Neg) else '+'}{_grouped(node.node)}"
        case nodes.Concat():
            return " ~ ".join(map(_grouped, node.nodes))
        case nodes.BinExpr():
            return f"{_grouped(node.left)} {_BINARY[type(node)]} {_grouped(node.right)}"
        case nodes.Compare():
            return _grouped(node.expr) + "".join(f" {_SIGNS[op.op]} {_grouped(op.expr)}" for op in node.ops)
        case nodes.CondExpr():
            other = f" else {_grouped(node.expr2)}" if node.expr2 else ""
            return f"{_grouped(node.expr1)} if {_grouped(node.test)}{other}"
        case nodes.Filter() if node.node is not None:
            return f"{_grouped(node.node)} | {node.name}{_arguments(node.args)}"
        case nodes.Test():
            return f"{_grouped(node.node)} is {node.name}{_arguments(node.args)}"
    raise TypeError(f"{type(node).__name__} is no expression")


def _grouped(node: nodes.Node) -> str:
    simple = (nodes.Const, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.List, nodes.Tuple)
    return written(node) if isinstance(node, simple) else f"({written(node)})"


def _arguments(args: list[nodes.Expr]) -> str:
    return f"({', '.join(map(written, args))})" if args else ""


def _path(node: nodes.Node) -> tuple[tuple[str, ...], list[nodes.Node]]:
    """The path a node stands for, and the expressions inside it that are no part of one."""
    if isinstance(node, nodes.Name):
        return (node.name,), []
    if isinstance(node, nodes.Getattr):
        path, rest = _path(node.node)
        return (*path, node.attr) if path and not rest else path, rest
    if isinstance(node, nodes.Getitem):
        path, rest = _path(node.node)
        if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str) and path and not rest:
            return (*path, node.arg.value), rest
        return path, [*rest, node.arg]
    return (), [node]


def _targets(loop: nodes.For) -> frozenset[str]:
    return frozenset(
        name.name for name in (loop.target, *loop.target.find_all(nodes.Name)) if isinstance(name, nodes.Name)
    )


# -- checking --------------------------------------------------------------------------------------------------------


def _checked(source: str, known: Sequence[str], parse: Callable[[], N]) -> N:
    if len(source) > MAX_SOURCE:
        raise Malformed(f"has {len(source):,} characters; {MAX_SOURCE:,} at most")
    try:
        tree = parse()
    except TemplateSyntaxError as error:
        raise _malformed(source, error.lineno, error.message or "is malformed") from None
    except (RecursionError, ValueError, OverflowError):  # ValueError: a number of more digits than Python reads
        raise Malformed("is nested too deep, or holds a number that is too long") from None
    _check(tree, source, tuple(known), frozenset(), depth=0, loops=0)
    return tree


def _malformed(source: str, line: int, text: str) -> Malformed:
    return Malformed(f"line {line}: {text}" if "\n" in source.rstrip("\n") else text)


def _check(
    node: nodes.Node, source: str, known: tuple[str, ...], own: frozenset[str], *, depth: int, loops: int
) -> None:
    fault = _fault(node, known, own, depth, loops)
    if fault:
        raise _malformed(source, node.lineno, fault)
    if isinstance(node, nodes.For):
        loops, own = loops + 1, own | _targets(node) | {"loop"}
    for child in node.iter_child_nodes():
        _check(child, source, known, own, depth=depth + 1, loops=loops)


def _fault(node: nodes.Node, known: tuple[str, ...], own: frozenset[str], depth: int, loops: int) -> str | None:
    if type(node) not in _ALLOWED:
        name = type(node).__name__.lower()
        return _INSTEAD.get(type(node), f"{name!r} is not part of the language of routes")
    if depth > MAX_DEPTH:
        return f"is nested more than {MAX_DEPTH} deep"
    match node:
        case nodes.For():
            return _loop_fault(node, loops)
        case nodes.Name(ctx="load") if node.name not in own and node.name not in known:
            return f"there is no {node.name!r}{did_you_mean(node.name, known)}; there is: {', '.join(known)}"
        case nodes.Filter() | nodes.Test():
            return _word_fault(node)
        case nodes.Slice() if node.step is not None:
            return "a slice has no step"
        case nodes.Getattr() if node.attr.startswith("__"):
            return f"no field is read that begins with __, such as {node.attr[:40]}"
        case nodes.Getattr(node=nodes.Name(name="loop")) if node.attr not in LOOP_FACTS:
            return f"there is no loop.{node.attr}; there is: {', '.join(LOOP_FACTS)}"
    return None


def _loop_fault(node: nodes.For, loops: int) -> str | None:
    if node.recursive:
        return "a loop can't be recursive"
    return f"has more than {MAX_LOOPS} loops within each other" if loops >= MAX_LOOPS else None


def _word_fault(node: nodes.Filter | nodes.Test) -> str | None:
    kind, known = ("filter", FILTERS) if isinstance(node, nodes.Filter) else ("test", TESTS)
    word = known.get(node.name)
    if word is None:
        return f"there is no {kind} {node.name!r}{did_you_mean(node.name, known)}; there is: {', '.join(sorted(known))}"
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        return "arguments are written out, not unpacked"
    least, most = word.arguments
    if not least <= len(node.args) <= most:
        count = str(least) if least == most else f"{least} to {most}"
        return f"{kind} {node.name} takes {count} arguments, not {len(node.args)}"
    return None
