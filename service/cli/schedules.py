"""`eventbus schedules`: what will be published by the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import click

from eventbus import EventBus
from service.cli import output
from service.cli.shell import NOTHING, fail, json_option, load_settings, run, settings_options


@click.group()
def schedules() -> None:
    """Events that are published by the clock."""


@schedules.command("list", epilog="\b\nExample:\n  eventbus schedules list --config config/production.yaml")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Waiting events shown.")
@json_option
@settings_options
def list_(limit: int, as_json: bool, path: Path | None, url: str | None) -> None:
    """Show the schedules of the file with their next time, and the events that wait in Redis for theirs."""
    from service.schedules import occurrences

    settings = load_settings(path, url, log_level="error")
    now = datetime.now(UTC)
    configured = [
        {
            "name": name,
            "cron": schedule.cron,
            "timezone": schedule.timezone,
            "topic": schedule.topic,
            "enabled": schedule.enabled,
            "next": next((time.isoformat() for time in islice(occurrences(schedule, now), 1)), None),
        }
        for name, schedule in settings.schedules.items()
    ]

    async def work() -> list[dict[str, str]]:
        async with EventBus.open(settings.events.url.get_secret_value()) as bus:
            return [
                {"due": one.due.isoformat(), "topic": one.event.topic, "key": one.event.idempotency_key}
                for one in await bus.scheduled(limit)
            ]

    waiting = run(work())
    if as_json:
        output.as_json({"schedules": configured, "waiting": waiting})
        return
    if configured:
        output.table(["name", "cron", "time zone", "topic", "next"], [_row(one) for one in configured])
        click.echo()
    if waiting:
        output.table(["due", "topic", "idempotency key"], [list(one.values()) for one in waiting])
    else:
        click.echo("no event waits for its time")


def _row(one: dict[str, str | bool | None]) -> list[str]:
    following = str(one["next"] or "never") if one["enabled"] else "disabled"
    return [str(one["name"]), str(one["cron"]), str(one["timezone"]), str(one["topic"]), following]


@schedules.command(epilog="\b\nExample:\n  eventbus schedules cancel reminder-42")
@click.argument("key")
@settings_options
def cancel(key: str, path: Path | None, url: str | None) -> None:
    """Forget one waiting event, named by its idempotency key."""
    settings = load_settings(path, url, log_level="error")

    async def work() -> bool:
        async with EventBus.open(settings.events.url.get_secret_value()) as bus:
            return await bus.cancel(key)

    if not run(work()):
        fail(f"nothing waits under the key {key!r}; see: eventbus schedules list", NOTHING)
    click.echo("cancelled")
