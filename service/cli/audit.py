"""`eventbus audit`: is every event accounted for?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from eventbus import EventBus
from eventbus.audit import Gap, gaps
from eventbus.redis.history import Books, GroupBooks
from service.cli import output
from service.cli.repair import number
from service.cli.shell import FAILED, bus_address, json_option, run, settings_options

COLUMNS = ("group", "given", "done", "dead", "skipped", "pending")
LOST_PLACE = "no place"  # the one gap that no counter makes up for


@click.command(epilog="\b\nExamples:\n  eventbus audit --config config/production.yaml\n  eventbus audit --accept")
@click.option("--accept", is_flag=True, help="Take note of the gaps shown: from now on the books add up without them.")
@json_option
@settings_options
def audit(accept: bool, as_json: bool, path: Path | None, url: str | None) -> None:
    """Check the books: is every published event accounted for?

    Exit code 0 when it is, 1 when there are gaps, 5 without Redis. It looks at counters, not at events, so it costs
    little however long the log is; every worker does the same by itself and publishes delivery.gap_found.
    """
    address = bus_address(path, url)

    async def work() -> tuple[Books, list[Gap], list[Gap]]:
        async with EventBus.open(address) as bus:
            books = await bus.books()
            found = gaps(books)
            taken_note = [gap for gap in found if accept and gap.kind != LOST_PLACE]
            for gap in taken_note:
                await bus.accept(gap)
            return books, found, taken_note

    books, found, accepted = run(work())
    if as_json:
        output.as_json(_document(books, found, accepted))
    else:
        _show(books, found, accepted)
    if len(found) > len(accepted):
        raise SystemExit(FAILED)


def _show(books: Books, found: list[Gap], accepted: list[Gap]) -> None:
    output.table(
        ["log", "published", "trimmed", "in the log", "state"],
        [["shard 0", f"{books.sequence:,}", f"{books.trimmed:,}", f"{books.length:,}", _state(None, found)]],
    )
    if books.groups:
        _part()
        output.table(
            [*COLUMNS, "state"],
            [[group.name, *(f"{n:,}" for n in _sums(group)), _state(group.name, found)] for group in books.groups],
        )
    if books.undeclared:
        _part()
        click.echo(f"not declared, so not audited, and trimming waits for them: {', '.join(books.undeclared)}")
    _part()
    for gap in found:
        click.echo(f"{'noted' if gap in accepted else 'gap'}: {output.printable(gap.text)}")
        if gap.kind == LOST_PLACE:
            click.echo(f"  start a worker that serves it, or: eventbus groups retire {gap.group}")
    left = len(found) - len(accepted)
    if left:
        known = " To take note of them: eventbus audit --accept" if any(g.kind != LOST_PLACE for g in found) else ""
        click.echo(f"{number(left, 'gap')}.{'' if accepted else known}")
    else:
        click.echo("every event is accounted for" + (" from now on" if accepted else ""))


def _part() -> None:
    """An empty line, which a terminal's tables have already."""
    if not sys.stdout.isatty():
        click.echo()


def _sums(group: GroupBooks) -> list[int]:
    return [group.given - group.start, group.done, group.dead, group.skipped, group.pending]


def _state(group: str | None, found: list[Gap]) -> str:
    mine = [f"{gap.count:,} {gap.kind}" if gap.count else gap.kind for gap in found if gap.group == group]
    return f"✗ {', '.join(mine)}" if mine else "✓ adds up"


def _document(books: Books, found: list[Gap], accepted: list[Gap]) -> dict[str, Any]:
    return {
        "ok": len(found) == len(accepted),
        "shards": [
            {
                "shard": 0,
                "published": books.sequence,
                "trimmed": books.trimmed,
                "in_log": books.length,
                "first": books.first,
                "last": books.last,
                "undeclared": books.undeclared,
                "groups": [dict(zip(COLUMNS, [group.name, *_sums(group)], strict=True)) for group in books.groups],
            }
        ],
        "gaps": [asdict(gap) | {"text": gap.text, "accepted": gap in accepted} for gap in found],
    }
