"""A new adapter from the example: `examples/custom_adapter` is the template, with its names replaced.

There is no second copy that could grow stale: what the example's own tests and checks hold, a new adapter holds. Pure
but for reading the example; `service.cli.scaffold` checks what a person asks for and writes the files.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHIPPED = Path(__file__).with_name("custom_adapter")
"""Where the wheel has the example; a checkout has it in `examples/`."""

NAME = re.compile(r"[a-z](?:_?[a-z0-9])*")
MAX_NAME = 40
"""An adapter may have 63 characters (`registry.discovery.NAME`); the names made from it get longer."""

LAYOUT = frozenset({"tests", "event_bus"})
"""Names with a meaning of their own: the folder beside the package, and the bus in /api/v1/health."""

_MODULE = "acme_tickets"
_PYTEST_INI = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
pythonpath = {up}
filterwarnings = error
"""
_INSTALL = re.compile(r"```\npip install .*\n```\n\n")
_WEBHOOKS = re.compile(r"webhook|inbound|signature|TicketClosed|ticket\.closed", re.IGNORECASE)
"""What of the example speaks of them. A statement or line that does belongs to taking webhooks."""


@dataclass(frozen=True, slots=True)
class Names:
    """What one new adapter is called in each place.

    module  the name in the settings, of the folder and of the package
    within  the dotted package that the folder lies in; empty: none
    """

    module: str
    within: str = ""

    @property
    def dotted(self) -> str:
        """How its package is imported."""
        return f"{self.within}.{self.module}" if self.within else self.module

    @property
    def cls(self) -> str:
        """Its class."""
        return "".join(part.capitalize() for part in self.module.split("_"))

    @property
    def title(self) -> str:
        """As people write it."""
        return " ".join(part.capitalize() for part in self.module.split("_"))

    @property
    def distribution(self) -> str:
        """What its package is installed as."""
        return f"eventbus-{self.module.replace('_', '-')}"

    def apply(self, text: str) -> str:
        """A text of the example with these names in it, each replaced once."""
        kebab = self.module.replace("_", "-")
        names = {
            f"from {_MODULE}": f"from {self.dotted}",
            _MODULE: self.module,
            "AcmeTickets": self.cls,
            "Acme Tickets": self.title,
            "TicketsConfig": f"{self.cls}Config",
            "FakeTickets": f"Fake{self.cls}",
            "acme-tickets": self.distribution,
            "ACME_TOKEN": f"{self.module.upper()}_TOKEN",
            "tickets.acme.example": f"{kebab}.example",
            "bot@acme": f"bot@{kebab}",
            "acme-": f"{kebab}-",
            "ticket.closed": f"{self.module}.ticket.closed",
            '"1.2.0"': '"0.1.0"',
        }
        known = re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)))
        return known.sub(lambda found: names[found[0]], text)


def why_not(name: str) -> str | None:
    """Why an adapter can't be called so; None when it can."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        return f"is not lower-case letters, digits and single _, a letter first, {MAX_NAME} at most, such as acme_desk"
    if keyword.iskeyword(name) or keyword.iskeyword(Names(name).cls):
        return f"is a word of Python: call it {name}_service"
    if name in LAYOUT:
        return f"has a meaning of its own here: call it {name}_service"
    if Names(name).cls in _words_of_the_example():
        return f"would be a class {Names(name).cls}, which is something else in every adapter: call it {name}_service"
    return None


def package(names: Names, *, inbound: bool) -> dict[str, str]:
    """A package to install, with its tests: relative path to text."""
    return {names.apply(path): names.apply(text) for path, text in _example(inbound=inbound)}


def folder(names: Names, *, inbound: bool) -> dict[str, str]:
    """The adapter alone, for a project that exists: its modules, and its tests in a folder of theirs."""
    found = {path.removeprefix(f"{_MODULE}/"): names.apply(text) for path, text in _example(inbound=inbound)}
    del found["pyproject.toml"], found["py.typed"]
    found["README.md"] = _INSTALL.sub("", found["README.md"])
    up = "/".join([".."] * (names.dotted.count(".") + 1))
    return {**found, "pytest.ini": _PYTEST_INI.format(up=up)}


def entry_point(names: Names) -> str:
    """The lines of a pyproject.toml that make it known."""
    return f'[project.entry-points."eventbus.integrations"]\n{names.module} = "{names.dotted}:{names.cls}"'


def without_webhooks(source: str) -> str:
    """A module without what takes webhooks: statements and lines that speak of them, then imports nobody needs."""
    tree, lines = ast.parse(source), source.splitlines(keepends=True)
    gone = {number for node in ast.walk(tree) for number in _spoken_of(node, lines)}
    gone |= {number for number, line in enumerate(lines, 1) if _WEBHOOKS.search(line)}
    gone -= {number for node in _imports(tree) for number in _lines_of(node)}
    left = "".join(line for number, line in enumerate(lines, 1) if number not in gone)
    return _one_gap(_without_idle_imports(left))


def _example(*, inbound: bool) -> Iterator[tuple[str, str]]:
    """The files of the example: relative path and text."""
    root = SHIPPED if SHIPPED.is_dir() else Path(__file__).parents[1] / "examples" / "custom_adapter"
    for path in sorted([root / "pyproject.toml", *root.glob(f"{_MODULE}/*"), *root.glob("tests/*")]):
        where = path.relative_to(root).as_posix()
        if not path.is_file() or (not inbound and _WEBHOOKS.search(path.name)):
            continue
        text = path.read_text("utf-8")
        if not inbound and path.suffix == ".py":
            text = without_webhooks(text)
        elif not inbound:
            text = "".join(line for line in text.splitlines(keepends=True) if not _WEBHOOKS.search(line))
        yield where, text


def _words_of_the_example() -> set[str]:
    """The names that its modules use, but for those that are replaced."""
    text = Names("x").apply("\n".join(text for path, text in _example(inbound=True) if path.endswith(".py")))
    return set(re.findall(r"\b[A-Z]\w*", text)) - {"X"}


def _spoken_of(node: ast.AST, lines: list[str]) -> range:
    """The lines of a statement that speaks of webhooks in its first line, or of a function that does in its head."""
    if not isinstance(node, ast.stmt):
        return range(0)
    head = lines[node.lineno - 1]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        head += ast.unparse(node.args) + (ast.get_docstring(node) or "")
    return _lines_of(node) if _WEBHOOKS.search(head) else range(0)


def _lines_of(node: ast.stmt) -> range:
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
    return range(first, (node.end_lineno or first) + 1)


def _imports(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]


def _without_idle_imports(source: str) -> str:
    """A module without the imports that nothing in it names."""
    tree, lines = ast.parse(source), source.splitlines(keepends=True)
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    named |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for node in _imports(tree):
        idle = [one for one in node.names if (one.asname or one.name.split(".")[0]) not in named]
        if not idle or lines[node.lineno - 1].startswith("from __future__"):
            continue
        if len(idle) == len(node.names):
            for number in _lines_of(node):
                lines[number - 1] = ""
        elif node.lineno == node.end_lineno:
            node.names = [one for one in node.names if one not in idle]
            lines[node.lineno - 1] = f"{ast.unparse(node)}\n"
        else:
            for one in idle:
                lines[one.lineno - 1] = ""
    return "".join(lines)


def _one_gap(source: str) -> str:
    """Two empty lines between definitions of a module at most, one within a class."""
    return re.sub(r"\n{3,}(?=[ )\]}])", "\n\n", re.sub(r"\n{4,}", "\n\n\n", source)).rstrip() + "\n"
