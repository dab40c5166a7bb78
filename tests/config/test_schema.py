"""The JSON schema of a settings file passes what the program takes, and marks what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "config/schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("integrations/*/README.md")]


def _shown() -> Iterator[tuple[str, Any]]:
    """Each settings file in `config/`, and each that a page shows whole."""
    for path in sorted((ROOT / "config").glob("*.yaml")):
        yield path.name, yaml.safe_load(path.read_text())
    for page in PAGES:
        if page.name == "first-adapter.md":
            continue  # its adapter is not one of ours
        for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)):
            if re.match(r"(?:#.*\n)*(?:" + "|".join(SCHEMA["properties"]) + r"):", block):
                yield f"{page.relative_to(ROOT)} {number}", yaml.safe_load(block)


SHOWN = dict(_shown())


def faults(settings: Any) -> list[str]:
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in VALIDATOR.iter_errors(settings)]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert len(SHOWN) > 10


KEYWORDS = {*Draft202012Validator.VALIDATORS, "$schema", "$defs", "title", "description", "default", "examples"}
KEYWORDS |= {"then", "else", "writeOnly"}


def words(node: Any) -> Iterator[str]:
    """The keywords of a schema and of those in it."""
    if isinstance(node, list):
        for one in node:
            yield from words(one)
    elif isinstance(node, dict):
        yield from node
        for key, value in node.items():
            if key in ("properties", "$defs", "patternProperties"):
                yield from words([*value.values()])
            elif key not in ("default", "examples", "enum", "const", "required"):
                yield from words(value)


def test_it_says_nothing_that_no_validator_reads() -> None:
    """A bound that stands outside of a `BeforeValidator` comes out as pydantic's own word for it, such as `le`."""
    assert set(words(SCHEMA)) - KEYWORDS == set()


@pytest.mark.parametrize("name", SHOWN)
def test_settings_that_we_show_pass(name: str) -> None:
    assert faults(SHOWN[name]) == []


RIGHT = {
    "an empty section": "worker:",
    "a variable for a number": "{gateway: {port: '${PORT:-8080}'}}",
    "a variable for a short secret": "{integrations: {slack: {bot_token: '${T}'}}}",
    "an account of another name": "{integrations: {ops: {adapter: log, level: warning}}}",
    "an adapter's name for an account of another": "{integrations: {slack: {adapter: log}}}",
    "a disabled one without its secrets": "{integrations: {pagerduty: {enabled: false}}}",
    "a number for a text where the adapter takes it": "{integrations: {github: {app_id: 123, installation_id: 4}}}",
    "other spellings of an adapter's keys": "{integrations: {pagerduty: {integration_key: '${KEY}'}}}",
}
WRONG = {
    "a key that is not known": "{worker: {concurency: 4}}",
    "a section that is not known": "{workers: {}}",
    "a list that is too short": "{integrations: {webhook: {endpoints: []}}}",
    "a text for a number": "{worker: {concurrency: many}}",
    "a number that is too large": "{worker: {concurrency: 1001}}",
    "a number that is too small": "{worker: {lease_seconds: 0.01}}",
    "a port that is none": "{gateway: {port: 65536}}",
    "a port below zero": "{worker: {port: -1}}",
    "a word that is none of them": "{log: {level: loud}}",
    "an adapter's key that is not known": "{integrations: {log: {levle: info}}}",
    "a key of another adapter": "{integrations: {ops: {adapter: log, bot_token: x}}}",
    "an adapter that is not installed": "{integrations: {ops: {adapter: jira}}}",
    "no adapter": "{integrations: {ops: {level: info}}}",
    "a route without where to": "{routes: {a: {topics: ['vm.*']}}}",
    "an endpoint that is no section": "{integrations: {webhook: {endpoints: [4]}}}",
}


@pytest.mark.parametrize("settings", RIGHT.values(), ids=RIGHT)
def test_it_lets_through(settings: str) -> None:
    assert faults(yaml.safe_load(settings)) == []


@pytest.mark.parametrize("settings", WRONG.values(), ids=WRONG)
def test_it_marks(settings: str) -> None:
    assert faults(yaml.safe_load(settings)) != []


def test_every_setting_is_described() -> None:
    """What an editor shows beside the key."""
    bare = [
        f"{name}.{key}"
        for name, part in SCHEMA["$defs"].items()
        if name[0].islower() and "." not in name
        for key, setting in part["properties"].items()
        if not setting.get("description")
    ]
    assert bare == []
