"""The contract suite is tried itself: an honest adapter keeps every rule, and each mutant is caught by its own.

They run in a pytest of their own, as they would at an author's: see `notes`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from integrations.testing.contract import AdapterContract
from integrations.testing.rules import RULES, rule_of
from tests.integrations.testing.notes import mutants

ROOT = Path(__file__).parents[3]
MUTANTS = [cls for cls in vars(mutants).values() if isinstance(cls, type) and getattr(cls, "breaks", None)]
HONEST = ("TestHonest", "TestHonestSearchable")


class Run:
    """What came out: a card for each contract class, by its name, and (class, test) of each test that failed."""

    def __init__(self, report: Path, xml: Path, output: str) -> None:
        cards = json.loads(report.read_text())["adapters"]
        self.cards: dict[str, dict[str, Any]] = {card["contract"]: card for card in cards}
        cases = ElementTree.parse(xml).iter("testcase")
        lost = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
        self.failed = {
            (case.attrib["classname"].rpartition(".")[2], case.attrib["name"].split("[")[0]) for case in lost
        }
        self.output = output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Run:
    """All of them, once."""
    folder = tmp_path_factory.mktemp("run")
    report, xml = folder / "report.json", folder / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", mutants.__file__]
    command += [f"--integration-report={report}", f"--junitxml={xml}"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert report.is_file(), done.stdout + done.stderr
    return Run(report, xml, done.stdout)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_adapter_keeps_every_rule(run: Run, name: str) -> None:
    assert not [test for contract, test in run.failed if contract == name], run.output
    assert run.cards[name]["failed"] == 0
    assert run.cards[name]["tier"] == ("complete" if name == "TestHonest" else None)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda cls: str(cls.__name__).removeprefix("Test"))
def test_a_mutant_is_caught_by_the_rule_that_it_breaks(run: Run, mutant: Any) -> None:
    if mutant.__name__ in HONEST:
        return
    (row,) = [row for row in run.cards[mutant.__name__]["rules"] if row["rule"] == mutant.breaks]
    assert row["verdict"] == "failed", f"{mutant.adapter.__doc__ or mutant.adapter.__name__}: {row}"


def test_every_rule_has_a_test_and_every_test_a_mutant_that_it_catches(run: Run) -> None:
    tests = {name for name in dir(AdapterContract) if name.startswith("test_")}
    rules = {rule.number for name in tests if (rule := rule_of(AdapterContract, name))}
    assert rules == set(RULES)
    assert [name for name in tests if rule_of(AdapterContract, name) is None] == [], "each test belongs to a rule"
    assert sorted(tests - {test for _, test in run.failed}) == [], "these tests caught no mutant"


def test_the_tier_and_what_keeps_an_adapter_from_it_are_told(run: Run) -> None:
    assert "notes (TestHonest): complete: " in run.output
    assert "notes (TestSilent): no tier, only a part of the rules was run" in run.output
    assert "rule 1, a missing setting is named: failed: test_a_missing_setting" in run.output
