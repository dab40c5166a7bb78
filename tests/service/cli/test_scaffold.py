"""`eventbus integrations new`: what it makes works at once, and it never overwrites anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.shell import REFUSED, USAGE
from tests.service.cli.terminal import eventbus

ROOT = Path(__file__).parents[3]


def python(*arguments: str | Path, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    """A tool as its user runs it; our packages are found as if they were installed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)])), "MYPYPATH": str(ROOT)}
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One adapter of each kind, and one whose names are as long as can be."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    for options in (
        ["desk", "--package"],
        ["calls_us", "--package", "--inbound"],
        ["alone"],
        ["within", "--inbound", "--path", str(folder / "shop")],
        ["l" * 40, "--package", "--inbound"],
    ):
        where = [] if "--path" in options else ["--path", str(folder)]
        done = eventbus("integrations", "new", *options, *where)
        assert done.exit_code == 0, done.output
    return folder


@pytest.mark.parametrize("target", ["alone", "shop/within"])
def test_the_tests_of_a_new_adapter_pass(made: Path, target: str) -> None:
    """Of a package docs/first-adapter.md runs them, with tests/docs; with webhooks it is the example itself."""
    done = python("pytest", "-p", "no:cacheprovider", target, cwd=made)
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout


def test_a_new_adapter_is_clean_for_ruff_and_as_it_would_format_it(made: Path) -> None:
    assert (done := python("ruff", "check", "--no-cache", ".", cwd=made)).returncode == 0, done.stdout
    same_length = eventbus("integrations", "new", "acme_support", "--package", "--path", str(made / "formatted"))
    assert same_length.exit_code == 0
    done = python("ruff", "format", "--diff", "--no-cache", "formatted", cwd=made)
    assert done.returncode == 0, done.stdout


def test_a_new_adapter_is_clean_for_mypy_at_its_strictest(made: Path) -> None:
    packages = ["desk", "calls_us", "l" * 40]
    roots = os.pathsep.join(str(made / name) for name in packages)
    names = [word for name in [*packages, "alone", "shop.within"] for word in ("-p", name)]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(made / "cache"), *names],
        cwd=made,
        env={**os.environ, "MYPYPATH": os.pathsep.join([roots, str(made), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_it_says_what_to_do_next_and_machines_read_the_same(tmp_path: Path) -> None:
    said = eventbus("integrations", "new", "desk", "--package", "--path", str(tmp_path / "a b"))
    assert f"pytest '{tmp_path}/a b/desk'" in said.output
    told = json.loads(eventbus("integrations", "new", "desk", "--path", str(tmp_path), "--json").stdout)
    assert (told["name"], told["class"], told["path"]) == ("desk", "desk:Desk", str(tmp_path / "desk"))
    assert sorted(told["files"]) == sorted(
        str(path.relative_to(tmp_path / "desk")) for path in (tmp_path / "desk").rglob("*") if path.is_file()
    )
    assert f"pytest {tmp_path}/desk" in told["next"]


def test_a_folder_for_a_project_comes_with_the_lines_that_make_it_known(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    said = eventbus("integrations", "new", "desk", "--path", str(tmp_path / "shop"))
    assert '[project.entry-points."eventbus.integrations"]\n  desk = "shop.desk:Desk"' in said.output


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "desk").mkdir()
    assert eventbus("integrations", "new", "desk", "--path", str(tmp_path)).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = eventbus("integrations", "new", "desk", "--package", "--path", str(tmp_path))
    assert again.exit_code == REFUSED
    assert "nothing is overwritten" in again.output
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_file_in_its_place_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "desk").write_text("mine")
    done = eventbus("integrations", "new", "desk", "--path", str(tmp_path))
    assert (done.exit_code, "File exists" in done.output) == (1, True)
    assert (tmp_path / "desk").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../desk", "is not lower-case letters"),
        ("my desk; rm -rf /", "is not lower-case letters"),
        ("class", "is a word of Python"),
        ("slack", "is the name of an adapter that is installed"),
        ("json", "is what Python imports from"),
        ("eventbus", "is what Python imports from"),
        ("client", "something else in every adapter"),
    ],
)
def test_a_name_that_can_not_be_makes_nothing(tmp_path: Path, name: str, reason: str) -> None:
    done = eventbus("integrations", "new", name, "--path", str(tmp_path))
    assert (done.exit_code, reason in done.output) == (USAGE, True), done.output
    assert list(tmp_path.iterdir()) == []
