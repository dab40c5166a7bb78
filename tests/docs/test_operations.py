"""What docs/operations.md tells somebody at night to look for and to type is there and works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from eventbus.spooling import Spools
from registry.metrics import Metrics
from service.cli import shell
from service.cli.app import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
DOCUMENTS = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")]
BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _commands(text: str) -> list[str]:
    lines = "\n".join(BLOCK.findall(text)).splitlines()
    return [line for line in lines if re.match(r"eventbus [a-z]", line)]


def _rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    table = PAGE.split(f"\n{heading}\n", 1)[1].split("\n| ", 1)[1].split("\n\n", 1)[0]
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in table.splitlines()[2:]]


@pytest.mark.parametrize("line", sorted({line for path in DOCUMENTS for line in _commands(path.read_text())}))
def test_a_command_that_is_shown_is_understood(line: str) -> None:
    """Its options exist and their values have the right form. Nothing is run."""
    command: click.Command = main
    _, *words = shlex.split(line, comments=True)
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None
        command = found
        context = click.Context(command, parent=context)

    command.parse_args(context, words)


@pytest.mark.parametrize("line", _commands(PAGE.split("\n## By symptom", 1)[0]))
def test_the_first_look_needs_nothing_but_a_redis(line: str, tmp_path: Path) -> None:
    """On an empty embedded bus: all is well, and there is no dead letter, which is exit code 3."""
    done = subprocess.run(
        [sys.executable, "-m", "service", *shlex.split(line, comments=True)[1:]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == (shell.NOTHING if re.search("dead list|eventbus logs", line) else 0), done.stderr


def test_every_metric_is_documented_and_no_other(tmp_path: Path) -> None:
    metrics, spools = Metrics(), Spools(tmp_path)
    metrics.watch_spool(spools)
    told = {family.name + ("_total" if family.type == "counter" else "") for family in metrics.registry.collect()}
    spools.close()

    documented = {row[0].strip("`") for row in _rows("## Metrics and alarms")}

    assert documented == told


def test_an_alarm_asks_for_metrics_that_there_are() -> None:
    asked = set(re.findall(r"\b(?:event_bus|integration)_[a-z_]+\b", PAGE))
    asked -= {name for name in asked if name.endswith("_")}  # a text such as `integration_*`
    documented = {row[0].strip("`") for row in _rows("## Metrics and alarms")}

    assert asked <= documented


def test_the_lines_to_look_for_are_those_that_programs_write() -> None:
    sources = "\n".join(
        path.read_text() for part in ("eventbus", "registry", "service") for path in ROOT.glob(f"{part}/**/*.py")
    )
    symptoms = "\n".join(row[0] for row in _rows("## By symptom"))
    quoted = [text.removesuffix(" ...") for text in re.findall(r"`([A-Za-z][^`]* [^`]*)`", symptoms)]

    assert len(quoted) >= 8
    assert [text for text in quoted if text not in sources] == []


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    codes = {shell.FAILED, shell.USAGE, shell.NOTHING, shell.REFUSED, shell.UNREACHABLE}
    documented = {row[0] for row in _rows("## Exit codes")}

    assert {"0", *map(str, codes)} <= documented
