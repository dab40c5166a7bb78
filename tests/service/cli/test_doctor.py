"""`eventbus doctor` as people and cron meet it: what it prints, on a terminal and elsewhere, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.cli import main
from tests.deploy.servers import running
from tests.servers import BINARIES

CANARY = "hunter2-canary"
BINARY = next(iter(BINARIES.values()))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ("--appendonly", "yes", "--maxmemory", "100mb", "--requirepass", CANARY)
    with running(BINARY, tmp_path_factory.mktemp("good"), *options) as port:
        yield f"redis://:{CANARY}@127.0.0.1:{port}/0"


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with running(BINARY, tmp_path_factory.mktemp("bad"), *options) as port:
        yield f"redis://127.0.0.1:{port}/0"


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def on_a_terminal(columns: int, *arguments: str) -> str:
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "service", "doctor", *arguments]
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    with suppress(OSError):  # the terminal's word for "its last user is gone"
        while part := os.read(master, 65_536):
            shown += part
    os.close(master)
    child.wait(timeout=60)
    return shown.decode()


def test_a_server_that_only_warns_is_exit_code_0(good: str) -> None:
    done = doctor("--url", good)
    assert done.exit_code == 0, done.output
    assert "append-only file on, synced every second (everysec)" in done.stdout
    assert done.stdout.rstrip().endswith("not known.")
    assert ", 0 bad, " in done.stdout


def test_an_unsafe_server_is_exit_code_1_with_every_reason_and_the_commands_that_mend_it(bad: str) -> None:
    done = doctor("--url", bad)
    assert done.exit_code == 1
    assert "fix: CONFIG SET maxmemory-policy noeviction" in done.stdout
    assert "fix: CONFIG SET appendonly yes" in done.stdout
    assert ", 2 bad, " in done.stdout


def test_a_redis_that_is_away_ends_as_with_every_command() -> None:
    done = doctor("--url", "redis://127.0.0.1:1/0")
    assert done.exit_code == 5
    assert "can't reach Redis at redis://127.0.0.1:1/0" in done.stderr


def test_a_wrong_password_is_a_matter_of_configuration(good: str) -> None:
    done = doctor("--url", good.replace(CANARY, "wrong"))
    assert done.exit_code == 2
    assert "refuses our credentials" in done.stderr
    assert "wrong" not in done.output


def test_the_table_of_faults_has_a_column_for_each_level_that_is_offered(good: str) -> None:
    lines = doctor("--url", good).stdout.splitlines()
    (heading,) = [line for line in lines if line.startswith("WHAT HAPPENS")]
    assert heading.split()[2:] in (["MEMORY", "SPOOL"], ["MEMORY", "AOF", "SPOOL"])
    assert any(line.startswith("redis-server: kill -9  ") for line in lines)
    assert "Not offered here: replica: no replica." in lines


def test_as_json_it_holds_findings_facts_and_the_table_and_no_secret(good: str) -> None:
    done = doctor("--url", good, "--json")
    document = json.loads(done.stdout)
    assert sorted(document) == ["bus", "durability", "findings", "ok", "server"]
    assert document["ok"] is True
    assert document["server"]["aof"] is True
    assert {"level", "about", "what", "why", "fix"} == set(document["findings"][0])
    assert {fault["fault"] for fault in document["durability"]["faults"]} >= {"its disk lost"}
    assert CANARY not in done.stdout


def test_as_json_an_unsafe_server_is_not_ok_and_exit_code_1(bad: str) -> None:
    done = doctor("--url", bad, "--json")
    assert (done.exit_code, json.loads(done.stdout)["ok"]) == (1, False)


def test_the_file_says_where_the_bus_is(good: str, tmp_path: Path) -> None:
    file = tmp_path / "eventbus.yaml"
    file.write_text(f"events: {{url: '{good}'}}\n")
    done = doctor("--config", str(file))
    assert done.exit_code == 0, done.output
    assert CANARY not in done.output


def test_memory_needs_no_redis() -> None:
    done = doctor("--url", "memory://")
    assert done.exit_code == 0
    assert "it ends with the process" in done.stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_nothing_is_wider_than_it_and_each_level_has_its_sign(bad: str, columns: int) -> None:
    shown = on_a_terminal(columns, "--url", bad)
    plain = "".join(part.partition("m")[2] if n else part for n, part in enumerate(shown.split("\x1b[")))
    assert max(map(len, plain.splitlines())) <= columns
    assert all(sign in plain for sign in ("✓ ok", "! warn", "✗ bad"))
