"""`eventbus unknown list | resolve`: calls that were cut off, to services that can't be asked what became of them."""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path

import click

from eventbus import EventBus
from integrations.doubts import As
from registry.unknown import REASON, resolve
from service.cli import output
from service.cli.letters import Found, described, show_letters
from service.cli.repair import confirm, nothing, number
from service.cli.shell import bus_address, json_option, load_settings, run, settings_options


@click.group()
def unknown() -> None:
    """Deliveries of which nobody knows whether they were made.

    The call left and no answer came, and the service can't be asked. They wait, and are not sent again, until somebody
    has looked there.
    """


@unknown.command("list", epilog="\b\nExample:\n  eventbus unknown list --json")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Shown; all are counted.")
@json_option
@settings_options
def list_(limit: int, as_json: bool, path: Path | None, url: str | None) -> None:
    """List them, the newest last. Exit code 3 when there is none, 5 without Redis."""
    address = bus_address(path, url)

    async def work() -> Found:
        found = Found(deque(maxlen=limit))
        async with EventBus.open(address) as bus:
            async for letter in bus.dead.find(reasons=[REASON]):
                found.add(letter)
        return found

    found = run(work())
    if not found.count:
        nothing("nothing is in doubt")
    if as_json:
        output.as_json([described(letter) for letter in found.newest])
        return
    show_letters(found)
    click.echo("look at the service, then: eventbus unknown resolve ID --as done, or --as resend")


@unknown.command(
    "resolve",
    epilog="""\b
Examples:
  eventbus unknown resolve hook/1768208400000-0 --as done
  eventbus unknown resolve hook/1768208400000-0 --as resend""",
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--as", "how", type=click.Choice(["done", "resend"]), required=True, help="It was made; or it was not.")
@click.option("--reference", default="", metavar="TEXT", help="With done: the service's id of what was made.")
@click.option("--page", default="", metavar="URL", help="With done: where it can be seen.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@json_option
@settings_options
def resolve_(
    ids: tuple[str, ...],
    how: As,
    reference: str,
    page: str,
    yes: bool,
    as_json: bool,
    path: Path | None,
    url: str | None,
) -> None:
    """Say what became of them. The delivery then goes on: what is done is not done again.

    Exit code 3 when one is not there (any more), 5 without Redis.
    """
    settings = load_settings(path, url, log_level="error")
    if how == "resend":
        confirm(f"Send {number(len(ids), 'call')} again, that may have been made before?", yes=yes)

    async def work() -> list[str]:
        gone, routes = [], tuple(settings.routing.routes)
        async with EventBus.open(settings.events.url.get_secret_value()) as bus:
            for letter_id in ids:
                letter = await bus.dead.get(letter_id)
                if letter is None or not await resolve(bus, letter, how, routes=routes, reference=reference, url=page):
                    gone.append(letter_id)
        return gone

    gone = run(work())
    if as_json:
        output.as_json({"resolved": len(ids) - len(gone), "gone": gone})
    else:
        click.echo(f"{number(len(ids) - len(gone), 'doubt')} resolved as {how}")
        for letter_id in gone:
            click.echo(f"{letter_id} is not there, or not in doubt; see: eventbus unknown list", err=True)
    if gone:
        sys.exit(3)
