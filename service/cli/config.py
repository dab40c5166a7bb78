"""`eventbus config check | schema`: is a settings file right, and what may stand in one?"""

from __future__ import annotations

from pathlib import Path

import click

from registry.discovery import discover
from registry.settings import ConfigError, Fault
from service.cli import output
from service.cli.shell import USAGE, fail, json_option
from service.schema import config_schema
from service.wiring import read_settings_with_warnings


@click.group()
def config() -> None:
    """Settings files."""


@config.command(epilog="\b\nExample:\n  eventbus config check config/production.yaml")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check a settings FILE: every fault at once, each with its line. Exit code 2 when there are any."""
    try:
        settings, warnings = read_settings_with_warnings(file)
    except ConfigError as error:
        if not as_json:
            fail(str(error), USAGE)
        faults = [_document(fault) for fault in error.faults]
        output.as_json({"file": str(file), "ok": False, "faults": faults})
        raise SystemExit(USAGE) from None
    on = sorted(name for name, section in settings.integrations.items() if section.enabled)
    off = sorted(name for name, section in settings.integrations.items() if not section.enabled)
    if as_json:
        said = [_document(warning) for warning in warnings]
        output.as_json(
            {"file": str(file), "ok": True, "bus": settings.events.safe_url, "on": on, "off": off, "warnings": said}
        )
        return
    for warning in warnings:
        where = output.printable(f"{file}:{warning.line}: {warning.dotted}: {warning.message}")
        click.echo(f"{click.style('warning:', fg='yellow')} {where}", err=True)
    click.echo(f"{file} is right: bus {settings.events.safe_url}; on: {', '.join(on)}; off: {', '.join(off) or 'none'}")


def _document(fault: Fault) -> dict[str, str | int]:
    return {"line": fault.line, "path": fault.dotted, "message": fault.message}


@config.command(epilog="\b\nExample:\n  eventbus config schema > eventbus.schema.json")
def schema() -> None:
    """Print the JSON schema of a settings file, for editors: with every adapter that is installed.

    An editor with YAML support uses it where a file begins with: # yaml-language-server: $schema=eventbus.schema.json
    """
    adapters = discover().adapters.values()
    output.as_json(config_schema(adapter.integration.manifest for adapter in adapters if adapter.integration))
