"""Short runs of the harness: real processes, a real Redis, every kind of fault dealt from a seeded deck."""

from __future__ import annotations

import os
from pathlib import Path

from tests.faults.checker import FAILS_OVER, KILLS_SPOOLERS
from tests.faults.run import play
from tests.faults.stage import Size

# Who is frozen between the ledger's word and its own call acts late, and nobody can keep it from that: `make faults`
# shows how often it happens, a test must not depend on it.
WITHOUT_FREEZES = (
    *("kill worker", "terminate worker", "kill publisher", "kill gateway", "jump clocks", "kill redis", "drop clients"),
    *(KILLS_SPOOLERS, "forget scripts", "squeeze memory", "reset network", "delay network", "drip network"),
    *("lose answer of publish", "lose answer of take", "lose answer of settle"),
)
SIZE = Size(events=4_000, rate=300.0)
SMALL = Size(events=1_200, rate=120.0)


def seed() -> int:
    """Of this run; shown when the test fails."""
    chosen = int(os.environ.get("FAULTS_SEED", 20_261))
    print(f"FAULTS_SEED={chosen}")  # noqa: T201
    return chosen


async def test_a_short_run_under_faults_has_no_violation(tmp_path: Path) -> None:
    verdict = (await play(seed(), SIZE, tmp_path, WITHOUT_FREEZES)).verdict
    assert verdict.is_good, verdict.examples()
    assert verdict.counts["accepted"] > SIZE.events // 2
    assert verdict.counts["faults"] > 15, "too few faults to prove anything"
    assert verdict.reach["spool_left_by_a_killed_program"] > 0


async def test_what_a_replica_confirmed_survives_masters_that_are_killed_under_load(tmp_path: Path) -> None:
    kinds = (FAILS_OVER, "kill worker", "kill publisher")
    verdict = (await play(seed(), SMALL, tmp_path, kinds, topology="sentinel")).verdict
    assert verdict.is_good, verdict.examples()
    assert verdict.counts["accepted"] > SMALL.events // 2
    assert verdict.faults.count(FAILS_OVER) > 0, "no master was killed"
