"""How results look: tables on a terminal, aligned plain text elsewhere, JSON when asked. Never colour alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

SIGNS = {"healthy": ("✓", "green"), "degraded": ("!", "yellow"), "unhealthy": ("✗", "red")}


def printable(text: str) -> str:
    """The text without what could move a cursor, ring a bell or turn the line around: what comes in is not ours."""
    return "".join(c if c.isprintable() else "?" for c in text)


def as_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(_escaped(json.dumps(value, indent=2, ensure_ascii=False, default=str)))


def as_line(value: Any) -> None:
    """One JSON document on one line, at once: for streams."""
    click.echo(_escaped(json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)))
    sys.stdout.flush()


def _escaped(text: str) -> str:
    """JSON leaves more than a terminal should be shown: U+009B begins a control sequence, U+202E turns text around."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows under headings. Nothing is cut where it is not a terminal."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        shown = Table(*(column.upper() for column in columns), box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for row in rows:
            shown.add_row(*(Text(cell) for cell in row))
        Console(highlight=False).print(shown)
        return
    cells = [[column.upper() for column in columns], *rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def sign(state: str) -> str:
    """A state with its sign, coloured on a terminal."""
    mark, color = SIGNS.get(state, ("-", "white"))
    return f"{mark} {state}" if not sys.stdout.isatty() else click.style(f"{mark} {state}", fg=color)
