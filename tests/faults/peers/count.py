"""From the histories of one framework's run to its numbers. Pure; what they mean is the checker's: see `checker.check`.

There is no log to compare with, so the order asked for is the publisher's: it sends one event of a key after another,
each when the one before was accepted. Nobody's dead letters are looked at: no handler here refuses an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.checker import Effect, Fault, Final, Group, Verdict, check
from tests.faults.peers import work

WANTED = {work.GROUP: Group((work.TOPIC,), ordered=True)}


@dataclass(frozen=True, slots=True)
class Numbers:
    """One column of the table. `faults` and `recovery` (seconds) go by kind.

    published_again   events that were sent more than once because nobody knew the outcome
    done_again        events with more than one effect; `of_these_published_again` is the part sent more than once
    phantom           effects of events that nobody sent
    """

    attempted: int
    accepted: int
    published_again: int
    lost: int
    done_again: int
    of_these_published_again: int
    out_of_order: int
    phantom: int
    executions: int
    latency: dict[str, float]
    faults: dict[str, int]
    recovery: dict[str, list[float]]
    examples: list[str]


def count(history: Sequence[Mapping[str, Any]], effects: Sequence[Effect], faults: Sequence[Fault]) -> Numbers:
    """The numbers of one run."""
    verdict = check(history, effects, faults, Final(), WANTED)
    sends = Counter(event[0] for line in history if line.get("phase") == "invoke" for event in line["events"])
    done = Counter(one.event for one in effects)
    again = [event for event, times in done.items() if times > 1]
    recovery: dict[str, list[float]] = {}
    for kind, took in verdict.recovery:
        recovery.setdefault(kind, []).append(round(took, 3))
    return Numbers(
        attempted=verdict.counts["attempted"],
        accepted=verdict.counts["accepted"],
        published_again=sum(times > 1 for times in sends.values()),
        lost=verdict.counts["lost"],
        done_again=len(again),
        of_these_published_again=sum(sends[event] > 1 for event in again),
        out_of_order=len(verdict.found["order"]),
        phantom=len(verdict.found["phantom"]),
        executions=verdict.counts["executions"],
        latency={f"p{q * 100:g}": _quantile(verdict.latency, q) for q in (0.5, 0.99, 1.0)},
        faults=dict(Counter(verdict.faults)),
        recovery=recovery,
        examples=_examples(verdict),
    )


def is_done(history: Sequence[Mapping[str, Any]], effects: Sequence[Effect]) -> bool:
    """Whether everything that was accepted has its effect."""
    accepted = {receipt[0] for line in history if line.get("phase") == "ok" for receipt in line["receipts"]}
    return accepted <= {one.event for one in effects}


def _quantile(values: Sequence[float], q: float) -> float:
    return round(values[int(q * (len(values) - 1))], 3) if values else 0.0


def _examples(verdict: Verdict) -> list[str]:
    return [f"{kind}: {text}" for kind in ("lost", "order") for text in verdict.found[kind][:3]]
