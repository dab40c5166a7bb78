"""docs/capabilities.md: what it says is done can be switched on, and is proven."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

from integrations.alertmanager import Alertmanager
from integrations.base import Integration
from integrations.email import Email
from integrations.github import GitHub
from integrations.pagerduty import PagerDuty
from integrations.slack import Slack
from registry.routes.model import Route
from registry.sections import IntegrationSettings
from service.cli.app import main

PAGE = (Path(__file__).parents[2] / "docs/capabilities.md").read_text()
DONE = PAGE.split("\n## Not done\n", 1)[0]
ROWS = [
    line.strip("| ").split(" | ")
    for line in DONE.splitlines()
    if line.startswith("| ") and not line.startswith("| what it does |")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_a_capability_says_how_it_is_switched_on_and_names_its_test(row: list[str]) -> None:
    _, switch, proof = row

    assert switch
    assert re.search(r"`(?:tests|integrations)/[\w/]+\.py", proof)


def test_the_commands_it_names_exist() -> None:
    named = set(re.findall(r"`eventbus ([a-z][a-z -]*)", PAGE))

    assert len(named) >= 10
    assert [words for words in named if not _is_command(words.split(" --")[0].split())] == []


@pytest.mark.parametrize(("section", "model"), [("routes", Route), ("integrations", IntegrationSettings)])
def test_the_keys_of_routes_and_integrations_that_it_names_exist(section: str, model: type[BaseModel]) -> None:
    named = set(re.findall(rf"`{section}\.<name>\.(\w+)`", PAGE))

    assert named
    assert named <= set(model.model_fields)


@pytest.mark.parametrize(
    ("heading", "adapter"),
    [
        ("GitHub", GitHub),
        ("Slack", Slack),
        ("PagerDuty", PagerDuty),
        ("E-mail", Email),
        ("Alertmanager", Alertmanager),
    ],
)
def test_the_settings_of_an_adapter_that_it_names_exist(heading: str, adapter: type[Integration[Any]]) -> None:
    """A name in code that stands alone is a setting of the adapter, an artifact that it makes, or a key of a route."""
    section = DONE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [row for row in ROWS if f"| {row[0]} |" in section]
    named = {name for _, switch, _ in rows for name in re.findall(r"`([a-z]+(?:_[a-z]+)*)`", switch)}
    known = {*adapter.manifest.config.model_fields, *adapter.manifest.artifacts, *Route.model_fields}

    assert named
    assert named <= known


def _is_command(words: list[str]) -> bool:
    command: click.Command | None = main
    for word in words:
        if not isinstance(command, click.Group):
            return True  # the rest are arguments
        command = command.get_command(click.Context(command), word)
    return command is not None
