"""`python -m tests.faults`: events under faults, round after round, until as many were sent as asked for.

Each round has its own seed, Redis and verdict; the sums are printed and written as JSON. Exit code 1 on any violation,
2 when the cases it is there for were reached too seldom (such a run proves nothing), 3 when the harness itself failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.live import Live
from rich.table import Table

from eventbus.failpoint import PLACES
from registry.dispatch import FRESH_SECONDS
from tests.faults.checker import FREEZES, KILLS_SPOOLERS, Verdict, check
from tests.faults.nemesis import POWER_CUT, Nemesis
from tests.faults.stage import LEASE, SWEEP_EVERY, WANTED, Size, Stage, Topology, finish, open_stage

ROUND_EVENTS = 20_000
RATE = 400.0
DRAIN_SECONDS = 60.0
PUBLISH_SECONDS = 900.0
BOUND_SECONDS = 30.0
MUST_REACH: Mapping[str, tuple[tuple[str, ...], float, float]] = {
    "killed_between_effect_and_settle": (("kill worker",), 0, 1),
    "stale_finish_refused": ((FREEZES,), 0, 1),
    "taken_over": (("kill worker", FREEZES), 0, 1),
    "reply_lost_after_commit": (("kill publisher", "lose answer of publish"), 0, 1),
    "publish_refused": (("squeeze memory",), 0, 1),
    "publish_unknown": (("kill redis", "swallow answers"), 0, 1),
    "spool_left_by_a_killed_program": ((KILLS_SPOOLERS,), 0, 1),
    "repeat_known_by_its_key": (("kill worker", FREEZES), 0, 0),
    "retried": ((), 10, 0),
    "dead_letter": ((), 2, 0),
    "alarm": ((POWER_CUT,), 0, 1),
}
"""Hard case to what brings it about (any of these; nothing: every run), and how often it has to be reached: for each
1,000 events, and for each minute. Each at least once."""

ALL_PLACES_EVENTS = 20_000
"""From here on a run has to come by every failpoint."""

ALL_FAULTS_MINUTES = 2.0
"""From here on each kind of fault has had its turn."""


@dataclass(slots=True)
class Total:
    """The sums over all rounds."""

    seed: int
    size: Size
    began: str
    commit: str
    rounds: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    reach: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, list[float]] = field(default_factory=dict)
    latency: list[float] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)

    def add(self, round_: Round, seconds: float) -> None:
        """One round more."""
        verdict = round_.verdict
        self.places |= round_.places
        self.kinds |= round_.kinds
        self.rounds += 1
        self.seconds += seconds
        self.counts.update(verdict.counts)
        self.reach.update(verdict.reach)
        self.violations.update(verdict.violations)
        self.faults.update(verdict.faults)
        for kind, took in verdict.recovery:
            self.recovery.setdefault(kind, []).append(round(took, 3))
        self.latency += [round(verdict.latency[int(q * (len(verdict.latency) - 1))], 4) for q in (0.5, 0.99, 1.0)]
        self.examples += verdict.examples()

    @property
    def missed(self) -> list[str]:
        """Hard cases that were not reached as often as a run of this size has to."""
        size, minutes = self.counts["attempted"], self.seconds / 60
        wanted = needed(self.kinds, size, minutes)
        found = Counter({**self.reach, **{f"fault: {kind}": self.faults[kind] for kind in self.kinds}})
        few = [f"{name} ({found[name]} of {least})" for name, least in wanted.items() if found[name] < least]
        left_out = sorted(PLACES.keys() - self.places) if size >= ALL_PLACES_EVENTS else []
        return [*few, *(f"failpoint {place}" for place in left_out)]

    @property
    def exit_code(self) -> int:
        """0 good, 1 a violation, 2 void."""
        if any(self.violations.values()):
            return 1
        return 2 if self.missed else 0


@dataclass(frozen=True, slots=True)
class Round:
    """What a round came to: the verdict, the failpoints that were reached, the kinds of faults that could be dealt."""

    verdict: Verdict
    places: set[str]
    kinds: set[str]


def needed(kinds: Collection[str], events: int, minutes: float) -> dict[str, int]:
    """Hard case to how often it has to be reached; and each kind of fault that can be dealt, once its turn has come."""
    wanted = {
        name: max(1, round(events / 1000 * per_1000 + minutes * per_minute))
        for name, (causes, per_1000, per_minute) in MUST_REACH.items()
        if not causes or any(cause in kinds for cause in causes)
    }
    return wanted | ({f"fault: {kind}": 1 for kind in kinds} if minutes > ALL_FAULTS_MINUTES else {})


async def play(
    seed: int,
    size: Size,
    folder: Path,
    only: Collection[str] = (),
    *,
    topology: Topology = "alone",
    live: Live | None = None,
) -> Round:
    """One round. `only`: the kinds of faults to deal."""
    async with open_stage(folder, seed, size, topology) as stage:
        nemesis = Nemesis(stage, seed, only)
        harm = asyncio.create_task(nemesis.run(), name="nemesis")
        try:
            await _published(stage, nemesis, harm, live)
        finally:
            nemesis.stop()
            await harm
        final = await finish(stage, DRAIN_SECONDS)
    verdict = check(
        stage.history(), stage.effects(), nemesis.faults, final, WANTED, bound=BOUND_SECONDS, fresh=FRESH_SECONDS
    )
    verdict.reach["answers_lost"] = 0 if stage.network is None else stage.network.lost
    return Round(verdict, stage.places(), nemesis.kinds)


async def _published(stage: Stage, nemesis: Nemesis, harm: asyncio.Task[None], live: Live | None) -> None:
    began = time.monotonic()
    while not stage.is_published:
        if harm.done():
            harm.result()
        if time.monotonic() - began > PUBLISH_SECONDS:
            raise RuntimeError(
                f"the publishers did not come to an end within {PUBLISH_SECONDS:g} s; see {stage.folder}"
            )
        if live is not None:
            live.update(_progress(stage, nemesis, time.monotonic() - began))
        await asyncio.sleep(0.25)


def _progress(stage: Stage, nemesis: Nemesis, seconds: float) -> str:
    effects = stage.folder / "effects"
    size = effects.stat().st_size if effects.exists() else 0
    last = nemesis.faults[-1].kind if nemesis.faults else "none yet"
    return f"{seconds:5.0f} s   about {size // 60:,} effects   {len(nemesis.faults)} faults, the last: {last}"


async def run(
    total: Total,
    *,
    events: int,
    minutes: float,
    only: Collection[str],
    topology: Topology,
    keep: Path | None,
    console: Console,
) -> None:
    """Rounds until so many events were sent, or the time is over."""
    began = time.monotonic()
    while total.counts["attempted"] < events and time.monotonic() - began < minutes * 60:
        seed = total.seed + total.rounds
        folder = Path(tempfile.mkdtemp(prefix="faults-")) if keep is None else keep / str(seed)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        start = time.monotonic()
        with Live("starting", console=console, transient=True, refresh_per_second=4) as live:
            round_ = await play(seed, total.size, folder, only, topology=topology, live=live)
        total.add(round_, time.monotonic() - start)
        verdict = round_.verdict
        console.print(
            f"seed {seed}: {verdict.counts['accepted']:,} accepted, {verdict.counts['faults']} faults, "
            f"{sum(verdict.violations.values())} violations, {time.monotonic() - start:.0f} s"
        )
        for line in verdict.examples():
            console.print(f"  {line}")
        if verdict.is_good and keep is None:
            shutil.rmtree(folder)
        else:
            console.print(f"  its histories are in {folder}")


def table(total: Total) -> Table:
    """What is printed at the end."""
    shown = Table("what", "how many")
    for name, count in [*total.counts.items(), *total.reach.items()]:
        shown.add_row(name.replace("_", " "), f"{count:,}")
    for name, count in total.violations.items():
        shown.add_row(f"[bold]{name}[/]", f"[{'red' if count else 'green'}]{count}[/]")
    return shown


def recoveries(total: Total) -> Table:
    """Recovery times by kind of fault."""
    shown = Table("fault", "times", "p50 s", "p99 s", "max s")
    for kind, count in sorted(total.faults.items()):
        took = sorted(total.recovery.get(kind, []))
        shown.add_row(
            kind, str(count), *(f"{took[int(q * (len(took) - 1))]:.2f}" if took else "" for q in (0.5, 0.99, 1))
        )
    return shown


def as_json(total: Total) -> dict[str, Any]:
    """The result for `report` and other programs."""
    return {
        **{field.name: getattr(total, field.name) for field in fields(total)},
        "size": asdict(total.size),
        "places": sorted(total.places),
        "kinds": sorted(total.kinds),
        "missed": total.missed,
        "lease": LEASE,
        "sweep_every": SWEEP_EVERY,
        "bound": BOUND_SECONDS,
    }


def commit() -> str:
    """What is being tested, as git names it; empty outside a repository."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main() -> int:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=ROUND_EVENTS, help="events, over all rounds")
    parser.add_argument("--round", type=int, default=ROUND_EVENTS, help="events in a round")
    parser.add_argument("--rate", type=float, default=RATE, help="events per second")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--minutes", type=float, default=60.0, help="no new round after this")
    parser.add_argument("--faults", default="", help="only these kinds, separated by commas; `cut power` only so")
    parser.add_argument("--topology", choices=get_args(Topology), default="alone", help="what Redis is")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--keep", type=Path, help="keep every round's histories here")
    given = parser.parse_args()
    console = Console()
    size = Size(events=min(given.round, given.events), rate=given.rate)
    total = Total(given.seed, size, datetime.now(UTC).isoformat(timespec="seconds"), commit())
    only = [kind for kind in given.faults.split(",") if kind]
    try:
        asyncio.run(
            run(
                total,
                events=given.events,
                minutes=given.minutes,
                only=only,
                topology=given.topology,
                keep=given.keep,
                console=console,
            )
        )
    except Exception:  # noqa: BLE001  it must not pass for a violation
        traceback.print_exc()
        return 3
    console.print(table(total), recoveries(total))
    for name in total.missed:
        console.print(f"[red]void: too seldom: {name.replace('_', ' ')}[/]")
    console.print(f"failpoints reached: {len(total.places)} of {len(PLACES)}")
    if given.json is not None:
        given.json.write_text(json.dumps(as_json(total), indent=1))
    return total.exit_code


if __name__ == "__main__":
    sys.exit(main())
