"""`eventbus integrations list`, `show` and `stand-in`: what there is, what it says, and its service to try."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, Field, SecretStr

from service import manifests
from service.cli.shell import FAILED, NOTHING
from tests.service.cli.terminal import eventbus, on_a_terminal

ROOT = Path(__file__).parents[3]


FILE = """
integrations:
  log: {topics: [vm.*]}
  counts:
    adapter: prometheus
    defaults: false
    measures: [{name: paid_total, type: counter, topics: [shop.order.paid]}]
  off: {adapter: slack, enabled: false}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "x.yaml").write_text(FILE)
    return str(tmp_path / "x.yaml")


# -- list ------------------------------------------------------------------------------------------------------------


def test_the_list_has_the_topics_that_each_takes_with_its_settings(file: str) -> None:
    rows = {one["name"]: one for one in json.loads(eventbus("integrations", "list", "--json", "--config", file).stdout)}
    assert {name: rows[name]["takes"] for name in ("log", "counts")} == {"log": "vm.*", "counts": "shop.order.paid"}
    assert (rows["off"]["state"], "vm.*" in rows["off"]["takes"].split()) == ("off", True)
    lines = eventbus("integrations", "list", "--config", file).stdout.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith(("counts ", "log "))] == ["shop.order.paid", "vm.*"]


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_names_are_whole_and_what_it_takes_is_on_a_line_of_its_own(file: str, columns: int) -> None:
    lines = on_a_terminal(columns, "integrations", "list", "--config", file).splitlines()
    assert max(map(len, lines)) <= columns
    at = next(n for n, line in enumerate(lines) if line.startswith("counts  "))
    assert lines[at].split()[:4] == ["counts", "prometheus", "on", "complete"]
    assert lines[at + 1] == "  takes shop.order.paid"
    assert "  takes vm.*; makes message comment issue pull_request" in lines


# -- show ------------------------------------------------------------------------------------------------------------


def test_show_says_all_that_a_manifest_says() -> None:
    lines = eventbus("integrations", "show", "pagerduty").stdout.splitlines()
    said = {line[:14].strip(): line[14:] for line in lines[: lines.index("")]}
    assert said["pagerduty"].startswith("PagerDuty, eventbus-integrations ")
    assert "delivery.dead_lettered" in said["takes"].split()
    assert said["publishes"] == "pagerduty.>"
    assert said["webhooks at"] == "/api/v1/webhooks/pagerduty"
    assert (said["makes"], said["tier"].partition(":")[0]) == ("incident", "complete")
    assert said["effects"].startswith("keyed: the service drops a repeat by its key")
    assert said["budget"] == "calls: 110 a minute for each place, 20 at once"
    assert "artifact incident" in lines
    (key,) = [line for line in lines if line.startswith("routing_key ")]
    assert key.split()[1:3] == ["text", "required"]
    assert key.endswith("(secret)")


def test_show_tells_machines_the_same() -> None:
    told = json.loads(eventbus("integrations", "show", "github", "--json").stdout)
    assert told["effects"] == {"class": "searchable", "meaning": manifests.EFFECTS["searchable"]}
    assert {"name": "calls/hour", "count": 1600, "per": 3600.0, "burst": 200, "each": "account"} in told["budgets"]
    assert {"name": "issues:write", "why": "comments on issues and opens them", "needed": True} in told["scopes"]
    settings = {one["name"]: one for one in told["settings"]}
    assert (settings["token"]["secret"], settings["base_url"]["secret"]) == (True, False)
    assert settings["base_url"]["default"] == "https://api.github.com"
    assert {"owner", "repo", "title"} <= {field["name"] for field in told["artifacts"]["issue"]}


def test_show_of_an_adapter_that_is_not_there_says_which_are() -> None:
    done = eventbus("integrations", "show", "slak")
    assert done.exit_code == NOTHING
    assert "no adapter 'slak' is installed, did you mean slack?; known: " in done.output


def test_show_of_a_configured_integration_has_the_topics_that_it_takes(file: str) -> None:
    told = json.loads(eventbus("integrations", "show", "counts", "--json", "--config", file).stdout)
    assert (told["name"], told["takes"]) == ("prometheus", ["shop.order.paid"])
    lines = eventbus("integrations", "show", "counts", "--config", file).stdout.splitlines()
    assert "takes         shop.order.paid" in lines


def test_show_needs_no_settings_that_are_right(file: str) -> None:
    Path(file).write_text("integrations: {slack: {}}\n")
    done = eventbus("integrations", "show", "slack", "--config", file)
    assert (done.exit_code, "bot_token" in done.stdout) == (0, True)
    assert done.stderr == f"{file} can't be used and counts for nothing here; see: eventbus config check {file}\n"


class Inner(BaseModel):
    at: int = Field(default=5, description="When")


class Outer(BaseModel):
    key: SecretStr | None = Field(default=None, description="Opens it")
    level: Literal["low", "high"] = Field(description="How loud")
    parts: tuple[Inner, ...] = ()
    table: dict[str, Annotated[Inner, "such"]] = Field(default_factory=dict)
    anything: Any = None


def test_every_key_of_a_model_is_listed_however_deep_in_plain_words() -> None:
    rows = {one.name: (one.type, one.default, one.secret, one.meaning) for one in manifests.settings(Outer)}
    assert rows == {
        "key": ("text", "none", True, "Opens it"),
        "level": ("low | high", None, False, "How loud"),
        "parts": ("list of section", "[]", False, ""),
        "table": ("table of section", "{}", False, ""),
        "anything": ("anything", "none", False, ""),
        "parts[].at": ("whole number", "5", False, "When"),
        "table.<name>.at": ("whole number", "5", False, "When"),
    }


# -- stand-in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pagerduty", "slack"])
def test_a_stand_in_prints_settings_that_lead_to_it_and_ends_when_it_is_told_to(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "integrations", "stand-in", name]
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=pipe, stderr=pipe, text=True
    )
    assert child.stderr is not None
    assert child.stderr.readline().startswith(f"the stand-in of {name} listens on http://127.0.0.1:")
    child.send_signal(signal.SIGINT)
    printed, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert yaml.safe_load(printed)["integrations"][name]["base_url"].startswith("http://127.0.0.1:")


def test_an_adapter_without_a_service_has_no_stand_in() -> None:
    done = eventbus("integrations", "stand-in", "log")
    assert (done.exit_code, "log has no stand-in" in done.output) == (FAILED, True)


# -- the schema ------------------------------------------------------------------------------------------------------


def test_the_schema_of_the_settings_has_every_adapter_that_is_installed() -> None:
    schema = json.loads(eventbus("config", "schema").stdout)
    assert {"github", "log", "pagerduty", "slack", "webhook"} <= schema["$defs"].keys()
