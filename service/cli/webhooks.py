"""`eventbus webhooks list | attempts | enable | disable | recover`: the endpoints of the webhook integration.

How an endpoint stands and what was tried is read from its integration's book, which the workers keep. Recovering is
redriving and replaying: both are the bus' own, and the ledger sees to it that nothing delivered is sent again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from eventbus import EventBus, InvalidEvent, UnknownGroup
from eventbus.topics import IntegrationDisabled, IntegrationRecovered
from integrations.signing import public_key
from integrations.webhook.book import Book, Tried
from integrations.webhook.config import Endpoint, WebhookConfig
from integrations.webhook.standing import Off, Standing
from registry.settings import Settings
from service.cli import output
from service.cli.repair import age, moment, nothing, number, rate_option, two_lines
from service.cli.shell import REFUSED, USAGE, fail, json_option, load_settings, run, settings_options
from service.cli.times import SINCE

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint, and the integration whose it is."""

    account: str
    endpoint: Endpoint

    @property
    def group(self) -> str:
        """Its durable subscription; what routes, metrics and dead letters call it."""
        return f"{self.account}.{self.endpoint.name}"


@click.group()
def webhooks() -> None:
    """Webhook endpoints and what was sent to them.

    How they stand, what was tried, and what to do once they are back.
    """


@webhooks.command("list", epilog="\b\nExample:\n  eventbus webhooks list --config config/production.yaml")
@json_option
@settings_options
def list_(as_json: bool, path: Path | None, url: str | None) -> None:
    """List the endpoints: on, failing or off, since when and why. Exit code 5 without Redis."""
    settings = load_settings(path, url, log_level="error")
    places = _places(settings)

    async def work(bus: EventBus) -> list[Standing]:
        return [await _book(bus, place).standing(place.endpoint.name) for place in places]

    rows = [_described(place, standing) for place, standing in zip(places, _with_bus(settings, work), strict=True)]
    if as_json:
        output.as_json(rows)
        return
    columns = ["endpoint", "state", "since", "host", "format", "signs", "topics", "why"]
    output.table(columns, [[_cell(row[column]) for column in columns] for row in rows])


def _described(place: Place, standing: Standing) -> dict[str, Any]:
    one, now = place.endpoint, time.time()
    since = standing.off.since if standing.off else standing.failing.since if standing.failing else None
    failed = f"{number(standing.failing.attempts, 'failure')} in a row" if standing.failing else ""
    secrets = one.secrets(now)
    return {
        "endpoint": place.group,
        "state": standing.state,
        "since": None if since is None else _time(since).isoformat(),
        "host": one.host,
        "format": one.format,
        "signs": f"{number(len(secrets), 'secret')}" if secrets else "nothing",
        "public_keys": [key for secret in secrets if one.format != "plain" and (key := public_key(secret))],
        "topics": " ".join(one.topics),
        "why": standing.off.why if standing.off else failed,
    }


def _cell(value: object) -> str:
    return str(value) if value else "-"


@webhooks.command(
    epilog="""\b
Examples:
  eventbus webhooks attempts billing --config config/production.yaml
  eventbus webhooks attempts billing --failed --limit 5 --json"""
)
@click.argument("endpoint")
@click.option("--failed", is_flag=True, help="Only what was not delivered.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many, the newest.")
@json_option
@settings_options
def attempts(endpoint: str, failed: bool, limit: int, as_json: bool, path: Path | None, url: str | None) -> None:
    """Show the last attempts at ENDPOINT, the newest last; the last 200 are kept.

    Exit code 3 when there are none, 5 without Redis.
    """
    settings = load_settings(path, url, log_level="error")
    place = _place(settings, endpoint)
    found = _with_bus(settings, lambda bus: _book(bus, place).attempts(place.endpoint.name))
    found = [one for one in found if not (failed and one.outcome == "delivered")][-limit:]
    if as_json:
        output.as_json([_as_facts(one) for one in found])
    if not found:
        nothing(f"no attempt at {place.group} is kept" + (" that failed" if failed else ""))
    if not as_json:
        _show(found)


def _show(found: list[Tried]) -> None:
    columns, rows, said = (
        ["at", "outcome", "status", "ms", "attempt", "event"],
        [_row(one) for one in found],
        _said(found),
    )
    if sys.stdout.isatty():
        two_lines(columns, rows, said)
    else:
        output.table([*columns, "said"], [[*row, text] for row, text in zip(rows, said, strict=True)])


def _row(one: Tried) -> list[str]:
    status = "-" if one.status is None else str(one.status)
    at = _time(one.at).astimezone().isoformat(" ", "milliseconds")
    return [at, one.outcome, status, f"{one.ms:,.0f}", str(one.number), one.event_id or "-"]


def _said(found: list[Tried]) -> list[str]:
    later = ["" if one.not_before is None else f"; not before {moment(_time(one.not_before))}" for one in found]
    return [f"{one.topic}: {one.said or 'no text'}{wait}" for one, wait in zip(found, later, strict=True)]


def _as_facts(one: Tried) -> dict[str, Any]:
    wait = None if one.not_before is None else _time(one.not_before).isoformat()
    return asdict(one) | {"at": _time(one.at).isoformat(), "not_before": wait}


@webhooks.command(epilog="\b\nExample:\n  eventbus webhooks enable billing --config config/production.yaml")
@click.argument("endpoint")
@settings_options
def enable(endpoint: str, path: Path | None, url: str | None) -> None:
    """Switch ENDPOINT on: the events that waited flow within a minute.

    Those that became dead letters before it was switched off do not: see eventbus webhooks recover. Exit code 5
    without Redis.
    """
    settings = load_settings(path, url, log_level="error")
    place = _place(settings, endpoint)

    async def work(bus: EventBus) -> bool:
        was_off = await _book(bus, place).switch_on(place.endpoint.name)
        if was_off:
            back = IntegrationRecovered(integration=place.group, detail="switched on by hand")
            await bus.publish(back, source="/cli")
        return was_off

    was_off = _with_bus(settings, work)
    click.echo(f"{place.group} is on" if was_off else f"{place.group} was on already")


@webhooks.command(
    epilog="\b\nExample:\n  eventbus webhooks disable billing --reason 'they move to another data centre'"
)
@click.argument("endpoint")
@click.option("--reason", default="switched off by hand", show_default=True, metavar="TEXT", help="For others to read.")
@settings_options
def disable(endpoint: str, reason: str, path: Path | None, url: str | None) -> None:
    """Switch ENDPOINT off: its events wait until it is switched on. Exit code 5 without Redis."""
    settings = load_settings(path, url, log_level="error")
    place, now = _place(settings, endpoint), time.time()

    async def work(bus: EventBus) -> Off:
        off = await _book(bus, place).switch_off(place.endpoint.name, Off(now, reason))
        if off.since == now:
            await bus.publish(IntegrationDisabled(integration=place.group, detail=reason), source="/cli")
        return off

    off = _with_bus(settings, work)
    if off.since == now:
        click.echo(f"{place.group} is off; its events wait until: eventbus webhooks enable {endpoint}")
    else:
        click.echo(f"{place.group} is off already, for {age(_time(off.since))}: {output.printable(off.why)}")


@webhooks.command(
    epilog="""\b
Examples:
  eventbus webhooks recover billing --since 2d --dry-run
  eventbus webhooks recover billing --since 2026-01-12T09:00Z --rate 50"""
)
@click.argument("endpoint")
@click.option("--since", required=True, metavar="TIME", type=SINCE, help="2d for two days ago, or 2026-01-12T09:00Z.")
@click.option("--until", metavar="TIME", type=SINCE, help="Before, as --since; without it until now.")
@rate_option
@click.option("--dry-run", is_flag=True, help="Change nothing; count what would be sent, at most.")
@json_option
@settings_options
def recover(
    endpoint: str,
    since: datetime,
    until: datetime | None,
    rate: float | None,
    dry_run: bool,
    as_json: bool,
    path: Path | None,
    url: str | None,
) -> None:
    """Bring ENDPOINT what it missed: the events that were given up since TIME, and those never tried.

    What was delivered is not sent again: the ledger knows it. What is sent keeps its webhook-id. Reaches as far back as
    the log. Exit code 3 when the endpoint was never served, 4 while it is off, 5 without Redis.
    """
    if until is not None and until <= since:
        fail("--until is not after --since", USAGE)
    settings = load_settings(path, url, log_level="error")
    place = _place(settings, endpoint)

    async def work(bus: EventBus) -> dict[str, Any]:
        standing = await _book(bus, place).standing(place.endpoint.name)
        if standing.off is not None and not dry_run:
            fail(f"{place.group} is off: {standing.off.why}; first: eventbus webhooks enable {endpoint}", REFUSED)
        dead = [one.id async for one in bus.dead.find(groups=[place.group], since=since, until=until)]
        given_up = len(dead) if dry_run else await _redrive(bus, dead, rate)
        try:
            again = await bus.replay(place.group, since=since, until=until, rate=rate, dry_run=dry_run)
        except UnknownGroup as error:
            nothing(str(error))
        return {"endpoint": place.group, "dry_run": dry_run, "given_up": given_up, "looked_through": again.copied}

    done = _with_bus(settings, work)
    if as_json:
        output.as_json(done)
        return
    verb = "would be" if dry_run else "will be"
    click.echo(f"{number(done['given_up'], 'event')} that had been given up {verb} sent to {place.group}")
    click.echo(f"{number(done['looked_through'], 'event')} {verb} looked through for what was never delivered")


async def _redrive(bus: EventBus, dead: list[str], rate: float | None) -> int:
    """Send dead letters again; one whose event is gone stays where it is."""
    sent = 0
    for letter in dead:
        with suppress(InvalidEvent):
            sent += await bus.dead.redrive(letter)
        if rate is not None:
            await asyncio.sleep(1 / rate)
    return sent


# -- which -------------------------------------------------------------------------------------------------------------


def _places(settings: Settings) -> list[Place]:
    found = [
        Place(account, endpoint)
        for account, section in sorted(settings.integrations.items())
        if section.enabled and isinstance(section.config, WebhookConfig)
        for endpoint in section.config.endpoints
    ]
    return found or fail("no webhook endpoint is configured; name the settings file with --config", USAGE)


def _place(settings: Settings, name: str) -> Place:
    """The endpoint of this name; with its integration's name before it where several have one of that name."""
    places = _places(settings)
    found = [place for place in places if name in (place.endpoint.name, place.group)]
    if len(found) != 1:
        known = ", ".join(place.group for place in found or places)
        fail(f"{'several endpoints are' if found else 'no endpoint is'} called {name}: name one of {known}", USAGE)
    return found[0]


def _book(bus: EventBus, place: Place) -> Book:
    return Book(bus.table(place.account))


def _with_bus(settings: Settings, work: Callable[[EventBus], Awaitable[T]]) -> T:
    async def opened() -> T:
        async with EventBus.open(settings.events.url.get_secret_value()) as bus:
            return await work(bus)

    return run(opened())


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
