"""`eventbus logs`: lines of all programs, for people, for machines, and as they come."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from eventbus import EventBus
from eventbus.journal import Said
from tests.service.cli.conftest import Desk
from tests.service.cli.terminal import NOBODY_LISTENS, Terminal, eventbus, on_a_terminal


def raw(message: str, **said: Any) -> Said:
    line = {"timestamp": datetime.now(UTC).isoformat(), "level": "info", "logger": "service.worker", **said}
    whole = {"event": message, "program": "worker", "host": "worker-2", "pid": 41, **line}
    return Said(json.dumps(whole).encode(), line["level"] not in ("debug", "info"))


def keep(desk: Desk, *lines: Said) -> None:
    async def work(bus: EventBus) -> None:
        await bus.journal.append(lines, keep=10_000)

    desk.do(work)


def messages(*arguments: str) -> list[str]:
    shown = eventbus("logs", "--json", *arguments)
    assert shown.exit_code == 0, shown.output
    return [json.loads(line)["message"] for line in shown.stdout.splitlines()]


def test_a_line_has_time_level_component_message_fields_and_where_it_comes_from(desk: Desk) -> None:
    time = "2026-01-12T03:04:05.678Z"
    keep(desk, raw("not delivered", timestamp=time, level="warning", integration="github", error="502", url=None))
    shown = eventbus("logs").stdout
    local = datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert shown == f"{local}  warning   github  not delivered  error=502  worker@worker-2:41\n"


def test_the_newest_is_the_last_and_the_limit_counts_from_it(desk: Desk) -> None:
    keep(desk, *(raw(str(number)) for number in range(1500)))
    assert messages("--limit", "3") == ["1497", "1498", "1499"]
    assert messages() == [str(number) for number in range(1400, 1500)]


def test_options_narrow_it_down(desk: Desk) -> None:
    keep(
        desk,
        raw("old", timestamp=(datetime.now(UTC) - timedelta(hours=2)).isoformat()),
        raw("delivered", integration="slack", event_id="e1"),
        raw("dead letter", level="error", group="webhook.billing", error="410 Gone"),
    )
    assert messages("--since", "1h") == ["delivered", "dead letter"]
    assert messages("--component", "webhook") == ["dead letter"]
    assert messages("--event", "e1") == ["delivered"]
    assert messages("--level", "warning") == ["dead letter"]
    assert messages("--contains", "GONE") == ["dead letter"]


def test_as_json_a_line_is_that_of_the_gateway(desk: Desk) -> None:
    keep(desk, raw("delivered", integration="slack", latency_ms=4.9))
    document = json.loads(eventbus("logs", "--json").stdout)
    assert document.pop("time").endswith("Z")
    assert document == {
        "level": "info",
        "component": "slack",
        "message": "delivered",
        "logger": "service.worker",
        "program": "worker",
        "host": "worker-2",
        "pid": 41,
        "fields": {"integration": "slack", "latency_ms": 4.9},
    }


def test_nothing_that_fits_is_exit_code_3(desk: Desk) -> None:
    shown = eventbus("logs")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (3, "", "no log line fits\n")
    keep(desk, raw("said"))
    assert eventbus("logs", "--level", "error").exit_code == 3


def test_settings_that_keep_no_lines_are_told_and_what_is_there_is_shown(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("EVENTBUS_URL")
    config = tmp_path / "eventbus.yaml"
    config.write_text(yaml.safe_dump({"events": {"url": desk.url}, "log": {"keep": 0}}))
    keep(desk, raw("from before"))
    shown = eventbus("logs", "--config", str(config))
    assert "from before" in shown.stdout
    assert shown.stderr == f"log.keep is 0 in {config}: programs with these settings keep no lines\n"
    config.write_text(yaml.safe_dump({"events": {"url": desk.url}}))
    assert eventbus("logs", "--config", str(config)).stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--level", "loud"], "'loud' is not one of"),
        (["--limit", "0"], "0 is not in the range"),
        (["--limit", "1001"], "1001 is not in the range"),
        (["--since", "yesterday"], "'yesterday' is no time"),
        (["--component", ""], "error: --component should have at least 1 character\n"),
        (["--event", "x" * 201], "error: --event should have at most 200 characters\n"),
    ],
)
def test_what_makes_no_sense_is_exit_code_2(desk: Desk, arguments: list[str], said: str) -> None:
    shown = eventbus("logs", *arguments)
    assert shown.exit_code == 2
    assert said in shown.stderr


def test_without_redis_it_is_exit_code_5() -> None:
    assert eventbus("logs", "--url", NOBODY_LISTENS).exit_code == 5


def test_no_line_can_forge_another_or_drive_the_terminal(desk: Desk) -> None:
    hostile = "ok\n2026-01-12 forged\r\x1b[2J\x9b31m\u202e\x00 {0} %s"
    keep(desk, raw(hostile, integration=hostile, program=hostile, deep={"a": [hostile]}, **{hostile: hostile}))
    for shown in (eventbus("logs").stdout, eventbus("logs", "--json").stdout):
        assert len(shown.splitlines()) == 1
        assert not [c for c in "\r\x1b\x9b\u202e\x00" if c in shown]
        assert "forged" in shown


def test_on_a_terminal_levels_have_colours_and_in_a_pipe_none(desk: Desk) -> None:
    keep(desk, raw("broken", level="error"))
    terminal = Terminal(120, "logs")
    terminal.until("broken")
    assert "\x1b[31merror" in terminal.shown
    assert terminal.end() == 0
    assert "\x1b" not in eventbus("logs").stdout
    assert "error     service.worker  broken" in on_a_terminal(120, "logs")


def test_it_follows_what_comes(desk: Desk) -> None:
    keep(desk, raw("before"), raw("other", level="debug"))
    command = [sys.executable, "-m", "service", "logs", "--follow", "--json", "--level", "info"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as child:
        try:
            assert child.stdout is not None
            assert json.loads(child.stdout.readline())["message"] == "before"
            keep(desk, raw("other", level="debug"), raw("one"), raw("two"))
            assert [json.loads(child.stdout.readline())["message"] for _ in range(2)] == ["one", "two"]
        finally:
            child.terminate()
