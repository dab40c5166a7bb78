"""Verdicts and tiers: what a rule's tests come to, and what is earned by the rules."""

from __future__ import annotations

import pytest

from integrations.testing.rules import MEANING, RULES, Card, Tier, Verdict, rule, rule_of, sum_up, tier

PASSED, FAILED = Verdict.PASSED, Verdict.FAILED
NOT_APPLICABLE, NOT_SHOWN, NOT_RUN = Verdict.NOT_APPLICABLE, Verdict.NOT_SHOWN, Verdict.NOT_RUN


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((), NOT_RUN),
        ((PASSED, PASSED), PASSED),
        ((PASSED, NOT_APPLICABLE), PASSED),
        ((NOT_APPLICABLE,), NOT_APPLICABLE),
        ((PASSED, NOT_SHOWN), NOT_SHOWN),
        ((PASSED, NOT_SHOWN, FAILED), FAILED),
    ],
)
def test_a_rule_is_as_good_as_the_worst_of_its_tests(ends: tuple[Verdict, ...], verdict: Verdict) -> None:
    assert sum_up(ends) is verdict


def all_but(level: Tier | None, verdict: Verdict) -> dict[int, Verdict]:
    """Every rule is kept, except for the last one of this tier."""
    verdicts = dict.fromkeys(RULES, PASSED)
    if level is not None:
        verdicts[max(number for number, one in RULES.items() if one.tier is level)] = verdict
    return verdicts


@pytest.mark.parametrize("verdict", [FAILED, NOT_SHOWN, NOT_RUN])
@pytest.mark.parametrize(
    ("broken", "earned"),
    [
        (None, Tier.COMPLETE),
        (Tier.COMPLETE, Tier.SAFE),
        (Tier.SAFE, Tier.WORKS),
        (Tier.WORKS, Tier.NONE),
    ],
)
def test_one_rule_that_is_not_kept_costs_its_tier_and_those_above(
    broken: Tier | None, earned: Tier, verdict: Verdict
) -> None:
    assert tier(all_but(broken, verdict)) is earned


def test_a_rule_that_does_not_apply_costs_nothing() -> None:
    assert tier(all_but(Tier.SAFE, NOT_APPLICABLE)) is Tier.COMPLETE


def test_a_part_of_the_rules_gives_no_tier() -> None:
    card = Card("notes", "TestNotes", {1: [(PASSED, "")]})
    assert card.tier is None
    assert (card.count(PASSED), card.count(NOT_RUN)) == (1, len(RULES) - 1)
    assert card.document()["tier"] is None


def test_a_card_says_why_in_the_words_of_the_test_that_decided() -> None:
    card = Card("notes", "TestNotes", {9: [(PASSED, ""), (NOT_SHOWN, "it has no preview()")]})
    assert card.why(9) == "it has no preview()"
    assert card.document()["rules"][8] == {
        "rule": 9,
        "text": "a dry run sends nothing, and shows what would be sent",
        "verdict": "not shown",
        "why": "it has no preview()",
    }


def test_every_tier_has_rules_and_a_meaning() -> None:
    assert set(MEANING) == set(Tier)
    assert {one.tier for one in RULES.values()} == {Tier.WORKS, Tier.SAFE, Tier.COMPLETE}


def test_a_test_that_overrides_another_keeps_its_rule() -> None:
    class Suite:
        @rule(7)
        def test_it(self) -> None: ...

    class Own(Suite):
        def test_it(self) -> None: ...

        def test_of_its_own(self) -> None: ...

    assert rule_of(Own, "test_it") is RULES[7]
    assert rule_of(Own, "test_of_its_own") is None
