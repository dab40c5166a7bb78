"""`eventbus doctor`: is this Redis fit for the bus, and what does it keep when something breaks?"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventbus.doctor import Diagnosis, Finding, diagnose
from eventbus.fault_table import LEVELS, Cell
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.server import Server, read
from eventbus.redis.survey import look
from registry.sections import Events
from service.cli import output
from service.cli.shell import FAILED, bus_address, json_option, load_settings, run, settings_options

SIGNS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "bad": ("✗", "red"), "unknown": ("?", "cyan")}
HOLDS = {True: "✓", False: "✗", None: "-"}


@click.command(
    epilog="""\b
Examples:
  eventbus doctor --config config/production.yaml
  eventbus doctor --url redis://localhost:6379/0 --json"""
)
@json_option
@settings_options
def doctor(as_json: bool, path: Path | None, url: str | None) -> None:
    """Check Redis, and show what it keeps when something breaks.

    Looks at its version, persistence, memory, replicas, rights and clock, and at the log and who reads it. Changes
    nothing. Exit code 1 when something is bad; warnings and what Redis does not tell are 0.
    """
    address, accept = bus_address(path, url), Events().accept_unsafe
    if path is not None:
        accept = load_settings(path, url, log_level="error").events.accept_unsafe

    async def work() -> tuple[Server, Diagnosis]:
        connection = await Connection.open(address)
        try:
            keys = ShardKeys()
            server = await read(connection, near=keys.log)
            survey = None if server.is_memory else await look(connection, keys)
        finally:
            await connection.close()
        return server, diagnose(server, survey, accept=accept)

    server, diagnosis = run(work())
    if as_json:
        output.as_json(_document(server, diagnosis))
    else:
        _show(server, diagnosis)
    if diagnosis.is_bad:
        raise SystemExit(FAILED)


def _document(server: Server, diagnosis: Diagnosis) -> dict[str, Any]:
    facts = {field.name: getattr(server, field.name) for field in fields(server) if field.name != "address"}
    facts["replicas"] = None if server.replicas is None else [asdict(replica) for replica in server.replicas]
    facts["commands"] = None if server.commands is None else sorted(server.commands)
    return {
        "bus": server.address.text,
        "ok": not diagnosis.is_bad,
        "findings": [asdict(finding) for finding in diagnosis.findings],
        "durability": {
            "faults": [
                {"fault": fault.name, **{level: asdict(cell) for level, cell in fault.cells.items()}}
                for fault in diagnosis.durability.faults
            ],
            "not_offered": diagnosis.durability.not_offered,
        },
        "server": facts,
    }


def _show(server: Server, diagnosis: Diagnosis) -> None:
    click.echo(f"The bus at {output.printable(server.address.text)}\n")
    _show_findings(diagnosis.findings)
    click.echo("\nWhat becomes of an accepted event, by its durability level:\n")
    table = diagnosis.durability
    levels = [level for level in LEVELS if level not in table.not_offered]
    output.table(
        ["what happens", *levels],
        [[fault.name, *(_cell(fault.cells[level]) for level in levels)] for fault in table.faults],
    )
    for level, reason in table.not_offered.items():
        click.echo(f"Not offered here: {level}: {reason}.")
    click.echo("\n" + _sum(diagnosis.findings))


def _show_findings(findings: list[Finding]) -> None:
    rows = [(finding.level, finding.about, line) for finding in findings for line in _lines(finding)]
    if sys.stdout.isatty():
        grid = Table.grid(padding=(0, 2, 0, 0))
        for level, about, line in rows:
            mark, color = SIGNS[level]
            first = not line.startswith(("why: ", "fix: "))
            grid.add_row(
                Text(f"{mark} {level}" if first else "", style=color),
                about if first else "",
                Text(line, style="" if first else "dim"),
            )
        Console(highlight=False).print(grid)
        return
    for level, about, line in rows:
        first = not line.startswith(("why: ", "fix: "))
        click.echo(f"{level if first else '':9}{about if first else '':10}{line}")


def _lines(finding: Finding) -> list[str]:
    more = [f"{name}: {text}" for name, text in (("why", finding.why), ("fix", finding.fix)) if text]
    return [output.printable(line) for line in (finding.what, *more)]


def _cell(cell: Cell) -> str:
    return f"{HOLDS[cell.holds]} {cell.text}"


def _sum(findings: list[Finding]) -> str:
    count = Counter(finding.level for finding in findings)
    warnings = f"{count['warn']} warning{'' if count['warn'] == 1 else 's'}"
    return f"{count['ok']} ok, {count['bad']} bad, {warnings}, {count['unknown']} not known."
