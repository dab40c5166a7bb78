"""`eventbus replay`: history again, for one group."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from eventbus import EventBus, EventBusError, Replayed, UnknownGroup
from service.cli import output
from service.cli.repair import moment, nothing, number, progress, rate_option
from service.cli.shell import USAGE, bus_address, fail, json_option, run, settings_options
from service.cli.times import SINCE


@click.command(
    epilog="""\b
Examples:
  eventbus replay --group slack --since 2h --dry-run
  eventbus replay --group search-index --since 2026-01-12T09:00Z --pattern 'vm.*' --rate 50"""
)
@click.option("--group", required=True, metavar="NAME", help="Who is given it again; see: eventbus groups list.")
@click.option(
    "--since", required=True, metavar="TIME", type=SINCE, help="Stored since: 2h for 2 hours ago, or 2026-01-12T09:00Z."
)
@click.option("--until", metavar="TIME", type=SINCE, help="Stored before, as --since; without it until now.")
@click.option("--pattern", "patterns", multiple=True, metavar="PATTERN", help="Instead of the group's own; repeatable.")
@rate_option
@click.option("--dry-run", is_flag=True, help="Change nothing; count what would be given again, at most.")
@json_option
@settings_options
def replay(
    group: str,
    since: datetime,
    until: datetime | None,
    patterns: tuple[str, ...],
    rate: float | None,
    dry_run: bool,
    as_json: bool,
    path: Path | None,
    url: str | None,
) -> None:
    """Give a group its history again.

    That is what it has finished, as far back as the log reaches. Events keep their ids: what the ledger has as done is
    not done again. What the group has not finished comes anyway and is left out. Exit code 3 when there is no such
    group, 5 without Redis.
    """
    if until is not None and until <= since:
        fail("--until is not after --since", USAGE)
    address = bus_address(path, url)
    end = until or datetime.now(UTC)
    reached = Replayed()

    async def work() -> Replayed:
        def so_far(now: Replayed) -> None:
            nonlocal reached
            reached = now
            if now.reached is not None:
                shown((now.reached - since).total_seconds())

        async with EventBus.open(address) as bus:
            with progress("counting" if dry_run else f"replaying to {group}", (end - since).total_seconds()) as shown:
                try:
                    return await bus.replay(
                        group,
                        since=since,
                        until=until,
                        patterns=patterns or None,
                        rate=rate,
                        dry_run=dry_run,
                        progress=so_far,
                    )
                except UnknownGroup as error:
                    nothing(str(error))
                except EventBusError as error:
                    raise type(error)(f"{error}{_how_far(reached)}") from error

    done = run(work())
    if as_json:
        output.as_json(_document(group, since, done, dry_run=dry_run))
    else:
        _show(group, since, done, dry_run=dry_run)


def _how_far(done: Replayed) -> str:
    if done.reached is None:
        return ""
    return f"\n  {number(done.copied, 'event')} were copied; go on with --since {done.reached.isoformat()}"


def _show(group: str, since: datetime, done: Replayed, *, dry_run: bool) -> None:
    looked = f"of {done.looked_at:,} looked at"
    if dry_run:
        click.echo(f"at most {number(done.copied, 'event')} {looked} would be given to {group} again")
    else:
        click.echo(f"{number(done.copied, 'event')} {looked} will be given to {group} again")
    for line in _warnings(since, done):
        click.echo(f"{click.style('warning:', fg='yellow')} {line}", err=True)


def _warnings(since: datetime, done: Replayed) -> list[str]:
    said = []
    if done.log_begins is None:
        said.append("the log is empty")
    elif done.log_begins > since:
        said.append(f"the log begins at {moment(done.log_begins)}: nothing older is left in it")
    if done.missed:
        said.append(f"{number(done.missed, 'event')} in between are gone: trimmed before their turn, or deleted")
    return said


def _document(group: str, since: datetime, done: Replayed, *, dry_run: bool) -> dict[str, object]:
    times = {"log_begins": done.log_begins, "reached": done.reached}
    return {
        "group": group,
        "dry_run": dry_run,
        "since": since.isoformat(),
        "copied": done.copied,
        "looked_at": done.looked_at,
        "missed": done.missed,
        **{name: None if time is None else time.isoformat() for name, time in times.items()},
    }
