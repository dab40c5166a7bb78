"""`python -m tests.faults.peers`: the same workload, under the same faults, on this bus and on other frameworks.

Every framework runs by itself, one after another; those that are not ours are installed into environments of their own
first, at pinned versions (see `benchmarks.peers.collect`), so this asks for a package registry and is no part of the
tests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.peers import work
from tests.faults.peers.frameworks import FRAMEWORKS, Framework
from tests.faults.peers.play import BOUND_SECONDS, Played, Size, play
from tests.faults.report import peer_rows
from tests.faults.run import commit


def as_json(framework: Framework, played: Played) -> dict[str, Any]:
    """One framework's part of the result."""
    said = {"name": framework.name, "title": framework.title}
    said |= {"never_promised": framework.never_promised, "unknown": framework.unknown}
    return said | asdict(played)


def table(result: dict[str, Any]) -> Table:
    """What is printed at the end."""
    head, *lines = peer_rows(result)
    shown = Table(*head)
    for name, *cells in lines:
        shown.add_row(name.strip("*"), *cells)
    return shown


async def run(chosen: list[Framework], seed: int, size: Size, keep: Path | None, console: Console) -> list[Any]:
    """One after another."""
    found = []
    for framework in chosen:
        folder = Path(tempfile.mkdtemp(prefix="peers-")) if keep is None else keep / framework.name
        shutil.rmtree(folder, ignore_errors=True)
        console.print(f"{framework.title}: {size.events:,} events")
        played = await play(framework, folder, seed, size)
        found.append(as_json(framework, played))
        console.print(f"  {played.seconds:.0f} s; {sum(played.numbers.faults.values())} faults")
        for line in played.numbers.examples:
            console.print(f"  {line}")
        if keep is None:
            shutil.rmtree(folder)
    return found


def main() -> int:
    """Read the command line, run, print. Exits with 1 when this bus lost events or their order."""
    names = [one.name for one in FRAMEWORKS]
    parser = argparse.ArgumentParser(prog="python -m tests.faults.peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=Size().events, help="events for each framework")
    parser.add_argument("--rate", type=float, default=Size().rate, help="events per second")
    parser.add_argument("--faults", type=int, default=Size().faults, help="faults for each framework")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--only", choices=names, action="append", help="this framework; may be given again")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--keep", type=Path, help="keep every framework's histories here")
    given = parser.parse_args()
    console = Console()
    size = Size(events=given.events, rate=given.rate, faults=given.faults)
    chosen = [one for one in FRAMEWORKS if one.name in (given.only or names)]
    result = {
        "seed": given.seed,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "size": asdict(size),
        "presumed_dead": work.PRESUMED_DEAD,
        "bound": BOUND_SECONDS,
    }
    result["frameworks"] = asyncio.run(run(chosen, given.seed, size, given.keep, console))
    console.print(table(result))
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1))
    ours = [one["numbers"] for one in result["frameworks"] if one["name"] == "eventbus"]
    return int(any(one["lost"] or one["out_of_order"] or one["phantom"] for one in ours))


if __name__ == "__main__":
    sys.exit(main())
