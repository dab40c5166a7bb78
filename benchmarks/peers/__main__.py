"""`python -m benchmarks.peers`: measure the peers alone, print the table. Exits with 1 when any of them failed."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.peers.collect import DOES_NOT, ENVIRONMENTS, PEERS, Figures, collect
from eventbus.redis.embedded import open_embedded


def show(found: Figures) -> Table:
    """Medians, a row for each piece of work."""
    table = Table("work", *found, title="Events per second; latency in milliseconds")
    for work in dict.fromkeys(work for figures in found.values() for work in figures):
        table.add_row(work, *(_cell(work, figures.get(work)) for figures in found.values()))
    return table


def missing(found: Figures) -> Table:
    """What the numbers above are without."""
    table = Table("peer", "does not do")
    for name in found:
        table.add_row(name, DOES_NOT[name])
    return table


def _cell(work: str, values: list[float] | None) -> str:
    if values is None:
        return "none"
    middle = statistics.median(values)
    return f"{middle:.2f} ms" if work.startswith("latency") else f"{middle:,.0f}/s"


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(
        description="Measure other frameworks on Redis at the work the bus is measured at."
    )
    parser.add_argument("--events", type=int, default=5_000, help="events per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median is shown")
    parser.add_argument("--only", choices=PEERS, action="append", help="this peer; may be given again")
    parser.add_argument("--venv", type=Path, default=ENVIRONMENTS, help="where their virtual environments are kept")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    given = parser.parse_args()
    names = tuple(given.only or PEERS)
    console = Console()
    with (
        tempfile.TemporaryDirectory() as folder,
        open_embedded(Path(folder)) as server,
        Progress(console=console, transient=True) as progress,
    ):
        found = collect(
            server.socket_path, given.events, given.rounds, progress, names=names, environments=given.venv.resolve()
        )
    if found:
        console.print(show(found), missing(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    return 0 if len(found) == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
