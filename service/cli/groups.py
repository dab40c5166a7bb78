"""`eventbus groups list | retire`: who subscribes, how they stand, and the end of a subscription."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import click

from eventbus import BacklogGrew, EventBus, UnknownGroup
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from eventbus.redis.shard import Shard
from eventbus.redis.survey import Group, look
from service.cli import output
from service.cli.repair import length, nothing, number, two_lines
from service.cli.shell import REFUSED, USAGE, bus_address, fail, json_option, run, settings_options

STATES = ("unread", "running", "waiting", "due", "ready")


@dataclass(frozen=True, slots=True)
class Standing:
    """A group with what it subscribes to."""

    group: Group
    patterns: list[str]

    @property
    def left(self) -> int:
        """Deliveries that are not handled."""
        return 0 if self.group.backlog is None else self.group.backlog.left

    @property
    def dead(self) -> int:
        """Dead letters."""
        return 0 if self.group.backlog is None else self.group.backlog.dead

    @property
    def alive(self) -> int:
        """Consumers whose lease has not run out."""
        return sum(reader.is_alive for reader in self.group.readers)


@click.group()
def groups() -> None:
    """Durable subscriptions: how they stand, and how to end one."""


@groups.command("list", epilog="\b\nExample:\n  eventbus groups list --config config/production.yaml")
@json_option
@settings_options
def list_(as_json: bool, path: Path | None, url: str | None) -> None:
    """List the groups: what is left to do, what is dead, and who serves them. Exit code 5 without Redis."""
    found = run(_standings(bus_address(path, url)))
    if as_json:
        output.as_json([_described(one) for one in found])
    elif not found:
        click.echo("no group is declared")
    else:
        _show(found)


@groups.command(
    epilog="\b\nExamples:\n  eventbus groups retire old-hook\n  eventbus groups retire old-hook --drop-backlog 12"
)
@click.argument("name")
@click.option("--drop-backlog", type=click.IntRange(min=0), metavar="N", help="Yes, forget these N deliveries.")
@settings_options
def retire(name: str, drop_backlog: int | None, path: Path | None, url: str | None) -> None:
    """Forget the group NAME, its place in the log and what it has not handled.

    Without --drop-backlog it shows how much that is. Its dead letters stay until they are dropped. Exit code 4 when
    the backlog is another one or workers serve the group, 3 when there is no such group, 5 without Redis.
    """
    address = bus_address(path, url)
    one = next((one for one in run(_standings(address)) if one.group.name == name), None)
    if one is None:
        nothing(f"no group {name} is declared; see: eventbus groups list")
    if one.alive:
        fail(
            f"{name} is served by {number(one.alive, 'worker')}, which would declare it again: take it out of their "
            "settings and restart them first",
            REFUSED,
        )
    if drop_backlog != one.left:
        _refuse(name, one.left, drop_backlog)

    async def work() -> int:
        async with EventBus.open(address) as bus:
            try:
                return await bus.retire(name, one.left)
            except BacklogGrew as error:
                _refuse(name, error.backlog, drop_backlog)
            except UnknownGroup:
                nothing(f"{name} was retired by somebody else")

    dropped = run(work())
    click.echo(f"{name} is retired; not handled and dropped with it: {dropped:,}")
    if one.dead:
        click.echo(f"dead letters that stay: {one.dead:,}; see: eventbus dead list --group {name}")


def _refuse(name: str, backlog: int, asked: int | None) -> NoReturn:
    wrong = "" if asked is None else f", not {asked:,}"
    fail(
        f"{name} has {backlog:,} deliveries that are not handled{wrong}; nothing was changed\n"
        f"  to have them handled: start a worker that serves it\n"
        f"  to forget them with it: eventbus groups retire {name} --drop-backlog {backlog}",
        REFUSED,
    )


async def _standings(address: str) -> list[Standing]:
    connection = await Connection.open(address)
    try:
        keys = ShardKeys()
        patterns = await Shard(connection, keys).declared()
        survey = await look(connection, keys)
    finally:
        await connection.close()
    if survey is None:
        fail(f"the user at {connection.address.text} may not look at groups: use one that may, such as admin", USAGE)
    return [Standing(group, patterns.get(group.name, [])) for group in survey.groups]


def _show(found: list[Standing]) -> None:
    """A terminal gets what is not nothing in words; elsewhere each number has its column."""
    if sys.stdout.isatty():
        columns = ["group", "left", "dead", "oldest", "workers"]
        rows = [[one.group.name, f"{one.left:,}", f"{one.dead:,}", _oldest(one), _workers(one)] for one in found]
        said = [" ".join(one.patterns) + ": " + ("; ".join(_state(one)) or "nothing to do") for one in found]
        two_lines(columns, rows, said)
        return
    columns = ["group", "patterns", *STATES, "dead", "paused", "oldest", "workers", "state"]
    output.table(columns, [_row(one) for one in found])


def _row(one: Standing) -> list[str]:
    backlog = one.group.backlog
    left = ["-" if backlog is None else f"{getattr(backlog, name):,}" for name in STATES]
    paused = "-" if backlog is None or not backlog.paused_ms else length(timedelta(milliseconds=backlog.paused_ms))
    words = "; ".join(_faults(one)) or "-"
    return [
        one.group.name,
        " ".join(one.patterns) or "-",
        *left,
        f"{one.dead:,}",
        paused,
        _oldest(one),
        _workers(one),
        words,
    ]


def _oldest(one: Standing) -> str:
    backlog = one.group.backlog
    return "-" if backlog is None or not backlog.left else length(timedelta(milliseconds=backlog.oldest_ms))


def _workers(one: Standing) -> str:
    return str(one.alive or "none")


def _faults(one: Standing) -> Iterator[str]:
    if not one.group.has_place:
        yield "no place in the log: start a worker that serves it"
    if not one.group.is_declared:
        yield "not declared: not of this bus, and trimming waits for it"


def _state(one: Standing) -> Iterator[str]:
    """What is worth a word, the worst first."""
    yield from _faults(one)
    backlog = one.group.backlog
    if backlog is None:
        return
    if backlog.paused_ms:
        yield f"paused for {length(timedelta(milliseconds=backlog.paused_ms))}"
    left = [f"{getattr(backlog, name):,} {name}" for name in STATES if getattr(backlog, name)]
    if left:
        yield ", ".join(left)


def _described(one: Standing) -> dict[str, Any]:
    backlog = one.group.backlog
    return {
        "group": one.group.name,
        "patterns": one.patterns,
        "declared": one.group.is_declared,
        "has_place": one.group.has_place,
        "left": one.left,
        "backlog": None if backlog is None else backlog._asdict(),
        "consumers": [asdict(reader) for reader in one.group.readers],
    }
