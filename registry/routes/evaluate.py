"""Walks the tree of a condition or template over one event, within bounds.

Logic has three values: what is missing is `Unknown`, and `and`, `or`, `not` and comparisons treat it as SQL treats
NULL, so that neither a question about a missing field nor its opposite is true. No Python attribute is ever read: a
path leads through JSON only. `Spent` ends what would take too long; the counts below hold whatever the event holds.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import nodes

from registry.routes.filters import FILTERS, TESTS, Unknown, Value, as_text, bounded, cut, is_cut, is_number, kind
from registry.routes.syntax import path_of, references, written

MAX_STEPS = 50_000
"""Nodes that may be visited for one text or condition; a usual template has some hundred."""
CPU_SECONDS = 0.25
"""Of this thread, for one text or condition: a machine that is slow or asleep spends none of it."""
STEPS_A_LOOK = 16
"""Steps between two looks at the clock, which is a call of the system. One step is bounded by the event's size."""
LARGEST = 2**63
MAX_SHOWN = 60

Names = Mapping[str, Value]
Cut = Sequence[tuple[str, ...]]
"""Paths of what names held and do not hold whole any more. What reads one of them, or a part of it, is Unknown."""

_ARITHMETIC: dict[type[nodes.Node], Callable[[Any, Any], Any]] = {
    nodes.Add: operator.add,
    nodes.Sub: operator.sub,
    nodes.Mul: operator.mul,
    nodes.Div: operator.truediv,
    nodes.FloorDiv: operator.floordiv,
    nodes.Mod: operator.mod,
}
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
}


class Spent(Exception):
    """It took more than a template may."""


class Evaluation:
    """One walk. `noted` collects what was Unknown where text was wanted, with its line."""

    def __init__(self, cut: Cut = ()) -> None:
        self.noted: list[tuple[int, Unknown]] = []
        self._cut = cut
        self._steps = 0
        self._began = time.thread_time()

    # -- text ------------------------------------------------------------------------------------------------------

    def text(self, body: Sequence[nodes.Node], names: Names) -> Iterator[str]:
        """The pieces of a template's text."""
        for node in body:
            self._step()
            match node:
                case nodes.TemplateData():
                    yield node.data
                case nodes.Template():
                    yield from self.text(node.body, names)
                case nodes.Output():
                    yield from self.text(node.nodes, names)
                case nodes.If():
                    yield from self.text(self._branch(node, names), names)
                case nodes.For():
                    yield from self._loop(node, names)
                case nodes.Expr():
                    yield as_text(self._wanted(node, names))

    def _wanted(self, node: nodes.Node, names: Names) -> Value:
        value = self.value(node, names)
        if value is None:
            value = Unknown(f"{written(node)} is null")
        if isinstance(value, Unknown):
            self.noted.append((node.lineno, value))
        return value

    def _branch(self, node: nodes.If, names: Names) -> list[nodes.Node]:
        for one in (node, *node.elif_):
            if self.is_true(one.test, names):
                return one.body
        return node.else_

    def _loop(self, node: nodes.For, names: Names) -> Iterator[str]:
        found = self._wanted(node.iter, names)
        if not isinstance(found, list | Unknown):
            self.noted.append((node.lineno, Unknown(f"{written(node.iter)} is {kind(found)}, not a list", True)))
        items = found if isinstance(found, list) else []
        if node.test is not None:
            items = [item for item in items if self.is_true(node.test, self._bound(node.target, item, names))]
        if not items:
            yield from self.text(node.else_, names)
        for n, item in enumerate(items, 1):
            loop = {"index": n, "first": n == 1, "last": n == len(items), "length": len(items)}
            yield from self.text(node.body, {**self._bound(node.target, item, names), "loop": loop})

    def _bound(self, target: nodes.Node, item: Value, names: Names) -> Names:
        self._step()
        if isinstance(target, nodes.Tuple):
            parts = item if isinstance(item, list) else []
            absent = Unknown(f"an entry of the loop has no {len(target.items)} parts")
            values = [*parts, *[absent] * len(target.items)]
            named = zip((part.name for part in target.items if isinstance(part, nodes.Name)), values, strict=False)
            return {**names, **dict(named)}
        return {**names, target.name: item} if isinstance(target, nodes.Name) else names

    # -- values ----------------------------------------------------------------------------------------------------

    def is_true(self, node: nodes.Node, names: Names) -> bool:
        """Whether it holds; what is Unknown does not."""
        value = self.value(node, names)
        return not isinstance(value, Unknown) and bool(value)

    def value(self, node: nodes.Node, names: Names) -> Value:
        """What an expression comes to: JSON or Unknown. Raises Spent."""
        path = path_of(node) if self._cut else ()
        for gone in self._cut if path else ():
            if all(one == other for one, other in zip(path, gone, strict=False)):
                return Unknown(f"{'.'.join(gone)} was too long to be kept whole", is_cut=True)
        return self._value(node, names)

    def _value(self, node: nodes.Node, names: Names) -> Value:
        self._step()
        match node:
            case nodes.Const():
                return node.value
            case nodes.Name():
                return names.get(node.name, Unknown(f"{node.name} is missing"))
            case nodes.Getattr():
                return self._part(node, self._whole(node.node, names), node.attr)
            case nodes.Getitem():
                return self._item(node, names)
            case nodes.List() | nodes.Tuple():
                return self._list(node.items, names)
            case nodes.And() | nodes.Or():
                return self._logic(node, names)
            case nodes.Not():
                value = self.value(node.node, names)
                return value if isinstance(value, Unknown) else not value
            case nodes.Compare():
                return self._compared(node, names)
            case nodes.CondExpr():
                return self._chosen(node, names)
            case nodes.Filter() | nodes.Test():
                return self._applied(node, names)
            case nodes.Concat():
                parts = [self._wanted(part, names) for part in node.nodes]
                return next(filter(is_cut, parts), None) or bounded(map(as_text, parts))
            case nodes.BinExpr():
                return self._sum(node, names)
            case nodes.Neg() | nodes.Pos():
                return self._signed(node, names)
        raise TypeError(f"{type(node).__name__} was not refused")

    def _whole(self, node: nodes.Node, names: Names) -> Value:
        """What a path goes on from: of a whole that was cut somewhere, the rest is there."""
        return self._value(node, names) if path_of(node) else self.value(node, names)

    def _chosen(self, node: nodes.CondExpr, names: Names) -> Value:
        test = self.value(node.test, names)
        if is_cut(test):
            return test
        chosen = node.expr1 if not isinstance(test, Unknown) and test else node.expr2
        return "" if chosen is None else self.value(chosen, names)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise Spent(f"more than {MAX_STEPS:,} steps")
        if self._steps % STEPS_A_LOOK == 0 and time.thread_time() - self._began > CPU_SECONDS:
            raise Spent(f"more than {CPU_SECONDS:g} s")

    def _part(self, node: nodes.Node, whole: Value, name: str) -> Value:
        if isinstance(whole, Unknown):
            return whole
        if not isinstance(whole, dict):
            inner = written(node.node) if isinstance(node, nodes.Getattr | nodes.Getitem) else "it"
            return Unknown(f"{inner} is {kind(whole)}" + ("" if whole is None else f", it has no {name!r}"))
        return whole[name] if name in whole else Unknown(f"{written(node)} is missing")

    def _item(self, node: nodes.Getitem, names: Names) -> Value:
        whole = self._whole(node.node, names)
        if isinstance(node.arg, nodes.Slice):
            return self._sliced(node, whole, node.arg, names)
        at = self.value(node.arg, names)
        if isinstance(at, str):
            return self._part(node, whole, at)
        if isinstance(whole, Unknown) or isinstance(at, Unknown):
            return whole if isinstance(whole, Unknown) else at
        if not isinstance(whole, list | str) or not isinstance(at, int):
            return Unknown(f"{written(node.node)} is {kind(whole)}, not a list")
        return whole[at] if -len(whole) <= at < len(whole) else Unknown(f"{written(node)} is missing")

    def _sliced(self, node: nodes.Getitem, whole: Value, part: nodes.Slice, names: Names) -> Value:
        start, stop = (None if end is None else self.value(end, names) for end in (part.start, part.stop))
        if isinstance(whole, Unknown):
            return whole
        if not isinstance(whole, list | str) or not all(end is None or isinstance(end, int) for end in (start, stop)):
            return Unknown(f"{written(node)} can't be taken of {kind(whole)}")
        return whole[start:stop]

    def _list(self, items: list[nodes.Expr], names: Names) -> Value:
        values = [self.value(item, names) for item in items]
        return next((value for value in values if isinstance(value, Unknown)), values)

    def _logic(self, node: nodes.And | nodes.Or, names: Names) -> Value:
        """Kleene's: `and` is false as soon as one side is, `or` true, whatever is unknown about the other."""
        ends = isinstance(node, nodes.Or)
        left = self.value(node.left, names)
        if not isinstance(left, Unknown) and bool(left) is ends:
            return left
        right = self.value(node.right, names)
        if not isinstance(right, Unknown) and bool(right) is ends:
            return right
        return left if isinstance(left, Unknown) and (left.is_cut or not isinstance(right, Unknown)) else right

    def _compared(self, node: nodes.Compare, names: Names) -> Value:
        left, result = self.value(node.expr, names), True
        for operand in node.ops:
            right = self.value(operand.expr, names)
            answer = _answer(operand.op, left, right)
            if isinstance(answer, Unknown):
                return answer if answer.reason else self._incomparable(node, names)
            result, left = result and answer, right
        return result

    def _incomparable(self, node: nodes.Compare, names: Names) -> Unknown:
        """Why a comparison has no answer: a field that is null, or a mistake."""
        shown = values_of(node, names)
        return Unknown(f"{written(node)} can't be compared" + (f": {shown}" if shown else ""), " = null" not in shown)

    def _applied(self, node: nodes.Filter | nodes.Test, names: Names) -> Value:
        word = (FILTERS if isinstance(node, nodes.Filter) else TESTS)[node.name]
        if node.node is None:
            raise TypeError("a filter block was not refused")
        value = self.value(node.node, names)
        if value is None and isinstance(node, nodes.Filter) and not word.takes_unknown:
            value = Unknown(f"{written(node.node)} is null")
        if isinstance(value, Unknown) and not word.takes_unknown:
            return value
        arguments = [self.value(argument, names) for argument in node.args]
        unknown = next((argument for argument in arguments if isinstance(argument, Unknown)), None)
        return unknown if unknown is not None and not word.takes_unknown else word.does(value, *arguments)

    def _sum(self, node: nodes.BinExpr, names: Names) -> Value:
        left, right = self.value(node.left, names), self.value(node.right, names)
        for side, value in ((node.left, left), (node.right, right)):
            if isinstance(value, Unknown):
                return value
            if not is_number(value):
                return Unknown(f"{written(side)} is {kind(value)}, not a number", is_mistake=value is not None)
            if not -LARGEST < value < LARGEST:
                return Unknown(f"{written(side)} is too large a number")
        try:
            return _ARITHMETIC[type(node)](left, right)
        except ZeroDivisionError:
            return Unknown(f"{written(node)} divides by zero")

    def _signed(self, node: nodes.Neg | nodes.Pos, names: Names) -> Value:
        value = self.value(node.node, names)
        if isinstance(value, Unknown) or is_number(value):
            return -value if isinstance(node, nodes.Neg) and not isinstance(value, Unknown) else value
        return Unknown(f"{written(node.node)} is {kind(value)}, not a number", is_mistake=value is not None)

    # -- explaining ------------------------------------------------------------------------------------------------

    def why_not(self, node: nodes.Node, names: Names) -> str:
        """The first part of a condition that failed, with the values it was asked about."""
        if isinstance(node, nodes.And):
            failed = node.right if self.is_true(node.left, names) else node.left
            return self.why_not(failed, names)
        if isinstance(node, nodes.Or):
            return f"{self.why_not(node.left, names)}; {self.why_not(node.right, names)}"
        value = self.value(node, names)
        if isinstance(value, Unknown):
            return value.reason
        shown = values_of(node, names)
        return f"{written(node)} was false" + (f": {shown}" if shown else "")


def _answer(sign: str, left: Value, right: Value) -> Value:
    """One comparison: true, false, the Unknown of a side, or an Unknown without words: these can't be compared."""
    for side in (left, right):
        if isinstance(side, Unknown):
            return side
    if sign in ("eq", "ne"):
        return (left == right) is (sign == "eq")
    if sign in ("in", "notin"):
        if not (isinstance(right, list) or (isinstance(left, str) and isinstance(right, str | dict))):
            return Unknown("", is_mistake=right is not None)
        return (left in right) is (sign == "in")
    if (is_number(left) and is_number(right)) or (isinstance(left, str) and isinstance(right, str)):
        return _ORDER[sign](left, right)
    return Unknown("")


def values_of(node: nodes.Node, names: Names) -> str:
    """The paths an expression reads with their values: `data.environment = 'staging', data.duration_ms = 12`."""
    paths = dict.fromkeys(reference.path for reference in references(node))
    return ", ".join(f"{'.'.join(path)} = {_shown(path, names)}" for path in paths)


def _shown(path: tuple[str, ...], names: Names) -> str:
    value: Value = names
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            return "missing"
        value = value[step]
    if isinstance(value, str):
        return repr(cut(value, MAX_SHOWN))
    return "null" if value is None else cut(as_text(value, MAX_SHOWN + 1), MAX_SHOWN)
