"""The examples, run as a user would: from another directory, as processes of their own; the adapter is installed."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from eventbus import EventBus
from eventbus.topics import TaskFailed
from service.process import Child

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PACKAGE = EXAMPLES / "custom_adapter"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))
PATIENCE_SECONDS = 30.0


def run(
    *arguments: str | Path, cwd: Path, site: Path | None = None, within: float = 60
) -> subprocess.CompletedProcess[str]:
    """A Python program, as from a shell elsewhere."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=within, check=False
    )


# -- the programs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_an_example_prints_what_its_docstring_and_the_readme_say(program: Path, tmp_path: Path) -> None:
    done = run(program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    promised = (ast.get_docstring(ast.parse(program.read_text())) or "").partition("Prints:\n")[2]
    assert done.stdout == textwrap.dedent(promised).strip() + "\n"
    assert f"```\n$ python examples/{program.name}\n{done.stdout}```\n" in (EXAMPLES / "README.md").read_text()
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [], "it left something behind"


def test_the_quickstart_is_short() -> None:
    assert len((EXAMPLES / "quickstart.py").read_text().splitlines()) <= 25


def test_the_readme_lists_every_example() -> None:
    listed = set(re.findall(r"^## \[(\S+)\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE))
    assert listed == {path.name for path in PROGRAMS} | {"custom_adapter/"}


# -- the adapter -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The custom adapter, built and installed by pip into a directory of its own."""
    site = tmp_path_factory.mktemp("site")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    done = run("-m", "pip", "install", *offline, "--target", site, PACKAGE, cwd=site)
    assert done.returncode == 0, done.stderr
    return site


def test_the_adapters_own_tests_pass(tmp_path: Path) -> None:
    done = run("-m", "pytest", "-p", "no:cacheprovider", PACKAGE, cwd=tmp_path, within=120)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_the_installed_adapter_is_found_by_its_entry_point(site: Path, tmp_path: Path) -> None:
    done = run("-m", "service", "integrations", "list", "--json", cwd=tmp_path, site=site)
    (row,) = [row for row in json.loads(done.stdout) if row["adapter"] == "acme_tickets"]
    assert (row["from"], row["state"]) == ("acme-tickets 1.2.0", "not configured")
    assert (row["takes"], row["makes"]) == ("task.failed", "message ticket")


def test_topics_of_an_installed_adapter_are_known_to_the_command_line(site: Path, tmp_path: Path) -> None:
    done = run("-m", "service", "topics", "ticket.closed", cwd=tmp_path, site=site)
    assert done.stdout.startswith("ticket.closed, version 1: A ticket was closed.\n")
    wrong = run("-m", "service", "publish", "ticket.closed", "{}", "--url", "memory://", cwd=tmp_path, site=site)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: refused: ticket.closed: ticket: field required")


STAND_IN = """
import asyncio, json, sys
from acme_tickets.fake import FakeTickets

async def main():
    async with FakeTickets() as tickets:
        print(json.dumps(tickets.settings()), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(json.dumps(tickets.effects()), flush=True)

asyncio.run(main())
"""
"""Says its settings, waits for a line, says what exists: the test itself need not import the package."""


async def test_a_notification_and_an_event_reach_the_service_through_the_installed_adapter(
    site: Path, tmp_path: Path
) -> None:
    path = {**os.environ, "PYTHONPATH": str(site)}
    pipe = asyncio.subprocess.PIPE
    stand_in = await asyncio.create_subprocess_exec(sys.executable, "-c", STAND_IN, stdin=pipe, stdout=pipe, env=path)
    assert stand_in.stdin is not None
    assert stand_in.stdout is not None
    address = f"embedded://{tmp_path / 'redis'}"
    settings = {
        "events": {"url": address},
        "integrations": {"acme_tickets": json.loads(await stand_in.stdout.readline())},
        "worker": {"port": 0},
        "log": {"format": "json"},
    }
    config = tmp_path / "eventbus.yaml"
    config.write_text(yaml.safe_dump(settings))
    program = ["-m", "service"]
    worker = Child(
        "worker", [sys.executable, *program, "worker", "--config", str(config)], {"PYTHONPATH": str(site)}, tmp_path
    )
    async with EventBus.open(address) as bus:
        await worker.start()
        try:
            await worker.wait_for("working", PATIENCE_SECONDS)
            send = ["integrations", "send", "acme_tickets", "Looking into it.", "--to", "T-1", "--config", str(config)]
            sent = await asyncio.to_thread(run, *program, *send, cwd=tmp_path, site=site)
            assert sent.stdout.startswith("delivered  C-1  http://127.0.0.1:"), sent.stderr
            await bus.publish(TaskFailed(task_id="task-42", name="load test", error="p99 is 2.1 s"))
            told = await worker.wait_for("delivered", PATIENCE_SECONDS)
            assert (told["integration"], told["reference"], told["outcome"]) == ("acme_tickets", "T-2", "delivered")
        finally:
            await worker.stop()
    exists, _ = await stand_in.communicate(b"\n")
    assert json.loads(exists) == ["comment on T-1: Looking into it.", "ticket T-2: load test failed"]


# -- the page about it -----------------------------------------------------------------------------------------------


PAGE = (ROOT / "docs" / "adapters.md").read_text()


@pytest.mark.parametrize("excerpt", re.findall(r"```(?:python|toml)\n(.*?)```", PAGE, re.DOTALL))
def test_every_excerpt_of_the_page_is_really_in_the_package(excerpt: str) -> None:
    sources = [path.read_text() for path in PACKAGE.rglob("*") if path.suffix in (".py", ".toml")]
    assert any(excerpt in source for source in sources), "the code has changed: change docs/adapters.md with it"


def test_the_page_names_every_file_of_the_package_and_stays_readable() -> None:
    suffixes = (".py", ".toml", ".md")
    files = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*") if path.suffix in suffixes}
    cached = {name for name in files if ".pytest_cache" in name}
    assert {name for name in files - cached if f"`{name}`" not in PAGE} == {"acme_tickets/__init__.py"}
    assert len(PAGE.splitlines()) < 200
