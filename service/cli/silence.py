"""`eventbus silence add | list | expire`: what people don't want to be told of for a while."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from pydantic import ValidationError

from eventbus import EventBus
from registry.faults import describe
from registry.noise.mute import Silence
from registry.noise.store import NoiseStore, new_silence_id
from registry.routes.model import Routing
from service.cli import output
from service.cli.repair import moment, nothing, number
from service.cli.shell import USAGE, bus_address, fail, json_option, run, settings_options
from service.cli.times import SPAN, TIME


@click.group()
def silence() -> None:
    """What routes don't tell of for a while.

    Events are kept and handled as ever; an end whose beginning was told is told all the same.
    """


@silence.command(
    epilog="""\b
Examples:
  eventbus silence add 'data.environment == "staging"' --for 2h --comment "load test"
  eventbus silence add 'topic == "vm.failed" and to == "pagerduty"' --for 30m --at 2026-01-12T22:00Z --comment moving"""
)
@click.argument("condition")
@click.option("--for", "span", type=SPAN, required=True, metavar="SPAN", help="How long: 30m, 2h, 1d12h.")
@click.option("--comment", required=True, help="Why, for whoever wonders at the quiet.")
@click.option("--by", default=getpass.getuser, show_default="your login", metavar="NAME", help="Who wants it.")
@click.option("--at", type=TIME, metavar="TIME", help="When it begins; default: now.")
@json_option
@settings_options
def add(
    condition: str,
    span: timedelta,
    comment: str,
    by: str,
    at: datetime | None,
    as_json: bool,
    path: Path | None,
    url: str | None,
) -> None:
    """Silence what a condition holds of, in the language of routes.

    It may ask about data, topic, event, severity, route and to. Workers know of it within a second. Exit code 2 for a
    condition that is not understood, 5 without Redis.
    """
    starts = at or datetime.now(UTC)
    made = _checked(condition, starts, starts + span, by, comment)
    address = bus_address(path, url)

    async def work() -> None:
        async with EventBus.open(address) as bus:
            await NoiseStore(bus, Routing()).put(made)

    run(work())
    if as_json:
        output.as_json(_document(made))
    else:
        click.echo(output.printable(f"{made.id}  {made.stand(datetime.now(UTC))} until {moment(made.ends)}"))


def _checked(condition: str, starts: datetime, ends: datetime, by: str, comment: str) -> Silence:
    if ends <= datetime.now(UTC):
        fail(f"it would end before now, at {moment(ends)}", USAGE)
    said = {"id": new_silence_id(), "when": condition, "starts": starts, "ends": ends, "by": by, "comment": comment}
    try:
        return Silence.model_validate(said)
    except ValidationError as error:
        fail(f"the condition {output.printable(condition)}: {describe(error.errors()[0], condition)}", USAGE)


@silence.command("list", epilog="\b\nExample:\n  eventbus silence list --all --json")
@click.option("--all", "everything", is_flag=True, help="Also those that ended, for 120 hours.")
@json_option
@settings_options
def list_(everything: bool, as_json: bool, path: Path | None, url: str | None) -> None:
    """List the silences that hold or will, and until when. Exit code 5 without Redis."""
    address = bus_address(path, url)

    async def work() -> list[Silence]:
        async with EventBus.open(address) as bus:
            return await NoiseStore(bus, Routing()).silences()

    now = datetime.now(UTC)
    found = [one for one in run(work()) if everything or one.ends > now]
    if as_json:
        output.as_json([_document(one) for one in found])
    elif found:
        output.table(["id", "stand", "from", "until", "by", "condition", "comment"], [_row(one, now) for one in found])
    else:
        click.echo("there is no silence")


@silence.command(epilog="\b\nExample:\n  eventbus silence expire 4f1c9c2a")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@settings_options
def expire(ids: tuple[str, ...], path: Path | None, url: str | None) -> None:
    """End silences now. What still fires is told at the next time of its group.

    Exit code 3 when one does not hold (any more), 5 without Redis.
    """
    address = bus_address(path, url)

    async def work() -> list[str]:
        async with EventBus.open(address) as bus:
            store = NoiseStore(bus, Routing())
            return [one for one in ids if await store.expire(one) is None]

    gone = run(work())
    click.echo(f"{number(len(ids) - len(gone), 'silence')} ended")
    if gone:
        nothing(f"there is no silence {', '.join(gone)} that holds; see: eventbus silence list --all")


def _row(one: Silence, now: datetime) -> list[str]:
    when = " ".join(one.when.source.split())
    return [one.id, one.stand(now), moment(one.starts), moment(one.ends), one.by or "-", when, one.comment or "-"]


def _document(one: Silence) -> dict[str, str]:
    dumped: dict[str, str] = one.model_dump(mode="json")
    return {**dumped, "stand": one.stand(datetime.now(UTC))}
