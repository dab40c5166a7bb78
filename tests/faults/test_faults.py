"""A short run of the harness: real processes, a real Redis, every kind of fault dealt from a seeded deck."""

from __future__ import annotations

import os
from pathlib import Path

from tests.faults.run import play
from tests.faults.stage import Size

# Who is frozen between the ledger's word and its own call acts late, and nobody can keep it from that: `make faults`
# shows how often it happens, a test must not depend on it.
WITHOUT_FREEZES = (
    *("kill worker", "terminate worker", "kill publisher", "kill redis", "drop clients", "forget scripts"),
    *("squeeze memory", "reset network", "lose answer of publish", "lose answer of take", "lose answer of settle"),
)
SIZE = Size(events=6_000, rate=250.0)


async def test_a_short_run_under_faults_has_no_violation(tmp_path: Path) -> None:
    seed = int(os.environ.get("FAULTS_SEED", 20_261))
    print(f"FAULTS_SEED={seed}")  # noqa: T201  shown when the test fails
    verdict, _ = await play(seed, SIZE, tmp_path, WITHOUT_FREEZES)
    assert verdict.is_good, verdict.examples()
    assert verdict.counts["accepted"] > SIZE.events // 2
    assert verdict.counts["faults"] > 20, "too few faults to prove anything"
