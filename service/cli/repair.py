"""What the commands share that look after dead letters, groups, history and the books."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from service.cli import output
from service.cli.shell import NOTHING, USAGE, fail

F = TypeVar("F", bound=Callable[..., Any])


class _Rate(click.ParamType[float]):
    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            rate = float(str(value).removesuffix("/s"))
        except ValueError:
            rate = 0.0
        if not 0 < rate <= 1_000_000:
            self.fail(f"{value!r} is no rate: write 10 or 0.5, in events a second", param, ctx)
        return rate


def rate_option(command: F) -> F:
    """The option `--rate`."""
    return click.option("--rate", metavar="N", type=_Rate(), help="At most so many events a second.")(command)


def nothing(text: str) -> NoReturn:
    """End: nothing fits what was asked for."""
    click.echo(text, err=True)
    sys.exit(NOTHING)


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal. Ends the program with 1 for a no, with 2 where nobody can be asked and `yes` is missing."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        fail("nobody can be asked without a terminal: add --yes, or look first with --dry-run", USAGE)
    if not click.confirm(question, err=True):
        click.echo("nothing was changed", err=True)
        sys.exit(1)


@contextmanager
def progress(what: str, total: float) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal, nothing elsewhere. Yields what takes how far it is, of `total`."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def age(time: datetime) -> str:
    """How long ago, in one unit."""
    return length(datetime.now(UTC) - time)


def length(span: timedelta) -> str:
    """A span of time in one unit, for people."""
    seconds = max(0, int(span.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def moment(time: datetime) -> str:
    """A time for people: theirs, to the second, with its offset."""
    return time.astimezone().isoformat(" ", "seconds")


def number(count: int, noun: str) -> str:
    """`1 dead letter`, `1,200 dead letters`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def two_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], said: Sequence[str]) -> None:
    """For a terminal: a row, and below it what was said, which so has the whole width.

    Ids stay whole, to be copied: the last columns that have no room for that are left out.
    """
    width = Console().width
    cells = [[column.upper() for column in columns], *([output.printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    while sum(widths) + 2 * len(widths) - 2 > width and len(widths) > 1:
        widths.pop()
    lines = ["  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=False)).rstrip() for row in cells]
    click.secho(lines[0], bold=True)
    for line, text in zip(lines[1:], said, strict=True):
        click.echo(line)
        click.secho("  " + cut(output.printable(text), width - 2), dim=True)


def cut(text: str, most: int) -> str:
    """The text, or its beginning."""
    return text if len(text) <= most else text[: most - 3] + "..."
