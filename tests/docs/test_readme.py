"""What the README tells a newcomer to do works as it is written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SECRETS = dict.fromkeys(re.findall(r"\$\{(\w+)\}", README), "xoxb-not-a-secret")


def _blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def test_the_first_example_prints_the_machine_s_name(tmp_path: Path) -> None:
    """The Python block at the top, on memory:// and wrapped into a coroutine."""
    (block,) = _blocks("python")
    imports, _, body = block.partition("\n\n")
    body = re.sub(r'open\("redis://[^"]*"\)', 'open("memory://")', body)
    program = f"import asyncio\n{imports}\nasync def main():\n{textwrap.indent(body, '    ')}\nasyncio.run(main())\n"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout == "my-vm\n", done.stderr


@pytest.mark.parametrize(
    "command", [line for line in "\n".join(_blocks("")).splitlines() if re.match(r"eventbus (publish|topics)", line)]
)
def test_a_command_of_the_five_minutes_succeeds(command: str, tmp_path: Path) -> None:
    """One-shot commands, run in an empty folder on the embedded default."""
    words = shlex.split(command, comments=True)

    done = subprocess.run(
        [sys.executable, "-m", "service", *words[1:]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_the_settings_it_shows_are_right(tmp_path: Path) -> None:
    """`eventbus config check` finds no fault in them."""
    (block,) = _blocks("yaml")
    path = tmp_path / "my.yaml"
    path.write_text(block)

    done = subprocess.run(
        [sys.executable, "-m", "service", "config", "check", str(path)],
        cwd=tmp_path,
        env={**os.environ, **SECRETS, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_every_make_target_it_names_exists() -> None:
    """`make demo`, `make test` and the others."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets
