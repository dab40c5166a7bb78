"""docs/first-adapter.md is followed word for word: each command is typed into one shell, each edit is made.

The shell finds `eventbus`, `pip` and `pytest` in a virtual environment of its own, whose other packages are lent by the
one that the tests run in. Nothing is fetched.
"""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import sysconfig
import threading
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/first-adapter.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PATIENCE_SECONDS = 120.0
PROGRAMS = {"eventbus": ("service.cli", "main"), "pytest": ("pytest", "main"), "pip": ("pip._internal", "main")}
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""Of pip: fetch nothing, and build with what is there. In a variable, 0 is how it is told to have no isolation."""


class Shell:
    """A bash that takes a command at a time; what it and its background programs print comes together."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self._bash = subprocess.Popen(
            ["bash"], cwd=folder, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            self._lines.put(line)
        self._bash.stdout.close()

    def type(self, command: str, expected: str) -> None:
        """Run it until it has ended, unless it is put into the background, and all that is expected was printed."""
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{{ {command}\n}} < /dev/null\necho '<'ended'>'\n")
        self._bash.stdin.flush()
        said, deadline = "", time.monotonic() + PATIENCE_SECONDS
        while not ("<ended>" in said and _is_in(expected, said)):
            try:
                said += self._lines.get(timeout=0.5 if "<ended>" in said else 5)
            except queue.Empty:
                assert time.monotonic() < deadline, f"{command}\nprinted:\n{said}\nand the page says:\n{expected}"

    def end(self) -> None:
        """Close it, and what it left running."""
        assert self._bash.stdin is not None
        self._bash.stdin.write("kill $(jobs -p) 2> /dev/null; wait; exit\n")
        self._bash.stdin.close()
        self._bash.wait(timeout=60)
        self._listening.join(timeout=60)


def _is_in(expected: str, said: str) -> bool:
    """Whether the lines were printed, in any order, since a program in the background prints when it likes; `...`
    stands for anything, alone on a line for any lines."""
    return all(re.search(_pattern(line), said, re.MULTILINE) for line in expected.splitlines() if line != "...")


def _pattern(line: str) -> str:
    parts = (r"\s+".join(map(re.escape, part.split(" "))) for part in line.split("..."))
    return "^" + r"[^\n]*".join(parts) + "$"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """In an empty folder, as after `pip install eventbus-integrations`."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    site = home / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (site / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    for name, (module, call) in PROGRAMS.items():
        program = home / "bin" / name
        program.write_text(f"#!{home}/bin/python\nimport sys\nfrom {module} import {call}\nsys.exit({call}())\n")
        program.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    path = f"{home / 'bin'}:{environment['PATH']}"
    folder = tmp_path / "work"
    folder.mkdir()
    opened = Shell(folder, environment | OFFLINE | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"})
    yield opened
    opened.end()


def _edit(folder: Path, block: str) -> None:
    """Make the change that a block shows: what has a blank or `-` before it becomes what has a blank or `+`."""
    head, *lines = block.splitlines(keepends=True)
    path = folder / head.removeprefix("--- ").strip()
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has not this once:\n{old}"
    path.write_text(text.replace(old, new))


def test_whoever_follows_the_page_ends_with_an_adapter_that_works(shell: Shell, tmp_path: Path) -> None:
    for language, block in BLOCKS:
        if language == "diff":
            _edit(tmp_path / "work", block)
        if language == "console":
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, expected = part.partition("\n")
                shell.type(command, expected)


def test_the_page_shows_commands_edits_and_settings_only() -> None:
    """A block of another kind would be one that nobody tries."""
    assert {language for language, _ in BLOCKS} == {"console", "diff", "yaml"}
