"""What is made from the manifests and settings, so that no page or file says something else: `make generate`.

`config/schema.json` for editors, `config/.env.example`, `config/grafana/`, `docs/integrations.md`, `docs/openapi.json`,
and the tables between the marks `<!-- generated: NAME -->` and `<!-- end -->` of other pages. `--check` writes nothing
and ends with 1 where something differs. For a checkout; of an installation, `eventbus config schema`,
`eventbus integrations show` and the gateway's `/api/v1/openapi.json` tell the same.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from eventbus import catalog, topics
from integrations.base import Integration
from integrations.prometheus.config import PrometheusConfig
from registry import sections
from registry.discovery import ENTRY_POINT_GROUP, discover
from service import dashboards
from service.gateway.openapi import Named, document
from service.gateway.operations import ACCESS, OPERATIONS, PROBLEMS, REMEDIES, Operation
from service.manifests import EFFECTS, Setting, budget_text, calls_us, scope_text, settings
from service.reference import reference as adapter_reference
from service.schema import config_schema

ROOT = Path(__file__).parents[1]
REPAIR = "run `make generate` and commit what it changes"

Adapters = Mapping[str, type[Integration[Any]]]

SECTIONS: Mapping[str, type[BaseModel]] = {
    "events": sections.Events,
    "events.redis": sections.Redis,
    "integrations.<name>": sections.IntegrationSettings,
    "worker": sections.Worker,
    "gateway": sections.Gateway,
    "log": sections.Log,
    "retention": sections.Retention,
    "schedules.<name>": sections.Schedule,
}
"""The tables of docs/configuration.md."""

_NO_ROWS = {"events.redis", "integrations.<name>.config"}
"""A section of its own; not a key of the file."""

ENV_HEAD = """\
# Variables that the files of `config/` read; what is commented out may be left unset. Made by `make generate`.
#   cp config/.env.example .env       then fill it in, and load it with
#   set -a; . ./.env; set +a
# An integration of another name reads what its section of your file says.

# -- the command line
# The settings file, instead of --config
#EVENTBUS_CONFIG=config/production.yaml
# Where the bus is, instead of the file's address
#EVENTBUS_URL=redis://localhost:6379/0"""

REFERENCE_HEAD = """\
# Integrations

Made from the manifests by `make generate`. `eventbus integrations show NAME` tells the same of every adapter that is
installed, and its settings and the fields of its artifacts besides.

## Once in effect

Every effect has a key, and the ledger remembers what was done. A doubt is left where a worker died within a call, or
its answer was lost. What is done about it depends on the service. A tier is what the adapter's [contract
tests](adapters.md) earn: `works`, `safe`, `complete`."""

MARKED = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:-[^}]*)?\}")


def generated(root: Path, adapters: Adapters) -> dict[str, str]:
    """What each file should hold: path below the root, and text."""
    tables: dict[str, str] = {"integrations": summary(adapters)}
    tables |= {f"settings of {name}": section_table(name, model) for name, model in SECTIONS.items()}
    tables |= {"routes": routes(OPERATIONS), "refusals": refusals()}
    pages = ["README.md", "docs/configuration.md", "docs/http.md"]
    return {
        "config/schema.json": json.dumps(schema(adapters), indent=1, ensure_ascii=False) + "\n",
        "config/.env.example": environment(adapters, [root / "config/example.yaml", root / "config/production.yaml"]),
        "docs/adapter-reference.md": adapter_reference(),
        "docs/integrations.md": reference(adapters),
        "docs/openapi.json": json.dumps(openapi(root, adapters), indent=1, ensure_ascii=False) + "\n",
        **{f"config/grafana/{name}.json": json.dumps(board, indent=1) + "\n" for name, board in boards().items()},
        **{page: filled((root / page).read_text("utf-8"), tables) for page in pages},
    }


def our_adapters(root: Path) -> Adapters:
    """Those of the checkout, installed or not, in the order of their names."""
    offered = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"][ENTRY_POINT_GROUP]
    found = discover(EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in offered.items())
    if found.broken:
        raise SystemExit("\n".join(f"{entry.name} can't be used: {entry.reason}" for entry in found.broken))
    return {name: entry.integration for name, entry in sorted(found.adapters.items()) if entry.integration}


def boards() -> dict[str, dict[str, Any]]:
    """Grafana's dashboards, by name."""
    return {"events": dashboards.events(PrometheusConfig().active), "bus": dashboards.bus()}


def schema(adapters: Adapters) -> dict[str, Any]:
    """The schema of a settings file."""
    return config_schema(adapter.manifest for adapter in adapters.values())


def openapi(root: Path, adapters: Adapters) -> dict[str, Any]:
    """The document of a gateway that has each adapter under its own name, and the standard topics."""
    version = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    standard = [payload for payload in catalog if payload.__module__.startswith(topics.__name__)]
    named = [Named.of(name, adapter) for name, adapter in adapters.items()]
    return document(OPERATIONS, named, standard, version=version, server="http://127.0.0.1:8080")


def filled(page: str, tables: Mapping[str, str]) -> str:
    """A page with its tables between their marks."""
    return MARKED.sub(lambda found: f"{found[1]}\n{tables[found[2]]}\n{found[3]}", page)


# -- tables ----------------------------------------------------------------------------------------------------------


def summary(adapters: Adapters) -> str:
    """The table of the README."""
    rows = []
    for name, adapter in adapters.items():
        manifest = adapter.manifest
        made = _code([*manifest.notifications, *manifest.artifacts])
        heard = _code(manifest.emits) if calls_us(adapter) else ""
        link = f"[{name}](integrations/{name}/README.md)"
        rows.append([link, made, heard, f"`{manifest.effects}`", manifest.tier or ""])
    return _table(["integration", "sends and makes", "publishes, from its webhooks", "effects", "tier"], rows)


def section_table(name: str, model: type[BaseModel]) -> str:
    """The keys of a section of the settings file."""
    rows = [
        [f"`{name}.{one.name}`", _default(one), one.meaning]
        for one in settings(model)
        if "." not in one.name and f"{name}.{one.name}" not in _NO_ROWS
    ]
    return _table(["key", "default", "meaning"], rows)


def routes(operations: Iterable[Operation]) -> str:
    """The table of docs/http.md."""
    rows = []
    for one in operations:
        statuses = "; ".join(filter(None, [", ".join(one.answers), ", ".join(map(str, sorted(one.problems)))]))
        rows.append([f"`{one.path}`", one.method, one.about, ACCESS[one.access], statuses])
    return _table(["route", "method", "what", "who may call", "answers"], rows)


def refusals() -> str:
    """What the statuses of refusals mean."""
    rows = [[str(status), meaning, REMEDIES.get(status, "")] for status, meaning in PROBLEMS.items()]
    return _table(["status", "meaning", "what to do"], rows)


def reference(adapters: Adapters) -> str:
    """docs/integrations.md."""
    used = [one for one in EFFECTS if one in {adapter.manifest.effects for adapter in adapters.values()}]
    classes = [[f"`{one}`", EFFECTS[one]] for one in used]
    about = "\n\n".join(part for name, adapter in adapters.items() for part in _about(name, adapter))
    return f"{REFERENCE_HEAD}\n\n{_table(['effects', 'meaning'], classes)}\n\n{about}\n"


def _about(name: str, adapter: type[Integration[Any]]) -> Iterator[str]:
    manifest = adapter.manifest
    rows = [
        ["takes", _code(manifest.handles)],
        ["notifications", _code(manifest.notifications)],
        ["artifacts", _code(manifest.artifacts)],
        ["publishes", _code(manifest.emits)],
        ["webhooks at", _code([f"/api/v1/webhooks/{name}"] if calls_us(adapter) else [])],
        ["effects", _code([manifest.effects])],
        ["tier", _code(filter(None, [manifest.tier]))],
        ["limits", manifest.limits],
        ["budgets", "<br>".join(map(budget_text, manifest.budgets))],
        ["rights", "<br>".join(map(scope_text, manifest.scopes))],
    ]
    yield f"## {name}"
    yield f"{manifest.title}: [settings, set-up and limits with their sources](../integrations/{name}/README.md)."
    yield _table(["", ""], [row for row in rows if row[1]])


def _default(setting: Setting) -> str:
    return "required" if setting.default is None else "none" if setting.default == "none" else f"`{setting.default}`"


def _code(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    said = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    head = [_row(columns), "|---" * len(columns) + "|"]
    return "\n".join([*head, *map(_row, said)])


def _row(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


# -- the environment -------------------------------------------------------------------------------------------------


def environment(adapters: Adapters, files: Sequence[Path]) -> str:
    """config/.env.example: the secrets of each adapter, and what else the files of `config/` read."""
    contents = [yaml.safe_load(file.read_text("utf-8")) for file in files]
    read = {name: default for content in contents for name, default in _variables(content) if name not in ENV_HEAD}
    chosen = {place: name for content in contents for place, name in _chosen(content["integrations"])}
    parts = [ENV_HEAD]
    for name, adapter in adapters.items():
        lines = []
        for one in settings(adapter.manifest.config):
            if one.secret and one.type == "text" and "." not in one.name:
                variable = chosen.get((name, one.name)) or f"{name}_{one.name}".upper().replace("-", "_")
                off = "" if one.default is None or variable in read else "#"
                lines.append(f"# {one.meaning}\n{off}{variable}=")
                read.pop(variable, None)
        parts += ["\n".join([f"# -- {adapter.manifest.title}", *lines])] if lines else []
    others = [f"{key}=" if default is None else f"#{key}={default}" for key, default in sorted(read.items())]
    parts.append("\n".join([f"# -- what {' and '.join(file.name for file in files)} read besides", *others]))
    return "\n\n".join(parts) + "\n"


def _chosen(accounts: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[tuple[str, str], str]]:
    """The variables that a file has for settings of adapters, by adapter and key."""
    for name, account in accounts.items():
        for key, value in account.items():
            found = _VARIABLE.search(value) if isinstance(value, str) and account.get("enabled") is not False else None
            if found is not None:
                yield (str(account.get("adapter", name)), key), found[1]


def _variables(value: object) -> Iterator[tuple[str, str | None]]:
    """The variables that a file reads, each with its default; those of a disabled integration may be unset."""
    if isinstance(value, str):
        for found in _VARIABLE.finditer(value):
            yield found[1], found[2] and found[2].removeprefix(":-")
    elif isinstance(value, dict):
        for inner in () if value.get("enabled") is False else value.values():
            yield from _variables(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _variables(inner)


# -- writing ---------------------------------------------------------------------------------------------------------


def differing(root: Path) -> dict[str, str]:
    """The files that are not as they should be, with what they should hold."""
    wanted = generated(root, our_adapters(root))
    return {
        name: text
        for name, text in wanted.items()
        if not (root / name).is_file() or (root / name).read_text("utf-8") != text
    }


def main(arguments: Sequence[str]) -> int:
    """Write what differs, or with `--check` only say so. Returns the exit code."""
    check = "--check" in arguments
    found = differing(ROOT)
    for name, text in found.items():
        if not check:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(text, "utf-8")
        print(f"{name}: {'is not as the code says' if check else 'written'}")  # noqa: T201
    if check and found:
        print(REPAIR)  # noqa: T201
    return int(check and bool(found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
