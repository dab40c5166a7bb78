"""`eventbus integrations new NAME`: a new adapter whose tests pass, beside your code or as a package of its own.

What the files say is `service.scaffold`; here is what a person may ask for, and the disk. Nothing is ever overwritten.
"""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import click

from registry.discovery import ENTRY_POINT_GROUP
from service import scaffold
from service.cli import output
from service.cli.shell import FAILED, REFUSED, USAGE, fail, json_option
from service.scaffold import Names


@click.command(
    epilog="""\b
Examples:
  eventbus integrations new acme_desk --package
  eventbus integrations new acme_desk --path src/myapp --inbound"""
)
@click.argument("name")
@click.option("--package", "as_package", is_flag=True, help="A package to install, with pyproject.toml and tests.")
@click.option(
    "--path",
    "parent",
    metavar="DIR",
    default=".",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the folder NAME is made; default: here.",
)
@click.option("--inbound", is_flag=True, help="The service calls us too: signed webhooks become events.")
@json_option
def new(name: str, as_package: bool, parent: Path, inbound: bool, as_json: bool) -> None:
    """Make an adapter NAME: a folder of working code for an invented ticket system, with stand-in and tests that pass.

    Without --package it belongs to a project of yours, which makes it known by an entry point. NAME is what it is
    called in the settings. Exit code 2 for a name that can't be, 4 where the folder holds something already.
    """
    names = Names(name, "" if as_package else _package_around(parent.absolute()))
    if reason := scaffold.why_not(name) or _taken(names):
        fail(f"{name!r} {reason}", USAGE)
    target = parent / name
    files = (scaffold.package if as_package else scaffold.folder)(names, inbound=inbound)
    try:
        _write(target, files)
    except OSError as error:
        fail(f"{target}: {error.strerror or error}", FAILED)
    steps = _next_steps(names, target, as_package=as_package)
    if as_json:
        made = {"name": name, "class": f"{names.dotted}:{names.cls}", "path": str(target), "files": sorted(files)}
        output.as_json({**made, "next": [command for command, _ in steps]})
        return
    click.echo(f"made {output.printable(str(target))}: {len(files)} files. Next:\n")
    width = max(len(command) for command, _ in steps)
    for command, why in steps:
        click.echo(f"  {output.printable(command).ljust(width)}  # {why}")
    if not as_package:
        click.echo(f"\nIn your pyproject.toml, so that it is known once your project is installed:\n\n{_entry(names)}")


def _package_around(folder: Path) -> str:
    """The dotted package that a folder is, by the `__init__.py` in it and above; empty: none."""
    parts: list[str] = []
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


def _taken(names: Names) -> str | None:
    """Who has the name already: an adapter, or something that Python imports by it."""
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP, name=names.module):
        return f"is the name of an adapter that is installed ({entry.value}): choose another"
    if names.within:
        return None
    spec = importlib.util.find_spec(names.module)
    if spec is None or spec.origin is None:  # without an origin it is a mere folder
        return None
    return f"is what Python imports from {spec.origin}: choose another, such as {names.module}_service"


def _write(target: Path, files: Mapping[str, str]) -> None:
    """All files below a folder that does not exist or is empty. Raises OSError."""
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        fail(f"{target} holds something already, and nothing is overwritten: choose another name or --path", REFUSED)
    for name, text in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)


def _next_steps(names: Names, target: Path, *, as_package: bool) -> list[tuple[str, str]]:
    """What to type, and why."""
    where, module = shlex.quote(str(target)), target / names.module if as_package else target
    steps = [
        ("pip install pytest pytest-asyncio", "what its tests need"),
        (f"pytest {where}", "they pass as they are"),
        (
            f"$EDITOR {shlex.quote(str(module / 'render.py'))}",
            "what is sent; client.py, fake.py and config.py go with it",
        ),
    ]
    if as_package:
        install = (f"pip install --editable {where}", "makes it known")
        steps = [*steps, install, (f"eventbus integrations show {names.module}", "its settings and what it does")]
    return steps


def _entry(names: Names) -> str:
    return "\n".join(f"  {line}" for line in scaffold.entry_point(names).splitlines())
