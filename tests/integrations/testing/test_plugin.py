"""`pytest --integration NAME`, as an author uses it: a pytest of its own, in a directory that knows nothing of us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.integrations.testing.conftest import install

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 180.0

FEW = "missing_setting or readme or whose_body_was_changed"
"""Tests that take no time."""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The directory that it is called in."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    return elsewhere


def run(elsewhere: Path, site: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Everything of ours is found by PYTHONPATH, as an installation would be."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (site, ROOT, ROOT / "examples" / "custom_adapter")))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, arguments)]
    return subprocess.run(
        command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def test_the_contract_of_an_adapter_of_ours_runs_from_anywhere(elsewhere: Path, site: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run(elsewhere, site, "--integration", "slack", "-k", FEW, f"--integration-report={report}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "slack (TestSlack): no tier, only a part of the rules was run (3 passed, 13 not run)" in done.stdout
    (card,) = json.loads(report.read_text())["adapters"]
    verdicts = {row["rule"]: row["verdict"] for row in card["rules"]}
    assert (card["adapter"], card["contract"], card["passed"]) == ("slack", "TestSlack", 3)
    assert {number for number, verdict in verdicts.items() if verdict == "passed"} == {1, 12, 14}


def test_the_contract_of_an_installed_third_party_runs_the_same_way(
    elsewhere: Path, site: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    install(theirs, "acme-tickets", "[eventbus.integrations]\nacme_tickets = acme_tickets:AcmeTickets\n")
    done = run(elsewhere, Path(f"{site}{os.pathsep}{theirs}"), "--integration=acme_tickets", "-k", FEW)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "acme_tickets (TestAcmeTickets): no tier" in done.stdout


def test_tests_that_are_named_beside_it_run_too(elsewhere: Path, site: Path) -> None:
    (elsewhere / "test_mine.py").write_text("def test_readme_of_mine(): pass\n")
    alone = run(elsewhere, site, "--integration", "log", "-k", FEW)
    both = run(elsewhere, site, "--integration", "log", "-k", FEW, "test_mine.py")
    assert passed(both) == passed(alone) + 1, both.stdout


def passed(done: subprocess.CompletedProcess[str]) -> int:
    """The number in pytest's last line."""
    return int(done.stdout.splitlines()[-1].split(" passed")[0].split()[-1])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("slac", "no adapter 'slac' is installed, did you mean slack?; installed: "),
        ("broken", "the adapter broken (broken 1.0) can't be used: ModuleNotFoundError: No module named 'broken'"),
        ("single", "has no contract: write a module `contract` of a package (it is a single module now)"),
    ],
)
def test_what_can_not_be_run_is_told_with_what_to_do(
    elsewhere: Path, site: Path, tmp_path: Path, name: str, said: str
) -> None:
    theirs = tmp_path / "theirs"
    install(theirs, "broken", "[eventbus.integrations]\nbroken = broken:Broken\n")
    install(theirs, "single", "[eventbus.integrations]\nsingle = single:Less\n")
    (theirs / "single.py").write_text(ADAPTER)
    done = run(elsewhere, Path(f"{site}{os.pathsep}{theirs}"), "--integration", name)
    assert done.returncode == 4, "pytest's exit code for a wrong call"
    assert said in done.stderr, done.stdout + done.stderr


ADAPTER = """
from pydantic import BaseModel
from integrations.base import DeliveryResult, Health, Integration, Manifest

class Config(BaseModel):
    pass

class Less(Integration[Config]):
    manifest = Manifest(name="single", title="It", config=Config, handles=("vm.*",))

    async def handle_event(self, event, delivery):
        return DeliveryResult.delivered()

    async def health(self):
        return Health("healthy")
"""


def test_a_project_keeps_its_own_option_of_that_name(elsewhere: Path, site: Path) -> None:
    (elsewhere / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--integration', action='store_true')\n"
    )
    (elsewhere / "test_it.py").write_text("def test_it(pytestconfig): assert pytestconfig.getoption('--integration')\n")
    done = run(elsewhere, site, "test_it.py", "--integration")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_loads_nothing_and_says_nothing_where_no_contract_is_run(elsewhere: Path, site: Path) -> None:
    (elsewhere / "test_it.py").write_text(
        textwrap.dedent("""
            import sys

            def test_it(pytestconfig):
                assert pytestconfig.pluginmanager.hasplugin("eventbus")
                ours = {name for name in sys.modules if name.split(".")[0] in ("eventbus", "integrations", "registry")}
                assert ours == {"integrations", "integrations.testing", "integrations.testing.plugin"}
                assert not {"pydantic", "httpx", "redis", "starlette"} & set(sys.modules)
        """)
    )
    done = run(elsewhere, site, "test_it.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "integrations" not in done.stdout


def test_it_can_be_switched_off(elsewhere: Path, site: Path) -> None:
    (elsewhere / "test_it.py").write_text(
        "def test_it(pytestconfig): assert not pytestconfig.pluginmanager.hasplugin('eventbus')\n"
    )
    done = run(elsewhere, site, "-p", "no:eventbus", "test_it.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_manifest_that_claims_more_than_its_contract_earns_fails_the_run(elsewhere: Path, site: Path) -> None:
    (elsewhere / "README.md").write_text((ROOT / "integrations/log/README.md").read_text())
    (elsewhere / "test_claim.py").write_text(
        textwrap.dedent("""
        from dataclasses import replace

        from integrations.log.contract import TestLog as Honest


        class Boastful(Honest.adapter):
            manifest = replace(Honest.adapter.manifest, tier="complete")


        class TestBoastful(Honest):
            adapter = Boastful


        del Honest
        """)
    )
    done = run(elsewhere, site, "-o", "asyncio_mode=auto", "test_claim.py")
    assert "log (TestBoastful): safe" in done.stdout, done.stdout + done.stderr
    assert "its manifest says tier='complete'" in done.stdout
    assert " failed" not in done.stdout
    assert done.returncode == 1
