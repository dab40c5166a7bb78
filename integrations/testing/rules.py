"""The numbered rules of the contract, and the tier that an adapter earns by keeping them. Pure: neither pytest nor I/O.

Each test of `contract` names its rule with `@rule(7)`. The plugin gathers how the tests ended and asks `tier`. A tier
is computed, never declared: nobody says of his own adapter that it is safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class Tier(IntEnum):
    """What an adapter is good for. Each tier includes the ones before it."""

    NONE = 0
    WORKS = 1
    SAFE = 2
    COMPLETE = 3


MEANING = {
    Tier.NONE: "it does not do its work yet",
    Tier.WORKS: "it can be set up, brings events out, says how it is, and goes away cleanly",
    Tier.SAFE: "nothing is doubled, lost, leaked or hammered, whatever the service does",
    Tier.COMPLETE: "it also shows what it would do, keeps to the service's limits, and is documented",
}


class Verdict(StrEnum):
    """How an adapter stands to one rule."""

    PASSED = "passed"
    NOT_APPLICABLE = "not applicable"  # the rule has nothing to say about such an adapter
    NOT_SHOWN = "not shown"  # it would apply, and there is nothing to try it with
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Rule:
    """`needs_service`: it is about what a service does to us; an adapter without one has nothing to show."""

    number: int
    text: str
    tier: Tier
    needs_service: bool = True


RULES: Mapping[int, Rule] = {
    one.number: one
    for one in (
        Rule(1, "a missing setting is named", Tier.WORKS, needs_service=False),
        Rule(2, "health is green while the service is up, and only then", Tier.WORKS),
        Rule(3, "each topic it takes is rendered; one event makes one effect", Tier.WORKS, needs_service=False),
        Rule(4, "one key makes one effect, however often it comes", Tier.SAFE, needs_service=False),
        Rule(5, "what is cut off is done once, or parked for a person", Tier.SAFE),
        Rule(6, "Retry-After is kept to the second", Tier.SAFE),
        Rule(7, "500 is tried again, 400 becomes a dead letter, 401 is told once", Tier.SAFE),
        Rule(8, "a slow service ends at the timeout", Tier.SAFE),
        Rule(9, "a dry run sends nothing, and shows what would be sent", Tier.COMPLETE, needs_service=False),
        Rule(10, "no secret is ever shown", Tier.SAFE, needs_service=False),
        Rule(11, "only the hosts of its settings are contacted", Tier.SAFE),
        Rule(12, "of what comes in, only what is genuine, fresh and new becomes an event", Tier.SAFE),
        Rule(13, "close leaves no task and no socket, however often", Tier.WORKS, needs_service=False),
        Rule(14, "the README names every setting", Tier.COMPLETE, needs_service=False),
        Rule(15, "200 events keep to the declared budgets", Tier.COMPLETE),
        Rule(16, "a text of any length is brought out or refused before it leaves", Tier.SAFE, needs_service=False),
    )
}
"""By number."""

_ATTRIBUTE = "contract_rule"


def rule(number: int) -> Callable[[F], F]:
    """Mark a test as belonging to a rule."""
    known = RULES[number]

    def mark(test: F) -> F:
        setattr(test, _ATTRIBUTE, known)
        return test

    return mark


def rule_of(owner: type, test: str) -> Rule | None:
    """The rule of a test method; one that overrides another keeps that one's."""
    for cls in owner.__mro__:
        found = getattr(vars(cls).get(test), _ATTRIBUTE, None)
        if isinstance(found, Rule):
            return found
    return None


def sum_up(ends: Iterable[Verdict]) -> Verdict:
    """What the tests of one rule come to together. A single failure fails it, and one gap leaves it not shown."""
    found = set(ends)
    worst_first = (Verdict.FAILED, Verdict.NOT_SHOWN, Verdict.PASSED, Verdict.NOT_APPLICABLE)
    return next((one for one in worst_first if one in found), Verdict.NOT_RUN)


def tier(verdicts: Mapping[int, Verdict]) -> Tier:
    """The highest tier whose rules are kept, with those of every tier below it. What was not run is not kept."""
    earned = Tier.NONE
    for level in (Tier.WORKS, Tier.SAFE, Tier.COMPLETE):
        ends = (verdicts.get(one.number, Verdict.NOT_RUN) for one in RULES.values() if one.tier is level)
        if not all(end in (Verdict.PASSED, Verdict.NOT_APPLICABLE) for end in ends):
            break
        earned = level
    return earned


@dataclass(slots=True)
class Card:
    """How one contract class of one adapter came out: `ends` holds, by rule, how each of its tests ended, and why.

    claimed  the tier that the manifest says; empty: none
    """

    adapter: str
    contract: str
    ends: dict[int, list[tuple[Verdict, str]]] = field(default_factory=dict)
    claimed: str = ""

    @property
    def claims_too_much(self) -> bool:
        """Whether the manifest says a higher tier than was earned."""
        return bool(self.claimed) and self.tier is not None and self.tier < Tier[self.claimed.upper()]

    @property
    def verdicts(self) -> dict[int, Verdict]:
        """Of every rule."""
        return {number: sum_up(end for end, _ in self.ends.get(number, [])) for number in RULES}

    @property
    def tier(self) -> Tier | None:
        """None when only a part of the rules was run: then nobody can tell."""
        return None if Verdict.NOT_RUN in self.verdicts.values() else tier(self.verdicts)

    def why(self, number: int) -> str:
        """What stands behind a rule's verdict, in the words of the first test that ended so."""
        verdict = self.verdicts[number]
        return next((said for end, said in self.ends.get(number, []) if end is verdict), "")

    def count(self, verdict: Verdict) -> int:
        """The rules that ended so."""
        return list(self.verdicts.values()).count(verdict)

    def document(self) -> dict[str, Any]:
        """All of it, for JSON."""
        rows = [
            {"rule": number, "text": RULES[number].text, "verdict": verdict.value, "why": self.why(number)}
            for number, verdict in self.verdicts.items()
        ]
        level = None if self.tier is None else self.tier.name.lower()
        counts = {verdict.value.replace(" ", "_"): self.count(verdict) for verdict in Verdict}
        return {"adapter": self.adapter, "contract": self.contract, "tier": level, **counts, "rules": rows}
