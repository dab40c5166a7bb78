"""`eventbus logs`: the newest log lines of all workers and gateways, from wherever one sits."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import click
from pydantic import ValidationError

from eventbus import EventBus
from eventbus.journal import Journal
from registry.faults import describe
from service.cli import output
from service.cli.repair import nothing
from service.cli.shell import USAGE, bus_address, fail, json_option, load_settings, run, settings_options
from service.cli.times import SINCE
from service.log_lines import LEVELS, Level, Line, Query, later, search, shown

POLL_SECONDS = 0.5
_OPTIONS = {"event_id": "event"}
COLORS = {"debug": "bright_black", "warning": "yellow", "error": "red", "critical": "red"}


@click.command(
    epilog="""\b
Examples:
  eventbus logs --level warning --since 1h
  eventbus logs --component slack --follow
  eventbus logs --event 0199b3f0-0000-7000-8000-000000000000 --json | jq .fields.error"""
)
@click.option("--component", metavar="NAME", help="An integration, webhook.billing, a logger such as registry, worker.")
@click.option("--level", type=click.Choice(LEVELS), default="debug", help="This level and those above it.")
@click.option("--since", type=SINCE, metavar="TIME|SPAN", help="Since 2026-01-12T09:00Z, or for the last 1h.")
@click.option("--event", "event_id", metavar="ID", help="About this event.")
@click.option("--contains", metavar="TEXT", help="With this text in the message or a field.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, metavar="N", help="The newest N."
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@json_option
@settings_options
def logs(
    component: str | None,
    level: Level,
    since: datetime | None,
    event_id: str | None,
    contains: str | None,
    limit: int,
    follow: bool,
    as_json: bool,
    path: Path | None,
    url: str | None,
) -> None:
    """Show log lines of all workers and gateways, the newest last.

    Redis has the newest 10,000 (log.keep), from the level log.keep_level on, and as many warnings, which --level
    warning finds however many other lines came since. With --json each line is one of JSON. Exit code 3 when no line
    fits, 5 without Redis.
    """
    address = _address(path, url)
    asked = {"component": component, "level": level, "since": since, "event_id": event_id, "contains": contains}
    try:
        query = Query(**asked, limit=limit)
    except ValidationError as error:
        (fault, *_) = error.errors()
        name = str(fault["loc"][0])
        fail(f"--{_OPTIONS.get(name, name)} {describe(fault, asked[name])}", USAGE)

    async def work() -> int:
        async with EventBus.open(address) as bus:
            await bus.check_server()
            lines, place = await _newest(bus.journal, query)
            _show(reversed(lines), as_json=as_json)
            while follow:
                coming, place = await later(bus.journal, query, place)
                _show(coming, as_json=as_json)
                await asyncio.sleep(0 if coming else POLL_SECONDS)
            return len(lines)

    if not run(work()):
        nothing("no log line fits")


def _address(path: Path | None, url: str | None) -> str:
    """Where the bus is. Tells where the file has programs keep no lines: what is found then is old, or of others."""
    if path is None or url is not None:
        return bus_address(path, url)
    settings = load_settings(path, url, log_level="error")
    if not settings.log.keep:
        click.echo(f"log.keep is 0 in {path}: programs with these settings keep no lines", err=True)
    return settings.events.url.get_secret_value()


async def _newest(journal: Journal, query: Query) -> tuple[list[Line], str]:
    """The lines, and the place behind the newest that there was. A long journal is searched to its end."""
    found = await search(journal, query)
    lines, newest = found.lines, found.newest
    while found.next is not None and len(lines) < query.limit:
        left = {"next": found.next, "limit": query.limit - len(lines)}
        found = await search(journal, query.model_copy(update=left))
        lines += found.lines
    return lines, newest


def _show(lines: Iterable[Line], *, as_json: bool) -> None:
    for line in lines:
        output.as_line(line.document()) if as_json else click.echo(_text(line))
    sys.stdout.flush()


def _text(line: Line) -> str:
    at = line.time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    level = click.style(line.level.ljust(8), fg=COLORS.get(line.level))
    fields = [(name, value) for name, value in line.fields.items() if value not in (None, "", line.component)]
    facts = " ".join(f"{name}={shown(value)}" for name, value in fields)
    where = f"{line.said.get('program', '')}@{line.said.get('host', '')}:{line.said.get('pid', '')}"
    component, message = click.style(output.printable(line.component), fg="cyan"), output.printable(line.message)
    return f"{at}  {level}  {component}  {message}  {output.printable(facts)}  {output.printable(where)}"
