"""`eventbus dead list | show | redrive | drop`: what was given up, and what becomes of it."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from eventbus import DeadLetter, EventBus, EventBusError, InvalidEvent, UnknownGroup
from eventbus.dead import edited
from service.cli import output
from service.cli.letters import Found, described, document, show_letter, show_letters, show_problems
from service.cli.repair import confirm, nothing, number, progress, rate_option
from service.cli.shell import FAILED, USAGE, bus_address, fail, json_object, json_option, run, settings_options
from service.cli.times import SINCE

REASONS = ("rejected", "exhausted", "invalid", "poison", "unknown")

F = TypeVar("F", bound=Callable[..., Any])


def filter_options(command: F) -> F:
    """The options that say which dead letters."""
    for option in (
        click.option("--text", metavar="TEXT", help="Part of the error, the key or the event's JSON."),
        click.option("--until", metavar="TIME", type=SINCE, help="Given up before, as --since."),
        click.option(
            "--since", metavar="TIME", type=SINCE, help="Given up since: 2h for 2 hours ago, or 2026-01-12T09:00Z."
        ),
        click.option("--reason", "reasons", multiple=True, type=click.Choice(REASONS), help="May be repeated."),
        click.option("--topic", "topics", multiple=True, metavar="PATTERN", help="Such as 'vm.*'; may be repeated."),
        click.option("--group", "groups", multiple=True, metavar="NAME", help="Such as slack; may be repeated."),
    ):
        command = option(command)
    return command


def change_options(command: F) -> F:
    """The options of what changes something, and its arguments."""
    for option in (
        click.option("--yes", is_flag=True, help="Don't ask."),
        click.option("--dry-run", is_flag=True, help="Change nothing; say what would be done."),
        filter_options,
        click.option("--all", "everything", is_flag=True, help="All that fit the filters; without filters all."),
        click.argument("ids", nargs=-1, metavar="[ID]..."),
    ):
        command = option(command)
    return command


@click.group()
def dead() -> None:
    """Dead letters: list them, send them again, drop them.

    Those of a retired group are marked. They can be dropped, or sent again once the group is declared again.
    """


@dead.command(
    "list",
    epilog="""\b
Examples:
  eventbus dead list --since 1d
  eventbus dead list --by problem
  eventbus dead list --group slack --topic 'vm.*' --text channel_not_found --json""",
)
@filter_options
@click.option("--by", type=click.Choice(["letter", "problem"]), default="letter", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Letters shown; all count.")
@json_option
@settings_options
def list_(by: str, limit: int, as_json: bool, path: Path | None, url: str | None, **filters: Any) -> None:
    """List dead letters, the newest last.

    Those of one group with the same error are one problem. Exit code 3 when nothing fits, 5 without Redis.
    """
    address = bus_address(path, url)

    async def work() -> Found:
        found = Found(deque(maxlen=limit))
        async with EventBus.open(address) as bus:
            async for letter in bus.dead.find(**filters):
                found.add(letter)
        return found

    found = run(work())
    if as_json:
        output.as_json(document(found))
    if not found.count:
        nothing("no dead letter fits")
    if not as_json:
        show_problems(found) if by == "problem" else show_letters(found)


@dead.command(epilog="\b\nExample:\n  eventbus dead show slack/1768208400000-0")
@click.argument("letter_id", metavar="ID")
@json_option
@settings_options
def show(letter_id: str, as_json: bool, path: Path | None, url: str | None) -> None:
    """Show one dead letter with its payload. Exit code 3 when it is not there, 5 without Redis."""
    address = bus_address(path, url)

    async def work() -> DeadLetter | None:
        async with EventBus.open(address) as bus:
            return await bus.dead.get(letter_id)

    letter = run(work())
    if letter is None:
        nothing(f"there is no dead letter {letter_id}; see: eventbus dead list")
    if as_json:
        output.as_json(described(letter, whole=True))
    else:
        show_letter(letter)


@dead.command(
    epilog="""\b
Examples:
  eventbus dead redrive slack/1768208400000-0
  eventbus dead redrive slack/1768208400000-0 --data '{"vm_id": "1", "vm_name": "my-vm"}'
  eventbus dead redrive --group slack --reason exhausted --since 2h --dry-run
  eventbus dead redrive --all --rate 10 --yes"""
)
@change_options
@click.option("--data", metavar="JSON | @FILE | -", help="Another payload, for one ID; - is standard input.")
@rate_option
@json_option
@settings_options
def redrive(
    ids: tuple[str, ...],
    everything: bool,
    data: str | None,
    rate: float | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    path: Path | None,
    url: str | None,
    **filters: Any,
) -> None:
    """Deliver dead letters again, to their groups alone.

    The events keep their ids: what the ledger has as done is not done again. With --data the payload is another one,
    checked against the topic; it changes what is still to be done, not what was done.

    For anything but IDs it asks on a terminal, and needs --yes elsewhere. Exit code 1 when one could not be sent, 3
    when nothing fits, 5 without Redis.
    """
    _check_selection(ids, filters, everything=everything)
    if data is not None and len(ids) != 1:
        fail("--data is for one dead letter: name its ID", USAGE)
    payload = None if data is None else _payload(data)
    address = bus_address(path, url)
    chosen = run(_chosen(address, ids, filters, payload, sends=True))
    if dry_run:
        _would_be("redriven", chosen, as_json=as_json)
        return
    confirm(f"Redrive {_in_groups(chosen)}?", yes=yes or bool(ids))

    async def work() -> Done:
        async with EventBus.open(address) as bus:
            return await _each(chosen, "redriven", lambda one: bus.dead.redrive(one, payload), rate)

    _report(run(work()), "redriven", as_json=as_json)


@dead.command(
    epilog="""\b
Examples:
  eventbus dead drop slack/1768208400000-0
  eventbus dead drop --group slack --text channel_not_found --dry-run
  eventbus dead drop --until 30d --yes"""
)
@change_options
@json_option
@settings_options
def drop(
    ids: tuple[str, ...],
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    path: Path | None,
    url: str | None,
    **filters: Any,
) -> None:
    """Delete dead letters for good.

    Asks on a terminal, and needs --yes elsewhere. Exit code 3 when nothing fits, 5 without Redis.
    """
    _check_selection(ids, filters, everything=everything)
    address = bus_address(path, url)
    chosen = run(_chosen(address, ids, filters))
    if dry_run:
        _would_be("dropped", chosen, as_json=as_json)
        return
    confirm(f"Drop {_in_groups(chosen)} for good?", yes=yes)

    async def work() -> Done:
        async with EventBus.open(address) as bus:
            return await _each(chosen, "dropped", bus.dead.drop, None)

    _report(run(work()), "dropped", as_json=as_json)


# -- which -------------------------------------------------------------------------------------------------------------


def _check_selection(ids: tuple[str, ...], filters: dict[str, Any], *, everything: bool) -> None:
    narrowed = any(value is not None and value != () for value in filters.values())
    if ids and (everything or narrowed):
        fail("name IDs, or use filters, not both", USAGE)
    if not (ids or everything or narrowed):
        fail("which ones? Name IDs, or filters such as --group, or --all; see: eventbus dead list", USAGE)


async def _chosen(
    address: str,
    ids: tuple[str, ...],
    filters: dict[str, Any],
    payload: dict[str, Any] | None = None,
    *,
    sends: bool = False,
) -> list[str]:
    """The ids that are meant, each of which is there. A payload is tried on the letters it is for.

    `sends`: retired groups are meant only where they are named, as nobody would take what is sent to them.
    """
    async with EventBus.open(address) as bus:
        if not ids:
            found = [letter async for letter in bus.dead.find(**filters)]
            if sends and not filters["groups"]:
                found = _without_retired(found)
            return [letter.id for letter in found] or nothing("no dead letter fits")
        for letter_id in ids:
            letter = await bus.dead.get(letter_id)
            if letter is None:
                nothing(f"there is no dead letter {letter_id}: nothing was changed. See: eventbus dead list")
            if payload is not None:
                edited(letter, payload)
    return list(dict.fromkeys(ids))


def _without_retired(found: list[DeadLetter]) -> list[DeadLetter]:
    """Those that somebody would take; what is left out is said."""
    left_out = [letter.id for letter in found if letter.retired]
    if left_out:
        why = "of retired groups: start a worker that serves them, or drop them"
        click.echo(f"left out: {_in_groups(left_out)} {why}", err=True)
    return [letter for letter in found if not letter.retired]


def _payload(text: str) -> dict[str, Any]:
    try:
        said = sys.stdin.buffer.read() if text == "-" else Path(text[1:]).read_bytes() if text[:1] == "@" else text
    except OSError as error:
        fail(f"can't read {text[1:]}: {error.strerror}", USAGE)
    return json_object(said)


# -- what becomes of them ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Done:
    """What became of the chosen ones. `gone`: somebody else was faster."""

    count: int = 0
    gone: int = 0
    failed: dict[str, str] = field(default_factory=dict)


async def _each(ids: list[str], done: str, act: Callable[[str], Awaitable[bool]], rate: float | None) -> Done:
    """One after another. What is wrong with one letter stops no other; what is wrong with Redis stops all."""
    result = Done()
    with progress(done, len(ids)) as shown:
        for so_far, letter_id in enumerate(ids):
            if so_far and rate is not None:
                await asyncio.sleep(1 / rate)
            try:
                worked = await act(letter_id)
            except (InvalidEvent, UnknownGroup) as error:
                result.failed[letter_id] = str(error)
            except EventBusError as error:
                raise type(error)(f"{result.count:,} of {len(ids):,} {done}, then: {error}") from error
            else:
                result.count += worked
                result.gone += not worked
            shown(so_far + 1)
    return result


def _would_be(done: str, ids: list[str], *, as_json: bool) -> None:
    if as_json:
        output.as_json({"dry_run": True, "ids": ids})
    else:
        click.echo(f"{_in_groups(ids)} would be {done}")


def _in_groups(ids: list[str]) -> str:
    """`3 dead letters (slack 2, github 1)`."""
    groups = Counter(letter_id.partition("/")[0] for letter_id in ids)
    return f"{number(len(ids), 'dead letter')} ({', '.join(f'{name} {n:,}' for name, n in groups.most_common())})"


def _report(result: Done, done: str, *, as_json: bool) -> None:
    if as_json:
        output.as_json({done: result.count, "gone": result.gone, "failed": result.failed})
    else:
        click.echo(f"{number(result.count, 'dead letter')} {done}")
        if result.gone:
            click.echo(f"{result.gone:,} were not there any more: somebody else was faster", err=True)
        for letter_id, error in result.failed.items():
            click.echo(f"not {done}: {letter_id}: {output.printable(error)}", err=True)
    if result.failed:
        sys.exit(FAILED)
