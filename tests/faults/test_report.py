"""The reliability report: what stands in the page about the other frameworks."""

from __future__ import annotations

from typing import Any

from tests.faults.report import FAIL_OVER, FAULTS, peer_rows, render

RUN: dict[str, Any] = {
    "commit": "abc",
    "began": "2026-01-01",
    "seed": 7,
    "rounds": 1,
    "seconds": 60.0,
    "lease": 2,
    "sweep_every": 0.3,
    "bound": 10,
    "size": {"publishers": 3, "workers": 3, "keys": 9},
    "counts": {"attempted": 10},
    "violations": {"lost": 0},
    "reach": {},
    "faults": {},
    "recovery": {},
}


def framework(name: str, settled: float | None = 2.0, **numbers: Any) -> dict[str, Any]:
    """One framework's part of a result."""
    zero = ("lost", "out_of_order", "done_again", "of_these_published_again", "published_again", "phantom")
    counted = {
        **dict.fromkeys(zero, 0),
        "accepted": 1_000,
        "latency": {"p50": 0.0015, "p99": 2.04},
        "faults": {"kill redis": 3},
        "recovery": {"kill redis": [3.0, 0.5, 1.0]},
        **numbers,
    }
    said = {"title": name.title(), "never_promised": f"{name} order", "unknown": f"{name} again"}
    return {"name": name, **said, "settled": settled, "started": 5, "numbers": counted}


def peers(*frameworks: dict[str, Any]) -> dict[str, Any]:
    """A result of `tests.faults.peers`."""
    size = {"events": 1_000, "rate": 100.0, "publishers": 2, "workers": 3, "keys": 50, "faults": 35}
    head = {"seed": 7, "began": "2026-01-01", "commit": "abc", "size": size, "presumed_dead": 5, "bound": 60.0}
    return {**head, "frameworks": list(frameworks)}


def test_each_framework_has_a_column() -> None:
    rows = {row[0]: row[1:] for row in peer_rows(peers(framework("ours"), framework("theirs", lost=12)))}
    assert rows[""] == ("Ours", "Theirs")
    assert rows["accepted"] == ("1,000", "1,000")
    assert rows["**lost**"] == ("0", "12")
    assert rows["delay p50 / p99 s"][0] == "0.002 / 2.0"


def test_recovery_is_the_median_and_the_longest_of_each_fault() -> None:
    never = framework("theirs", faults={"kill worker": 2}, recovery={})
    rows = {row[0]: row[1:] for row in peer_rows(peers(framework("ours"), never))}
    assert rows["recovery p50 / max s: kill redis"] == ("1.0 / 3.0 (3 times)", "(0 times)")
    assert rows["recovery p50 / max s: kill worker"] == ("(0 times)", "(2 times)")


def test_what_never_settled_is_said_to_exceed_the_bound() -> None:
    rows = {row[0]: row[1:] for row in peer_rows(peers(framework("ours"), framework("theirs", settled=None)))}
    assert rows["seconds until all was done"] == ("2", "not within 60")


def test_the_page_states_what_a_framework_never_promised_beside_its_numbers() -> None:
    page = render({FAULTS: RUN}, [], peers(framework("ours"), framework("theirs", lost=12)))
    section = page[page.index("## The same workload on other frameworks") :]
    assert "| **lost** | 0 | 12 |" in section
    assert "| Theirs | theirs order | theirs again |" in section
    assert "same 5 s" in section
    assert "without effect 60 s after" in section


def test_a_page_without_a_comparison_has_no_section_for_it() -> None:
    assert "other frameworks" not in render({FAULTS: RUN}, [])


def test_each_run_has_a_section_of_its_own() -> None:
    page = render({FAULTS: RUN, FAIL_OVER: {**RUN, "seed": 8}}, [])
    assert page.index(f"## {FAULTS}") < page.index(f"## {FAIL_OVER}")
    assert "| first seed | 8 |" in page[page.index(f"## {FAIL_OVER}") :]
