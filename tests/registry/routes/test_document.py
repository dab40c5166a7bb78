"""docs/routes.md says what the code says: its settings load, its examples come to what stands beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from registry.discovery import discover
from registry.noise.group import Reason
from registry.routes import evaluate, filters, syntax
from registry.routes.check import check
from registry.routes.filters import FILTERS, TESTS
from registry.routes.model import Grouping, Inhibition, Route
from registry.routes.template import Condition, Template
from registry.routes.windows import TimeInterval
from tests.registry.routes.conftest import routing

TEXT = (Path(__file__).parents[3] / "docs/routes.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
EVENT = json.loads(re.search(r"With the event `(\{.*\})`", TEXT)[1])  # type: ignore[index]
NAMES = {"topic": "t", "event": {}, "data": {**EVENT, "labels": {"team": "data"}}, "runbook": "", "severity": "info"}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under this head, without their backquotes."""
    table = TEXT.split(heading + "\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    cells = [re.split(r"(?<!\\) ?\| ?", line.strip().strip("|").strip()) for line in table]
    return [[cell.strip().strip("`").replace("\\|", "|") for cell in row] for row in cells]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_settings_it_shows_are_right(block: str) -> None:
    shown = yaml.safe_load(block)
    of = routing(shown["routes"], shown.get("runbooks"), shown.get("time_intervals"), shown.get("inhibitions"))
    installed = {name: entry.integration.manifest for name, entry in discover().adapters.items() if entry.integration}
    findings = check(of, installed, disabled={"pagerduty"} - installed.keys())
    assert [finding for finding in findings if not finding.is_warning] == []


@pytest.mark.parametrize(
    ("model", "heading"),
    [
        (Route, "| key | default | meaning |"),
        (Grouping, "| key of `group` | default | meaning |"),
        (Inhibition, "| key of `inhibitions.<name>` | default | meaning |"),
    ],
)
def test_every_key_is_documented_with_its_meaning_and_default(model: type[BaseModel], heading: str) -> None:
    shown = {row[0].removeprefix("routes.<name>."): (row[1], row[2]) for row in rows(heading)}
    assert list(shown) == list(model.model_fields)
    words = {PydanticUndefined: "required", None: "none", (): "[]"}
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        said = json.dumps(default) if isinstance(default, dict | bool | int) else words[default]
        assert shown[name][0] == said
        assert shown[name][1].startswith(str(field.description))


def test_every_reason_to_tell_of_a_group_is_named() -> None:
    assert [row[1] for row in rows("| when | reason in the trail |")] == [one for one in get_args(Reason) if one]


@pytest.mark.parametrize("row", rows("| filter | example | comes to |"), ids=lambda row: row[0])
def test_a_filter_does_what_its_example_says(row: list[str]) -> None:
    name, example, made = row
    assert f"| {name}" in example
    assert Template.of(f"{{{{ {example} }}}}").render(NAMES).text == made


def test_every_filter_test_and_key_of_an_interval_is_named() -> None:
    assert [row[0] for row in rows("| filter | example | comes to |")] == sorted(FILTERS)
    assert sorted(set(re.findall(r"`is (\w+)", TEXT.partition("Tests: ")[2].partition("\n\n")[0]))) == sorted(TESTS)
    assert [row[0] for row in rows("| key | example | meaning |")] == list(TimeInterval.model_fields)


@pytest.mark.parametrize("row", rows("| condition | holds | because |"), ids=lambda row: row[0])
def test_a_condition_holds_or_not_as_it_says(row: list[str]) -> None:
    condition, holds, *because = row
    assert (Condition.of(condition).why_not(NAMES) or "") == "".join(because)
    assert holds == ("no" if "".join(because) else "yes")


def test_the_limits_it_names_are_those_that_hold() -> None:
    for limit in (syntax.MAX_SOURCE, filters.MAX_TEXT, evaluate.MAX_STEPS):
        assert f"{limit:,}" in TEXT
    assert f"nested {syntax.MAX_DEPTH} deep" in TEXT
    assert f"{syntax.MAX_LOOPS} loops" in TEXT
    assert evaluate.CPU_SECONDS == 0.25
    assert evaluate.LARGEST == 2**63
