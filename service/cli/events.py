"""`eventbus publish`, `listen`, `topics`: events in, events out, and what there is."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from eventbus import Event, EventBus, Payload, catalog
from eventbus.codec import to_cloudevent
from eventbus.spooling import SYNC_SECONDS
from service.cli import output
from service.cli.shell import (
    FAILED,
    USAGE,
    bus_address,
    bus_events,
    fail,
    json_object,
    json_option,
    load_foreign_topics,
    run,
    settings_options,
)
from service.cli.times import SPAN, TIME
from service.wiring import keeping

CELL = 60
POLL_SECONDS = 0.02


@click.command(
    epilog="""\b
Examples:
  eventbus publish vm.created '{"vm_id": "1", "vm_name": "my-vm"}'
  eventbus publish custom.backup_done '{"size_gb": 12}' --idempotency-key backup-2026-01-12
  eventbus publish custom.reminder '{"text": "look"}' --delay 15m
  generate | eventbus publish task.failed -"""
)
@click.argument("topic")
@click.argument("data", default="{}", metavar="[JSON | -]")
@click.option("--key", metavar="TEXT", help="Ordering key; a standard topic has its own.")
@click.option("--idempotency-key", metavar="TEXT", help="Publishing it again within a day stores nothing new.")
@click.option("--source", default="/cli", show_default=True, metavar="URI", help="Who says so.")
@click.option("--subject", metavar="TEXT", help="What it is about.")
@click.option("--at", metavar="TIME", type=TIME, help="Publish it then, such as 2026-01-12T09:00+01:00.")
@click.option("--delay", metavar="SPAN", type=SPAN, help="Publish it after this time, such as 90s, 15m, 2h, 1d.")
@json_option
@settings_options
def publish(
    topic: str,
    data: str,
    key: str | None,
    idempotency_key: str | None,
    source: str,
    subject: str | None,
    at: datetime | None,
    delay: timedelta | None,
    as_json: bool,
    path: Path | None,
    url: str | None,
) -> None:
    """Publish one event. Its data is JSON, or - to read it from standard input.

    As safe as the file says: events.durability and events.spool hold. The last word says what has confirmed it: memory,
    aof, replica, or spool (this machine's disk: Redis gets it from there). Exit code 0 when one of them has; 1 when it
    is refused or there is no room, 5 when nothing has confirmed it.
    """
    if at is not None and delay is not None:
        fail("give --at or --delay, not both", USAGE)
    events = bus_events(path, url)
    body = json_object(sys.stdin.buffer.read() if data == "-" else data)
    given = {"key": key, "idempotency_key": idempotency_key, "source": source, "subject": subject}
    envelope = {name: value for name, value in given.items() if value is not None}
    event = _made(topic, body, envelope)

    async def work() -> None:
        options = keeping(events, patient=False)
        async with EventBus.open(events.url.get_secret_value(), **options) as bus:
            receipt = await bus.publish(event, at=at, delay=delay)
            waits = receipt.status == "spooled" and not await _is_sent(bus)
        if as_json:
            output.as_json(
                {
                    "id": receipt.event_id,
                    "topic": receipt.topic,
                    "status": receipt.status,
                    "sequence": receipt.sequence,
                    "entry_id": receipt.entry_id,
                    "durability": receipt.durability,
                }
            )
        else:
            place = f"  number {receipt.sequence}" if receipt.sequence else ""
            click.echo(f"{receipt.status}  {receipt.topic}  {receipt.event_id}{place}  {receipt.durability}")
        if waits:
            where = f"it waits in {events.spool}; the next program that uses this directory sends it"
            click.echo(f"Redis did not take it: {where}", err=True)

    run(work())


async def _is_sent(bus: EventBus) -> bool:
    """Give what is spooled a moment to get to a Redis that answers: this process may be the only one to send it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SYNC_SECONDS):
            while bus.spools is not None and bus.spools.count:  # noqa: ASYNC110  it is the disk's state
                await asyncio.sleep(POLL_SECONDS)
            return True
    return False


def _made(topic: str, body: dict[str, Any], envelope: dict[str, Any]) -> Event[Any]:
    from eventbus import InvalidEvent

    try:
        return catalog.event(topic, body, **envelope)
    except InvalidEvent as error:
        hint = f"\n  its fields: eventbus topics {topic}" if catalog.find(topic) else ""
        fail(f"refused: {error}{hint}", FAILED)


@click.command(
    epilog="""\b
Examples:
  eventbus listen
  eventbus listen 'github.>' --json | jq .data.title"""
)
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after this many events.")
@json_option
@settings_options
def listen(patterns: tuple[str, ...], count: int | None, as_json: bool, path: Path | None, url: str | None) -> None:
    """Watch events as they are published, until Ctrl-C.

    In a pattern * stands for one segment and a last > for all that follow. With --json each event is one line of
    CloudEvents 1.0.
    """
    address = bus_address(path, url)

    async def work() -> None:
        async with EventBus.open(address) as bus:
            await bus.check_server()
            async with bus.listen(*patterns) as events:
                if not as_json:
                    click.echo(f"Listening on {bus.address} to {' '.join(patterns) or 'everything'}.", err=True)
                seen = 0
                async for event in events:
                    output.as_line(to_cloudevent(event)) if as_json else _show(event)
                    seen += 1
                    if seen == count:
                        return

    run(work())


def _show(event: Event[Any]) -> None:
    data = event.data.model_dump(mode="json", exclude_none=True) if isinstance(event.data, Payload) else event.data
    facts = " ".join(f"{_cell(name)}={_cell(value)}" for name, value in data.items())
    at = event.time.astimezone().strftime("%H:%M:%S")
    line = f"{at}  {click.style(event.topic.ljust(24), fg='cyan')}  {facts}"
    click.echo(line)
    sys.stdout.flush()


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    line = output.printable(text)
    return line if len(line) <= CELL else line[: CELL - 3] + "..."


@click.command(epilog="\b\nExamples:\n  eventbus topics\n  eventbus topics task.failed")
@click.argument("topic", required=False)
@json_option
def topics(topic: str | None, as_json: bool) -> None:
    """The catalogue of topics. With a TOPIC: its fields and an example."""
    load_foreign_topics()
    if topic is None:
        classes = list(catalog)
        if as_json:
            output.as_json([_described(cls) for cls in classes])
            return
        rows = [[cls.__topic__, cls.__key_field__ or "-", _fields(cls), _first_line(cls)] for cls in classes]
        output.table(["topic", "ordered by", "fields (* required)", "meaning"], rows)
        click.echo("\nOther topics carry any JSON object: custom.my_event, team.thing.happened, ...")
        return
    cls = catalog.find(topic)
    if cls is None:
        fail(f"{topic} is not in the catalogue; it may carry any JSON object", FAILED)
    if as_json:
        output.as_json(_described(cls))
        return
    click.echo(f"{cls.__topic__}, version {cls.__payload_version__}: {_first_line(cls)}\n")
    rows = [
        [name, _type(cls, name), "yes" if field.is_required() else "no", field.description or ""]
        for name, field in cls.model_fields.items()
    ]
    output.table(["field", "type", "required", "meaning"], rows)
    example = cls.example()
    if example is not None:
        click.echo("\nExample:\n" + example.model_dump_json(indent=2, exclude_none=True))


def _described(cls: type[Payload]) -> dict[str, Any]:
    example = cls.example()
    return {
        "topic": cls.__topic__,
        "version": cls.__payload_version__,
        "key": cls.__key_field__,
        "meaning": _first_line(cls),
        "schema": cls.model_json_schema(),
        "example": None if example is None else example.model_dump(mode="json", exclude_none=True),
    }


def _fields(cls: type[Payload]) -> str:
    return " ".join(name + ("*" if field.is_required() else "") for name, field in cls.model_fields.items())


def _type(cls: type[Payload], name: str) -> str:
    schema = cls.model_json_schema(by_alias=False)["properties"][name]
    kinds = [one.get("type", "any") for one in schema.get("anyOf", [schema])]
    return " or ".join(kind for kind in kinds if kind != "null") or "any"


def _first_line(cls: type[Payload]) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]
